"""Backfills over HTTP: apply the rules in force to history, see how far that is, stop it, take it back."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query

from tunemill.curator_api import job_store as store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.job_payloads import BackfillIn, BackfillOut, BackfillsOut, IdempotencyKey
from tunemill.curator_api.job_store import Job, Request, pace
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query, spelled_out
from tunemill.indexer.search import SearchRequest
from tunemill.registry import rule_sets

router = APIRouter(prefix="/v1/backfills", tags=["rules"])

ThisBackfill = Annotated[str, Path(max_length=64), Storable]


@router.post("", status_code=202, responses=responses(400, 422))
async def start_backfill(
    wanted: BackfillIn, here: Here, person: Person, idempotency_key: IdempotencyKey = None
) -> BackfillOut:
    """Set the tags of stored logs anew, by the rules that are in force now; one backfill after another."""
    request = wanted.request(idempotency_key)
    if request and (begun := await asyncio.to_thread(store.find_begun, here.registry, here.project, request)):
        return await asyncio.to_thread(_backfill_out, here, begun)
    query = await asyncio.to_thread(read_query, here.registry, here.project, wanted.query)
    await here.index.refresh()  # else the newest logs are not counted
    page = await here.index.search(SearchRequest(query, limit=0))
    query_text = spelled_out(wanted.query, query)
    return await asyncio.to_thread(_start, here, query_text, page.total, by=person, request=request)


@router.get("", responses=responses(422))
def list_backfills(here: Here, _person: Person, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> BackfillsOut:
    """The newest backfills, newest first."""
    found = store.find_all(here.registry, here.settings.project, limit=limit, kind="rules")
    return BackfillsOut(backfills=[_backfill_out(here, backfill) for backfill in found])


@router.get("/{backfill_id}", responses=responses(404, 422))
def get_backfill(backfill_id: ThisBackfill, here: Here, _person: Person) -> BackfillOut:
    """How far a backfill is."""
    return _backfill_out(here, _found(here, backfill_id))


@router.post("/{backfill_id}/cancel", responses=responses(404, 409, 422))
def cancel_backfill(backfill_id: ThisBackfill, here: Here, person: Person) -> BackfillOut:
    """Stop a backfill, or its undoing, where it is. What it did so far stays, and can be undone."""
    _found(here, backfill_id)
    return _backfill_out(here, store.cancel(here.registry, here.settings.project, backfill_id, by=person))


@router.post("/{backfill_id}/undo", status_code=202, responses=responses(404, 409, 422))
def undo_backfill(backfill_id: ThisBackfill, here: Here, person: Person) -> BackfillOut:
    """Take back what a backfill did to tags, where nobody changed it since. The rules in force stay."""
    _found(here, backfill_id)
    return _backfill_out(here, store.undo(here.registry, here.settings.project, backfill_id, by=person))


def _found(curator: Curator, backfill_id: str) -> Job:
    """A job of another kind is none of these."""
    found = store.find(curator.registry, curator.settings.project, backfill_id)
    if found.kind != "rules":
        raise NotFound("there is no such backfill")
    return found


def _start(curator: Curator, query: str, total: int, *, by: str, request: Request | None) -> BackfillOut:
    registry, project = curator.registry, curator.settings.project
    made = store.start(
        registry,
        project,
        kind="rules",
        query=query,
        revision=rule_sets.revision_in_force(registry, project),
        total=total,
        by=by,
        request=request,
    )
    return _backfill_out(curator, made)


def _backfill_out(curator: Curator, job: Job) -> BackfillOut:
    per_s, eta_s = pace(job)
    return BackfillOut(
        **{name: getattr(job, name) for name in BackfillOut.model_fields if hasattr(job, name)},
        backfill_id=job.job_id,
        undone=store.count_undone(curator.registry, job),
        logs_per_s=per_s,
        eta_s=eta_s,
    )
