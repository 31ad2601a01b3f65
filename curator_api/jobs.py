"""Work on many logs over HTTP: count what matches, have it done, see how far it is, stop it, take it back."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from tunemill.curator_api import job_store as store
from tunemill.curator_api import retention_job
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import CannotBeUndone, TotalChanged, Unprocessable
from tunemill.curator_api.job_kinds import KINDS
from tunemill.curator_api.job_payloads import CountOut, IdempotencyKey, JobIn, JobOut, JobsOut
from tunemill.curator_api.job_store import Job, Request, pace
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query, spelled_out
from tunemill.indexer.ast import Everything
from tunemill.indexer.ast import Query as Tree
from tunemill.indexer.search import SearchRequest

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

EXAMPLES = 5

ThisJob = Annotated[str, Path(max_length=64), Storable]
KindName = Annotated[str | None, Query(max_length=16), Storable]


@router.post("", status_code=202, responses={200: {"model": CountOut}, **responses(400, 409, 422)})
async def start_job(
    wanted: JobIn, here: Here, person: Person, response: Response, idempotency_key: IdempotencyKey = None
) -> JobOut | CountOut:
    """Do something to all logs that match, one job after another. With `dry_run`: 200, and how many they are."""
    request = wanted.request(idempotency_key)
    if request and (begun := await asyncio.to_thread(store.find_begun, here.registry, here.project, request)):
        return await asyncio.to_thread(_job_out, here, begun)
    if wanted.kind == retention_job.KIND:
        made = await retention_job.start(here, by=person, request=request)
        return await asyncio.to_thread(_job_out, here, made)
    query = await asyncio.to_thread(read_query, here.registry, here.project, wanted.query)
    await here.index.refresh()  # else the newest logs are not counted
    page = await here.index.search(SearchRequest(query, limit=EXAMPLES, sort="newest", counts=False))
    if wanted.dry_run:
        response.status_code = 200
        return CountOut(total=page.total, log_ids=[hit.log.log.log_id for hit in page.hits])
    _refuse_unseen(wanted, query, page.total)
    query_text = spelled_out(wanted.query, query)
    return await asyncio.to_thread(_start, here, wanted, query_text, page.total, by=person, request=request)


@router.get("", responses=responses(422))
def list_jobs(
    here: Here, _person: Person, limit: Annotated[int, Query(ge=1, le=1_000)] = 100, kind: KindName = None
) -> JobsOut:
    """The newest jobs, newest first; of one kind, or of all."""
    found = store.find_all(here.registry, here.project, limit=limit, kind=kind)
    return JobsOut(jobs=_jobs_out(here, found))


@router.get("/{job_id}", responses=responses(404, 422))
def get_job(job_id: ThisJob, here: Here, _person: Person) -> JobOut:
    """How far a job is."""
    return _job_out(here, store.find(here.registry, here.project, job_id))


@router.post("/{job_id}/cancel", responses=responses(404, 409, 422))
def cancel_job(job_id: ThisJob, here: Here, person: Person) -> JobOut:
    """Stop a job, or its undoing, where it is. What it did so far stays, and can be undone if its kind can."""
    return _job_out(here, store.cancel(here.registry, here.project, job_id, by=person))


@router.post("/{job_id}/undo", status_code=202, responses=responses(404, 409, 422))
def undo_job(job_id: ThisJob, here: Here, person: Person) -> JobOut:
    """Take back what a job did, where nobody said anything else since."""
    if KINDS[store.find(here.registry, here.project, job_id).kind].undo is None:
        raise CannotBeUndone("what this job did is done for good")
    return _job_out(here, store.undo(here.registry, here.project, job_id, by=person))


def _refuse_unseen(wanted: JobIn, query: Tree, total: int) -> None:
    """Nothing is erased that was not counted before."""
    if wanted.kind == "delete" and isinstance(query, Everything) and not wanted.everything:
        raise Unprocessable("the query matches every log: send everything: true if you mean that")
    if wanted.kind == "delete" and wanted.expected_total is None:
        raise Unprocessable("deleting needs expected_total: the total that a dry run gives")
    if wanted.expected_total not in (None, total):
        raise TotalChanged(f"{total} logs match by now: look at them, then send that as expected_total", total=total)


def _start(curator: Curator, wanted: JobIn, query: str, total: int, *, by: str, request: Request | None) -> JobOut:
    made = store.start(
        curator.registry,
        curator.project,
        kind=wanted.kind,
        query=query,
        total=total,
        by=by,
        work=wanted.work,
        why=wanted.why,
        request=request,
    )
    return _job_out(curator, made)


def _job_out(curator: Curator, job: Job) -> JobOut:
    return _jobs_out(curator, [job])[0]


def _jobs_out(curator: Curator, jobs: list[Job]) -> list[JobOut]:
    turn = store.under_way(curator.registry, curator.project)
    return [_out(curator, job, turn) for job in jobs]


def _out(curator: Curator, job: Job, turn: str | None) -> JobOut:
    per_s, eta_s = pace(job)
    kind = KINDS[job.kind]
    return JobOut(
        **{name: getattr(job, name) for name in JobOut.model_fields if hasattr(job, name)},
        waits_for=turn if job.status in store.ACTIVE and turn != job.job_id else None,
        undone=kind.undone(curator.registry, job),
        can_be_undone=kind.undo is not None,
        logs_per_s=per_s,
        eta_s=eta_s,
    )
