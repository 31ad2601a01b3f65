"""Logs that are kept no longer: those older than the policy's age, then the oldest until the index fits.

Nothing is erased: no erasure is written, and published versions, drafts' imported rows and erasures stay as they are. First whole
shelves, where the engine has some, then what is left, by page. Of each: 1. forget what people wrote in their place; 2. delete the
logs, with their feedback and notes; 3. commit the count. Killed at any step, the rest is looked for anew.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog
from sqlalchemy import Engine

from tunemill.curator_api import job_store as store
from tunemill.curator_api import retention_store
from tunemill.curator_api.edits import Stores
from tunemill.curator_api.job_store import Job, Request
from tunemill.curator_api.job_work import PAGE, Jobs, told_within
from tunemill.curator_api.queries import total_of
from tunemill.curator_api.retention_limits import excess, left_over, next_to_drop, too_old, wants_another
from tunemill.curator_api.retention_store import Policy
from tunemill.indexer.ast import Everything, Query
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import SearchIndex
from tunemill.registry.tables import now_ms
from tunemill.telemetry.metrics import RETENTION_DROPPED, RETENTION_FAILED

KIND = "retention"
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
        old = await total_of(index, too_old(policy, now_ms))
    return max(old, excess(await index.size(), policy.max_bytes))


async def drop(on: Jobs, job: Job, stop: asyncio.Event) -> None:
    """Drop what the policy keeps no longer."""
    run = _Run(on, job, stop)
    for step in (run.drop_shelves, run.begin_shelf, run.drop_old, run.drop_oldest):
        await on.index.refresh()
        if not await step():
            return
    await on.index.refresh()
    after = await on.index.size()
    result = {
        "project": on.project,
        "before": run.work["before"],
        "after": after._asdict(),
        "indices": run.dropped,
    }
    await asyncio.to_thread(store.finish, on.registry, job, "done", result=result)
    _log.info("retention_done", job_id=job.job_id, logs_left=after.logs, indices=run.dropped)


class _Run:
    """One run, in steps that can be done again. Each says whether to go on: not if told to stop, or another policy was set."""

    def __init__(self, on: Jobs, job: Job, stop: asyncio.Event) -> None:
        self.work = job.work or {}
        self.dropped = int(job.place[0]) if job.place else 0  # shelves
        self._on = on
        self._job = job
        self._stop = stop
        self._policy = Policy(max_age_days=self.work["max_age_days"], max_bytes=self.work["max_bytes"])
        self._now_ms = job.created_ms

    async def drop_shelves(self) -> bool:
        """Drop the shelves that go whole."""
        shelves = list(await self._on.index.shelves())
        while (shelf := next_to_drop(shelves, self._policy, self._now_ms)) is not None:
            if not await self._goes_on():
                return False
            shelves.remove(shelf)
            logs = await self._on.index.drop_shelf(shelf.name, before=self._forget_texts)
            self.dropped += 1
            await self._count(logs)
        return True

    async def begin_shelf(self) -> bool:
        """Have new logs go into another shelf, if the one that is being filled is full."""
        if wants_another(await self._on.index.shelves(), self._policy, self._now_ms):
            if not await self._goes_on():
                return False
            await self._on.index.roll_over()
        return True

    async def drop_old(self) -> bool:
        """Drop, page by page, what is too old and waits for no shelf."""
        shelves = await self._on.index.shelves()
        return await self._drop_pages(left_over(shelves, self._policy, self._now_ms), None)

    async def drop_oldest(self) -> bool:
        """Drop the oldest, page by page, where all still take too much."""
        too_many = excess(await self._on.index.size(), self._policy.max_bytes)
        return not too_many or await self._drop_pages(Everything(), too_many)

    async def _drop_pages(self, query: Query, limit: int | None) -> bool:
        async for log_ids in _pages(self._on.index, query, limit):
            if not await self._goes_on():
                return False
            await self._forget_texts(log_ids)
            await self._on.index.delete(log_ids)
            await self._count(len(log_ids))
        return True

    async def _goes_on(self) -> bool:
        if self._stop.is_set():
            return False
        policy = await asyncio.to_thread(retention_store.policy_of, self._on.registry, self._on.project)
        if (policy.max_age_days, policy.max_bytes) == (self._policy.max_age_days, self._policy.max_bytes):
            return True
        await asyncio.to_thread(store.finish, self._on.registry, self._job, "cancelled")
        _log.info("retention_left", job_id=self._job.job_id)
        return False

    async def _forget_texts(self, log_ids: Sequence[str]) -> None:
        await asyncio.to_thread(store.renew, self._on.registry, self._job)  # not if it was cancelled meanwhile
        await asyncio.to_thread(retention_store.forget_texts, self._on.registry, self._on.project, log_ids)

    async def _count(self, logs: int) -> None:
        place = [self.dropped]
        await asyncio.to_thread(store.advance, self._on.registry, self._job, place, seen=logs, changed=logs)
        RETENTION_DROPPED.inc(logs)


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
