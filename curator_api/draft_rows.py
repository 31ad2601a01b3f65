"""Rows of a draft over HTTP: change one, take one out."""

from typing import Annotated

from fastapi import APIRouter, Path

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.payloads import (
    EditedOut,
    LogId,
    RowEditIn,
    RowMessageOut,
)
from tunemill.curator_api.problems import responses
from tunemill.curator_api.row_edits import change_row, checked_edit

router = APIRouter(prefix="/v1/datasets/{name}", tags=["draft rows"])

ThisRow = Annotated[LogId, Path()]


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
