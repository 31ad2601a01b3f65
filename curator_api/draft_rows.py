"""A draft's rows over HTTP: see them, change one, take one out, bring rows in from a file."""

from bisect import bisect_right
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.cursors import from_cursor, to_cursor
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.gather import gathered
from tunemill.curator_api.payloads import (
    EditedOut,
    LogId,
    RowEditIn,
    RowMessageOut,
    RowOut,
    RowsOut,
)
from tunemill.curator_api.problems import responses
from tunemill.curator_api.row_edits import change_row, checked_edit
from tunemill.curator_api.snapshot import Frozen

router = APIRouter(prefix="/v1/datasets/{name}", tags=["draft rows"])

ThisRow = Annotated[LogId, Path()]


class _After(msgspec.Struct, frozen=True):
    row_key: str


@router.get("/rows", responses=responses(400, 404, 422))
async def list_rows(
    name: ThisDataset,
    here: Here,
    _person: Person,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=1_000)] = None,
) -> RowsOut:
    """The rows that would be published now, by row_key, and how many logs are left out for which reason."""
    after = from_cursor(cursor, _After)
    snapshot = (await gathered(here, name)).snapshot
    rows = sorted(snapshot.rows, key=_key)
    start = bisect_right(rows, after.row_key, key=_key) if after else 0
    page = rows[start : start + limit]
    more = to_cursor(_After(_key(page[-1]))) if start + limit < len(rows) else None
    return RowsOut(
        rows=[_row_out(row) for row in page],
        total=len(rows),
        matched=snapshot.matched,
        excluded=snapshot.excluded,
        cursor=more,
    )


@router.patch("/rows/{row_key:path}", responses=responses(400, 404, 422))
async def edit_row(name: ThisDataset, row_key: ThisRow, edit: RowEditIn, here: Here, person: Person) -> EditedOut:
    """Put other messages in place of a row's own, the answer last. The log itself stays as it is."""
    wanted = checked_edit(edit.messages, edit.rejected)
    await change_row(here, name, row_key, wanted, by=person)
    return EditedOut(row_key=row_key, messages=[RowMessageOut.model_validate(message) for message in wanted.messages])


@router.delete("/rows/{row_key:path}", status_code=204, responses=responses(404, 422))
async def delete_row(name: ThisDataset, row_key: ThisRow, here: Here, person: Person) -> None:
    """Take a row out of this draft. The log stays where it is, and other datasets keep it."""
    await change_row(here, name, row_key, None, by=person)


def _key(row: Frozen) -> str:
    return row.row.row_key


def _row_out(row: Frozen) -> RowOut:
    return RowOut(
        row_key=row.row.row_key,
        row_id=row.row_id,
        split=row.split,
        messages=[RowMessageOut.model_validate(message) for message in row.row.messages],
        rejected=[RowMessageOut.model_validate(message) for message in row.row.rejected],
        tools=None if row.row.tools is None else msgspec.json.decode(row.row.tools),
        tags=list(row.row.tags),
        edited=row.row.edited,
    )
