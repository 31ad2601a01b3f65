"""Logs that are kept no longer: those older than the policy's age, then the oldest until the index fits.

Nothing is erased: no erasure is written, and published versions, drafts' imported rows and erasures stay as they are. A page at a
time: 1. forget what people wrote in their place; 2. delete the logs, with their feedback and notes; 3. commit the count. Killed at
any step, the rest is looked for anew.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from math import ceil

import structlog
from sqlalchemy import Engine

from tunemill.curator_api import job_store as store
from tunemill.curator_api import retention_store
from tunemill.curator_api.edits import Stores
from tunemill.curator_api.job_store import Job, Request
from tunemill.curator_api.job_work import PAGE, Jobs, query_of, told_within
from tunemill.curator_api.retention_store import Policy
from tunemill.indexer.ast import Between, Everything, Query
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import IndexSize, SearchIndex, SearchRequest
from tunemill.registry.tables import now_ms
from tunemill.telemetry.metrics import RETENTION_DROPPED, RETENTION_FAILED

KIND = "retention"
DAY_MS = 86_400_000
EVERY_MS = 3_600_000
LOOK_EVERY_S = 60.0
BY_ITSELF = "retention"  # who asked for a run that nobody asked for

_log = structlog.get_logger()


async def start_until(stop: asyncio.Event, on: Stores) -> None:
    """Have a run done every hour while a policy is in force, until told to stop. Whatever is away is waited for."""
    while True:
        try:
            if await asyncio.to_thread(_is_due, on.registry, on.project):
                await start(on, by=BY_ITSELF)
            RETENTION_FAILED.set(await asyncio.to_thread(failure, on.registry, on.project) is not None)
        except Exception as error:  # the index or the registry is away
            _log.warning("retention_waits", error=type(error).__name__, again_in_s=LOOK_EVERY_S)
        if await told_within(stop, LOOK_EVERY_S):
            return


async def start(on: Stores, *, by: str, request: Request | None = None) -> Job:
    """Have the policy applied as it is now."""
    policy = await asyncio.to_thread(retention_store.policy_of, on.registry, on.project)
    now = now_ms()
    size = await on.index.size()
    return await asyncio.to_thread(
        store.start,
        on.registry,
        on.project,
        kind=KIND,
        query=to_text(too_old(policy, now)),
        work={"max_age_days": policy.max_age_days, "max_bytes": policy.max_bytes, "before": size._asdict()},
        total=await due(on.index, policy, now_ms=now),
        by=by,
        request=request,
    )


async def due(index: SearchIndex, policy: Policy, *, now_ms: int) -> int:
    """How many logs the policy keeps no longer."""
    await index.refresh()
    old = 0
    if policy.max_age_days is not None:
        page = await index.search(SearchRequest(too_old(policy, now_ms), limit=0, counts=False))
        old = page.total
    return max(old, excess(await index.size(), policy.max_bytes))


def too_old(policy: Policy, now_ms: int) -> Query:
    """The logs that are older than the policy's age; without an age the query is about nothing that could be dropped."""
    days = policy.max_age_days
    return Between("ts", None, max(0, 0 if days is None else now_ms - days * DAY_MS), high_included=False)


def excess(size: IndexSize, max_bytes: int | None) -> int:
    """How many logs an index has too many, if all are as large as they are on average."""
    if max_bytes is None or size.bytes <= max_bytes:
        return 0
    return ceil(size.logs * (size.bytes - max_bytes) / size.bytes)


async def drop(on: Jobs, job: Job, stop: asyncio.Event) -> None:
    """Drop what the policy keeps no longer."""
    work = job.work or {}
    for_age = query_of(job), None
    await on.index.refresh()
    if not await _drop(on, job, stop, *for_age):
        return
    await on.index.refresh()
    too_many = excess(await on.index.size(), work["max_bytes"])
    if too_many and not await _drop(on, job, stop, Everything(), too_many):
        return
    await on.index.refresh()
    after = await on.index.size()
    result = {"before": work["before"], "after": after._asdict()}
    await asyncio.to_thread(store.finish, on.registry, job, "done", result=result)
    _log.info("retention_done", job_id=job.job_id, logs_left=after.logs)


async def _drop(on: Jobs, job: Job, stop: asyncio.Event, query: Query, limit: int | None) -> bool:
    """Drop the oldest of these logs; False: we were told to stop before all were, or another policy was set."""
    async for log_ids in _pages(on.index, query, limit):
        if stop.is_set():
            return False
        if not await asyncio.to_thread(_is_in_force, on, job):
            await asyncio.to_thread(store.finish, on.registry, job, "cancelled")
            _log.info("retention_left", job_id=job.job_id)
            return False
        await asyncio.to_thread(retention_store.forget_texts, on.registry, on.project, log_ids)
        await on.index.delete(log_ids)
        await asyncio.to_thread(store.advance, on.registry, job, [], seen=len(log_ids), changed=len(log_ids))
        RETENTION_DROPPED.inc(len(log_ids))
    return True


def _is_in_force(on: Jobs, job: Job) -> bool:
    """Whether the policy still is the one that the run was asked for."""
    policy = retention_store.policy_of(on.registry, on.project)
    return all((job.work or {})[name] == getattr(policy, name) for name in ("max_age_days", "max_bytes"))


async def _pages(index: SearchIndex, query: Query, limit: int | None) -> AsyncIterator[Sequence[str]]:
    log_ids: list[str] = []
    async for tagged in index.scan(query, limit=limit):
        log_ids.append(tagged.log.log_id)
        if len(log_ids) == PAGE:
            yield log_ids
            log_ids = []
    if log_ids:
        yield log_ids


def failure(registry: Engine, project: str) -> str | None:
    """Why the last run that came to an end failed; None: it did not, or all logs are kept by now."""
    if retention_store.policy_of(registry, project).keeps_all:
        return None
    ended = [job for job in store.find_all(registry, project, limit=5, kind=KIND) if job.status not in store.ACTIVE]
    if not ended or ended[0].status != "failed":
        return None
    return (ended[0].error or {}).get("message", "for a reason that is not known")


def _is_due(registry: Engine, project: str) -> bool:
    if retention_store.policy_of(registry, project).keeps_all:
        return False
    newest = store.find_all(registry, project, limit=1, kind=KIND)
    return not newest or (newest[0].status not in store.ACTIVE and newest[0].created_ms <= now_ms() - EVERY_MS)
