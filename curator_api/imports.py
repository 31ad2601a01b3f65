"""Rows from elsewhere into a draft, over HTTP: in any known format, as JSON lines, a JSON array or Parquet.

A request is held in memory and therefore bounded; a client with more sends it in several, which may be repeated: a row that is
there already is only counted.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from fastapi import APIRouter, Query, Request

from tunemill.curator_api import draft_store, parquet_rows
from tunemill.curator_api.access import Person
from tunemill.curator_api.column_names import Names, names_of
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.errors import InvalidRow, TooLarge, Unprocessable
from tunemill.curator_api.file_payloads import ImportOut, LineError
from tunemill.curator_api.gather import policy
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.private import let_in, refuse_private
from tunemill.curator_api.problems import responses
from tunemill.curator_api.row_formats import KNOWN_MEMBERS, Read, read_line, read_value
from tunemill.curator_api.rows import Row

router = APIRouter(prefix="/v1/datasets/{name}", tags=["draft rows"])

ERRORS_SHOWN = 100
UNREAD_SHOWN = 50

OnError = Literal["skip", "stop"]
Label = Annotated[str, Query(max_length=200), Storable]

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/jsonl": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


class _Tally:
    """What became of the lines of a request so far."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Row]] = []
        self.errors: list[LineError] = []
        self.formats: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()

    def add(self, line: int, read: Read) -> None:
        self.rows.append((line, read.row))
        self.formats[read.format] += 1
        self.unread.update(read.unread)


class _Set(NamedTuple):
    """What is said of the rows of a request."""

    source: str
    licence: str | None
    held_out: bool


@router.post("/import", responses=responses(400, 404, 422), openapi_extra=_BODY)
async def import_rows(
    name: ThisDataset,
    request: Request,
    here: Here,
    _person: Person,
    *,
    source: Annotated[Label, Query(description="the file or set that the rows come from")] = "",
    licence: Annotated[Label | None, Query(description="of that set")] = None,
    held_out: Annotated[
        bool, Query(description="the set has these rows for testing or validation: so have versions")
    ] = False,
    columns: Annotated[
        Label | None,
        Query(alias="map", description="what members are called in the set: question=prompt,answer=completion"),
    ] = None,
    on_error: Annotated[OnError, Query(description="whether a line that cannot be imported ends the import")] = "skip",
    first_line: Annotated[int, Query(ge=1, le=2 * 10**9, description="the number of the first line sent")] = 1,
) -> ImportOut:
    """Add rows: OpenAI's chat and preference formats, ShareGPT, Alpaca, prompt and completion, prompt with chosen and rejected.

    Each line tells its format by its members, which public sets, and `map`, may call otherwise. What the body is, its first bytes
    tell: Parquet, a JSON array, else one JSON object a line. Lines that cannot be imported are named; the others are. 422
    `invalid-row` where none could be.
    """
    body = await request.body()
    names = names_of(columns, KNOWN_MEMBERS) if columns else None
    of, stops = _Set(source, licence, held_out), on_error == "stop"
    work = partial(_import, here, name, body, of=of, names=names, stops=stops, first_line=first_line)
    return await here.body_work.run(len(body), work)


def _import(
    curator: Curator, name: str, body: bytes, *, of: _Set, names: Names | None, stops: bool, first_line: int
) -> ImportOut:
    registry, project = curator.registry, curator.settings.project
    draft_store.find(registry, project, name)
    most = curator.settings.max_inflated_bytes
    lines = _lines(body, first_line, most_bytes=most)
    tally = _read(lines, names, let_in(policy(curator)), stops=stops)
    rows, errors = tally.rows, tally.errors
    if not rows and not errors:
        raise Unprocessable("the body has no rows: send one JSON object a line, a JSON array of objects, or Parquet")
    if not rows:
        raise _no_row(errors)
    fresh = draft_store.add_imported(registry, project, name, rows, **of._asdict())
    return ImportOut(
        lines=len(rows) + len(errors),
        imported=fresh,
        known=len(rows) - fresh,
        failed=len(errors),
        errors=errors[:ERRORS_SHOWN],
        formats=dict(tally.formats),
        unread=dict(tally.unread.most_common(UNREAD_SHOWN)),
        stopped=stops and bool(errors),
    )


def _read(lines: Iterable[tuple[int, Any]], names: Names | None, allowed: frozenset[str], *, stops: bool) -> _Tally:
    tally = _Tally()
    for number, line in lines:
        try:
            read = read_line(line, names) if isinstance(line, bytes) else read_value(line, names)
            _refuse_private(read.row, allowed)
            tally.add(number, read)
        except InvalidRow as error:
            tally.errors.append(LineError(line=number, reason=error.detail))
            if stops:
                break
    return tally


def _lines(body: bytes, first_line: int, *, most_bytes: int) -> Iterator[tuple[int, Any]]:
    """Each line as bytes, or each item or row as a value, with its number."""
    if body.startswith(parquet_rows.MAGIC):
        try:
            yield from enumerate(parquet_rows.values(io.BytesIO(body), most_bytes=most_bytes), start=first_line)
        except parquet_rows.NotParquet as error:
            raise Unprocessable(str(error)) from error
        except parquet_rows.MoreThanAllowed as error:
            reason = f"the Parquet file holds more than {most_bytes} bytes: send its rows in several requests"
            raise TooLarge(reason, limit=most_bytes) from error
    elif body.lstrip()[:1] == b"[":
        yield from ((number, bytes(item)) for number, item in enumerate(_items(body), start=first_line))
    else:
        lines = enumerate(body.split(b"\n"), start=first_line)
        yield from ((number, line) for number, line in lines if line.strip())


def _items(body: bytes) -> Sequence[msgspec.Raw]:
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unprocessable("it begins like a JSON array and is none: it may be cut off") from error


def _refuse_private(row: Row, allowed: frozenset[str]) -> None:
    refuse_private(row.messages, row.tools, known=allowed)
    for place, message in enumerate(row.rejected):
        refuse_private([message], known=allowed, place=f"rejected[{place}]")


def _no_row(errors: Sequence[LineError]) -> InvalidRow:
    first = errors[0]
    detail = f"none of {len(errors)} lines could be imported; line {first.line}: {first.reason}"
    return InvalidRow(detail, lines=len(errors), errors=[error.model_dump() for error in errors[:ERRORS_SHOWN]])
