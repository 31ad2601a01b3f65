"""Erasures over HTTP: count what would be erased, have it erased everywhere, and get the receipt."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from tunemill.curator_api import erasure_store as store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.erase import subject_query
from tunemill.curator_api.erasure_payloads import (
    ErasureCountOut,
    ErasureIn,
    ErasureRequestOut,
    ErasureRequestsOut,
    ExposedRunOut,
    RedactedVersionOut,
    StoreOut,
)
from tunemill.curator_api.erasure_store import Request
from tunemill.curator_api.errors import TotalChanged, Unprocessable
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query, spelled_out, total_of
from tunemill.curator_api.receipt import Kind
from tunemill.indexer.ast import Everything

router = APIRouter(prefix="/v1/erasures", tags=["erasures"])

ThisErasure = Annotated[str, Path(max_length=64), Storable]


@router.post("", status_code=202, responses={200: {"model": ErasureCountOut}, **responses(400, 409, 422)})
async def start_erasure(
    wanted: ErasureIn, here: Here, person: Person, response: Response
) -> ErasureRequestOut | ErasureCountOut:
    """Have logs erased from every store, version and draft. `GET` the request until it is done: then it is the receipt.

    With `dry_run`: 200, and how many logs the index has. Asked for again while it runs, or when nothing came since it was done, it
    is the same request.
    """
    kind, value = wanted.scope
    value = await _meant(here, kind, value)
    total = await _count(here, kind, value)
    if wanted.dry_run:
        response.status_code = 200
        return ErasureCountOut(total=total)
    if kind == "query" and wanted.expected_total is None:
        raise Unprocessable("erasing by a query needs expected_total: the total that a dry run gives")
    if wanted.expected_total not in (None, total):
        raise TotalChanged(f"{total} logs match by now: look at them, then send that as expected_total", total=total)
    is_there = bool(total or (kind == "subject" and await here.index.traces_of(value)))
    return await asyncio.to_thread(_start, here, kind, value, person, is_there=is_there)


@router.get("", responses=responses(422))
def list_erasures(
    here: Here, _person: Person, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> ErasureRequestsOut:
    """The newest erasures, newest first."""
    found = store.find_all(here.registry, here.project, limit=limit)
    turn = store.under_way(here.registry, here.project)
    return ErasureRequestsOut(erasures=[_out(here, one, turn) for one in found])


@router.get("/{request_id}", responses=responses(404, 422))
def get_erasure(request_id: ThisErasure, here: Here, _person: Person) -> ErasureRequestOut:
    """How far an erasure is; once it is done, its receipt."""
    found = store.find(here.registry, here.project, request_id)
    return _out(here, found, store.under_way(here.registry, here.project))


async def _meant(curator: Curator, kind: Kind, text: str) -> str:
    """The value as the request keeps it: of a query, what its saved searches and `now` mean at this moment."""
    if kind != "query":
        return text
    query = await asyncio.to_thread(read_query, curator.registry, curator.project, text)
    if isinstance(query, Everything):
        raise Unprocessable("the query matches every log: name what is to be erased")
    return spelled_out(text, query)


async def _count(curator: Curator, kind: Kind, value: str) -> int:
    if kind == "log":
        return int(await curator.index.get(value) is not None)
    await curator.index.refresh()  # else the newest logs are not counted
    query = (
        subject_query(value)
        if kind == "subject"
        else await asyncio.to_thread(read_query, curator.registry, curator.project, value)
    )
    return await total_of(curator.index, query)


def _start(curator: Curator, kind: Kind, value: str, person: str, *, is_there: bool) -> ErasureRequestOut:
    registry, project = curator.registry, curator.project
    is_over = not is_there and store.find_not_done(registry, project, kind, value) is None
    done = store.find_done(registry, project, kind, value) if is_over else None
    request = done or store.start(registry, project, kind, value, by=person)
    return _out(curator, request, store.under_way(registry, project))


def _out(curator: Curator, request: Request, turn: str | None) -> ErasureRequestOut:
    receipt = request.receipt
    return ErasureRequestOut(
        request_id=request.request_id,
        kind=request.scope.kind,
        scope_digest=request.scope.digest,
        status=request.status,
        waits_for=turn if request.status == "running" and turn != request.request_id else None,
        steps=list(receipt.steps),
        logs=receipt.logs or store.count_logs(curator.registry, request.request_id),
        stores=[StoreOut.model_validate(line) for line in receipt.stores],
        versions=[RedactedVersionOut.model_validate(one) for one in receipt.versions],
        runs=[ExposedRunOut.model_validate(one) for one in receipt.runs],
        verified=receipt.verified,
        error=receipt.error,
        by=request.by,
        created_ms=request.created_ms,
        finished_ms=request.finished_ms,
    )
