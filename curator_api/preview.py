"""What a draft would be as a version, over HTTP: its report, its rows, and the rows that are no training rows at all."""

import asyncio
import heapq
from collections import Counter
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.cursors import from_cursor, to_cursor
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.draft_rows import ThisRow
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.frozen import Frozen, frozen
from tunemill.curator_api.gather import gather, planned
from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.payloads import RowMessageOut
from tunemill.curator_api.preview_payloads import (
    BadRowOut,
    BadRowsOut,
    IngredientOut,
    PreviewOut,
    RowOut,
    RowsOut,
)
from tunemill.curator_api.problems import responses
from tunemill.curator_api.recipe_payloads import body_of
from tunemill.curator_api.rows import BAD, Left, Reason
from tunemill.curator_api.version_payloads import ReportOut

router = APIRouter(prefix="/v1/datasets/{name}", tags=["draft rows"])

WHY = {
    Reason.NO_ANSWER: "there is no answer at the end, or an empty one",
    Reason.NOT_TEXT: "images, audio or files are part of it, or a message says nothing",
    Reason.ROLES_OUT_OF_ORDER: "not: system or developer messages, then at least one from the user, tool messages only "
    "after a call, an answer at the end",
    Reason.BROKEN_ARGUMENTS: "a tool is called with arguments that are no JSON object",
}
BadReason = Literal["no_answer", "not_text", "roles_out_of_order", "broken_arguments"]


class _After(msgspec.Struct, frozen=True):
    row_key: str


@router.get("/preview", responses=responses(400, 404, 422))
async def preview_dataset(name: ThisDataset, here: Here, _person: Person) -> PreviewOut:
    """The report of the version that would be published now, and how much each ingredient finds. Nothing is written."""
    plan = await planned(here, name)
    async with frozen(here, plan) as found:
        await asyncio.to_thread(_read, found)
        report = found.report(here.settings.default_consent)
    shown = body_of(plan.recipe)
    ingredients = [
        IngredientOut(ingredient=one, matched=matched)
        for one, matched in zip(shown.ingredients, found.matched, strict=True)
    ]
    return PreviewOut(recipe=shown, ingredients=ingredients, report=ReportOut.model_validate(report))


@router.get("/rows", responses=responses(400, 404, 422))
async def list_rows(
    name: ThisDataset,
    here: Here,
    _person: Person,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=1_000)] = None,
) -> RowsOut:
    """The rows that would be published now, by row_key, and how many logs are left out for which reason.

    Each page gathers the draft anew.
    """
    after = from_cursor(cursor, _After)
    async with frozen(here, await planned(here, name)) as found:
        rows = await asyncio.to_thread(_first, found, after.row_key if after else "", limit + 1)
    tally = found.tally()
    return RowsOut(
        rows=[_row_out(row) for row in rows[:limit]],
        total=sum(found.splits.values()),
        matched=tally.matched,
        excluded=tally.excluded,
        cursor=to_cursor(_After(rows[limit - 1].row.row_key)) if len(rows) > limit else None,
    )


@router.get("/rows/{row_key:path}", responses=responses(400, 404, 422))
async def get_row(name: ThisDataset, row_key: ThisRow, here: Here, _person: Person) -> RowOut:
    """One row that would be published now, by its key or that of a row that says the same. The draft is gathered once."""
    async with frozen(here, await planned(here, name)) as found:
        row = await asyncio.to_thread(_one, found, row_key)
    if row is None:
        raise NotFound(
            f"the draft of {name!r} has no row {row_key!r}: its rows, and its bad rows, are listed with their keys"
        )
    return _row_out(row)


@router.get("/bad-rows", responses=responses(400, 404, 422))
async def list_bad_rows(
    name: ThisDataset,
    here: Here,
    _person: Person,
    reason: BadReason | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=1_000)] = None,
) -> BadRowsOut:
    """What the draft finds that is no training row, and why, by row_key. Repair one by changing the row, or its log."""
    after = from_cursor(cursor, _After)
    begin, counts = after.row_key if after else "", Counter[str]()
    keys: list[tuple[str, Reason]] = []
    async for page in gather(here, await planned(here, name)):
        bad = [one for one in page if isinstance(one, Left) and one.reason in BAD]
        counts.update(one.reason for one in bad)
        wanted = ((one.row_key, one.reason) for one in bad if one.row_key > begin and reason in (None, one.reason))
        keys = heapq.nsmallest(limit + 1, [*keys, *wanted])
    return BadRowsOut(
        rows=[BadRowOut(row_key=key, reason=found, why=WHY[found]) for key, found in keys[:limit]],
        counts=dict(sorted(counts.items())),
        cursor=to_cursor(_After(keys[limit - 1][0])) if len(keys) > limit else None,
    )


def _read(found: Frozen) -> None:
    """Have all rows counted."""
    for _ in found.rows():
        pass


def _first(found: Frozen, after: str, count: int) -> list[StoredRow]:
    """The first rows after a key; the others are counted."""
    first: list[StoredRow] = []
    for some in found.rows():
        first = heapq.nsmallest(count, [*first, *(row for row in some if row.row.row_key > after)], key=_key)
    return first


def _one(found: Frozen, row_key: str) -> StoredRow | None:
    return next((row for some in found.rows() for row in some if row_key in row.row_keys), None)


def _key(row: StoredRow) -> str:
    return row.row.row_key


def _row_out(stored: StoredRow) -> RowOut:
    row = stored.row
    return RowOut(
        row_key=row.row_key,
        row_id=stored.row_id,
        split=stored.split,
        messages=[RowMessageOut.model_validate(message) for message in row.messages],
        rejected=[RowMessageOut.model_validate(message) for message in row.rejected],
        tools=None if row.tools is None else msgspec.json.decode(row.tools),
        tags=list(row.tags),
        edited=row.edited,
        corrected=row.corrected,
        model=row.model,
        slices=row.slices,
    )
