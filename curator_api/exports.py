"""A version's rows over HTTP, in a format that other programs read; and what they would lose in it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.errors import VersionRedacted
from tunemill.curator_api.file_payloads import FormatName, LossesOut
from tunemill.curator_api.problems import responses
from tunemill.curator_api.publish_files import folder
from tunemill.curator_api.published import read_manifest, read_rows
from tunemill.curator_api.row_formats import FORMATS
from tunemill.curator_api.rows import Row
from tunemill.curator_api.version_store import Version
from tunemill.curator_api.versions import JSONL, VersionNumber, find

router = APIRouter(prefix="/v1/datasets/{name}", tags=["versions"])

_CHUNK_BYTES = 256 * 2**10  # handed on at once: a line alone would cost more to hand on than to write

Split = Literal["train", "test"] | None
Format = Annotated[FormatName, Query(alias="format")]


@router.get(
    "/versions/{version}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {JSONL: {"schema": {"type": "string"}}}}, **responses(404, 409, 422)},
)
def export_version(
    name: ThisDataset,
    version: VersionNumber,
    here: Here,
    _person: Person,
    *,
    row_format: Format = "openai",
    split: Split = None,
    skip: Annotated[int, Query(ge=0, description="lines that are there already: an export goes on after them")] = 0,
    digest: Annotated[str | None, Query(max_length=64, description="of the version that was begun with")] = None,
) -> StreamingResponse:
    """The rows, one JSON object a line, in order; of one split or of all. Rows that the format cannot hold are left out.

    The same version gives the same bytes. 409 `version-redacted` where the digest is not the version's any more.
    """
    found = find(here, name, version)
    if digest is not None and digest != found.digest:
        raise VersionRedacted(
            f"{name}@v{found.version} is not what it was: rows were erased from it. Begin the export again"
        )
    lines = islice(_lines(_rows(here, name, found, split), row_format), skip, None)
    file = f"{name}-v{found.version}{f'-{split}' if split else ''}.jsonl"
    disposition = {"Content-Disposition": f'attachment; filename="{file}"'}
    return StreamingResponse(_chunks(lines), media_type=JSONL, headers=disposition)


@router.get("/versions/{version}/export/losses", responses=responses(404, 422))
def export_losses(
    name: ThisDataset, version: VersionNumber, here: Here, _person: Person, *, row_format: Format, split: Split = None
) -> LossesOut:
    """How many rows lose what in a format."""
    made = FORMATS[row_format]
    rows = written = 0
    losses: Counter[str] = Counter()
    for row in _rows(here, name, find(here, name, version), split):
        value, lost = made.to_value(row)
        rows += 1
        written += value is not None
        losses.update(lost)
    return LossesOut(rows=rows, written=written, losses=dict(losses))


def _rows(curator: Curator, name: str, version: Version, split: Split) -> Iterator[Row]:
    """What the rows say, in order. What cannot be read is an error before the first of them."""
    place = folder(curator.settings.project, name)
    read_manifest(curator.files, place, version.digest)
    stored = read_rows(curator.files, place, version.digest, split=split)
    return (
        Row(
            row_key=row.row_id,
            log_id=None,
            conversation="",
            messages=row.messages,
            tools=row.tools,
            rejected=row.rejected,
        )
        for row in stored
    )


def _lines(rows: Iterable[Row], row_format: str) -> Iterator[bytes]:
    made = FORMATS[row_format]
    values = (made.to_value(row).value for row in rows)
    return (msgspec.json.encode(value) + b"\n" for value in values if value is not None)


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    some: list[bytes] = []
    size = 0
    for line in lines:
        some.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield b"".join(some)
            some, size = [], 0
    if some:
        yield b"".join(some)
