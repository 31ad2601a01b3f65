"""A version's rows, over HTTP, in a format that other programs read."""

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.openai_chat import to_line
from tunemill.curator_api.problems import responses
from tunemill.curator_api.publish import folder
from tunemill.curator_api.published import StoredRow, read_manifest, read_rows
from tunemill.curator_api.versions import JSONL, VersionNumber, find

router = APIRouter(prefix="/v1/datasets/{name}", tags=["versions"])


@router.get(
    "/versions/{version}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {JSONL: {"schema": {"type": "string"}}}}, **responses(404, 422)},
)
def export_version(
    name: ThisDataset,
    version: VersionNumber,
    here: Here,
    _person: Person,
    split: Literal["train", "test"] | None = None,
) -> StreamingResponse:
    """The rows in OpenAI's chat format for fine-tuning, one JSON object a line, in order; of one split or of all."""
    found = find(here, name, version)
    place = folder(here.settings.project, name)
    read_manifest(here.files, place, found.digest)  # what cannot be read is an error before the first byte
    lines = _lines(read_rows(here.files, place, found.digest, split=split))
    file = f"{name}-v{version}{f'-{split}' if split else ''}.jsonl"
    return StreamingResponse(lines, media_type=JSONL, headers={"Content-Disposition": f'attachment; filename="{file}"'})


def _lines(rows: Iterator[StoredRow]) -> Iterator[bytes]:
    return (to_line(row.messages, row.tools) for row in rows)
