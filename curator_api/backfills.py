"""Backfills over HTTP: apply the rules in force to history, see how far that is, stop it, take it back."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query

from tunemill.curator_api import backfill_store as store
from tunemill.curator_api.access import Person
from tunemill.curator_api.backfill_store import Backfill
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.payloads import BackfillIn, BackfillOut, BackfillsOut, Storable
from tunemill.curator_api.problems import responses
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.registry import rule_sets
from tunemill.registry.tables import now_ms

router = APIRouter(prefix="/v1/backfills", tags=["rules"])

ThisBackfill = Annotated[str, Path(max_length=64), Storable]


@router.post("", status_code=202, responses=responses(400, 422))
async def start_backfill(wanted: BackfillIn, here: Here, person: Person) -> BackfillOut:
    """Set the tags of stored logs anew, by the rules that are in force now; one backfill after another."""
    query = parse(wanted.query)
    await here.index.refresh()  # else the newest logs are not counted
    page = await here.index.search(SearchRequest(query, limit=0))
    return await asyncio.to_thread(_start, here, wanted.query, page.total, person)


@router.get("", responses=responses(422))
def list_backfills(here: Here, _person: Person, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> BackfillsOut:
    """The newest backfills, newest first."""
    found = store.find_all(here.registry, here.settings.project, limit=limit)
    return BackfillsOut(backfills=[_backfill_out(here, backfill) for backfill in found])


@router.get("/{backfill_id}", responses=responses(404, 422))
def get_backfill(backfill_id: ThisBackfill, here: Here, _person: Person) -> BackfillOut:
    """How far a backfill is."""
    return _backfill_out(here, store.find(here.registry, here.settings.project, backfill_id))


@router.post("/{backfill_id}/cancel", responses=responses(404, 409, 422))
def cancel_backfill(backfill_id: ThisBackfill, here: Here, person: Person) -> BackfillOut:
    """Stop a backfill, or its undoing, where it is. What it did so far stays, and can be undone."""
    return _backfill_out(here, store.cancel(here.registry, here.settings.project, backfill_id, by=person))


@router.post("/{backfill_id}/undo", status_code=202, responses=responses(404, 409, 422))
def undo_backfill(backfill_id: ThisBackfill, here: Here, person: Person) -> BackfillOut:
    """Take back what a backfill did to tags, where nobody changed it since. The rules in force stay."""
    return _backfill_out(here, store.undo(here.registry, here.settings.project, backfill_id, by=person))


def _start(curator: Curator, query: str, total: int, person: str) -> BackfillOut:
    registry, project = curator.registry, curator.settings.project
    revision = rule_sets.revision_in_force(registry, project)
    made = store.start(registry, project, query=query, revision=revision, total=total, by=person)
    return _backfill_out(curator, made)


def _backfill_out(curator: Curator, backfill: Backfill) -> BackfillOut:
    elapsed_s = ((backfill.finished_ms or now_ms()) - backfill.created_ms) / 1000
    per_s = backfill.seen / elapsed_s if backfill.status in ("running", "done") and elapsed_s > 0 else None
    left = max(0, backfill.total - backfill.seen)
    return BackfillOut(
        **{name: getattr(backfill, name) for name in BackfillOut.model_fields if hasattr(backfill, name)},
        undone=store.count_undone(curator.registry, backfill),
        logs_per_s=per_s,
        eta_s=left / per_s if backfill.status == "running" and per_s else None,
    )
