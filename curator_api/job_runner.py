"""Backfills, done beside the API: history gets its tags by the rules of one revision, or has them taken back.

A page of logs at a time, in this order: 1. read; 2. tag anew, beside the event loop; 3. commit what will be done to which log;
4. replace those logs in the index, each only if it still is as it was read, else from 1; 5. commit the place. A crash at any step
leaves a page that is done again, and done again it is the same: whoever reads the changes never misses one.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from tunemill.curator_api import backfill_store as store
from tunemill.curator_api.backfill_store import Backfill, LeaseLost
from tunemill.curator_api.errors import Unavailable
from tunemill.curator_api.problems import translated
from tunemill.curator_api.tag_changes import TagChange, change, undone
from tunemill.curator_api.tagging import Tagger, Tagging
from tunemill.indexer.ast import And, Between, Everything, Query
from tunemill.indexer.dates import LATEST_MS
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex
from tunemill.registry import rule_sets
from tunemill.registry.rule_sets import RuleSet
from tunemill.schemas.ids import new_id
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.stored import StoredLog

PAGE = 500  # logs; a few MiB
LOOK_EVERY_S = 1.0
SETTLE_S = (
    5.0  # after rules were put in force: until workers use them, and what they tagged by the older ones is stored
)
RENEW_EVERY_S = store.LEASE_MS / 3000
LONGEST_WAIT_S = 30.0  # between attempts while something is away

_START = (-1, "")  # before the first log

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfills:
    """What doing them takes."""

    index: SearchIndex
    registry: Engine
    tagging: Tagging
    project: str


class _NotTaken(Exception):
    """The index does not take a log back that it gave."""


async def backfill_until(stop: asyncio.Event, on: Backfills) -> None:
    """Do what there is to do until told to stop; whatever is away is waited for."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"[:128]
    wait_s = LOOK_EVERY_S
    while not stop.is_set():
        try:
            if await do_next(on, owner, stop):
                continue
            wait_s = LOOK_EVERY_S
        except Exception as error:  # the index or the registry is away
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            _log.warning("backfill_waits", error=type(error).__name__, again_in_s=wait_s)
        await _waited(stop, wait_s)


async def _waited(stop: asyncio.Event, seconds: float) -> bool:
    """Whether we were told to stop meanwhile."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), max(0.0, seconds))
    return stop.is_set()


async def do_next(on: Backfills, owner: str, stop: asyncio.Event) -> bool:
    """Work on the oldest backfill that is not finished, if nobody else does; whether there was one.

    Raises:
        Exception: something is away; the backfill stays where it is.
    """
    claimed = await asyncio.to_thread(store.claim, on.registry, on.project, owner)
    if claimed is None:
        return False
    _log.info("backfill_taken_up", backfill_id=claimed.backfill_id, status=claimed.status, seen=claimed.seen)
    try:
        async with _kept(on.registry, claimed):
            work = _apply if claimed.status == "running" else _take_back
            await work(on, claimed, stop)
    except LeaseLost:
        _log.info("backfill_left", backfill_id=claimed.backfill_id)
    except Exception as error:
        if isinstance(translated(error), Unavailable):
            raise
        await asyncio.to_thread(_fail, on.registry, claimed, error)
    finally:
        await asyncio.to_thread(store.let_go, on.registry, claimed)
    return True


def place_of(tagged: TaggedLog) -> tuple[int, str]:
    """Where a log stands in the order of scans."""
    return min(max(tagged.log.ts_ms, 0), LATEST_MS), tagged.log.log_id


@contextlib.asynccontextmanager
async def _kept(registry: Engine, claimed: Backfill) -> AsyncIterator[None]:
    """Meanwhile the lease is renewed, however long the index lets us wait."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            with contextlib.suppress(Exception):  # lost, or the registry is away: the next step will notice
                await asyncio.to_thread(store.renew, registry, claimed)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait({renewing})


def _fail(registry: Engine, claimed: Backfill, error: Exception) -> None:
    """End it with an error of ours; its text might hold text of a log."""
    _log.error("backfill_failed", backfill_id=claimed.backfill_id, error=type(error).__name__)
    message = str(error) if isinstance(error, _NotTaken) else f"unforeseen {type(error).__name__}"
    with contextlib.suppress(LeaseLost):
        store.finish(registry, claimed, "failed", error={"code": "internal", "message": message})


async def _apply(on: Backfills, claimed: Backfill, stop: asyncio.Event) -> None:
    query = parse(claimed.query)
    whole = isinstance(query, Everything)
    rules = await asyncio.to_thread(_rules, on, claimed)
    settled_s = (rules.created_ms or 0) / 1000 + SETTLE_S - time.time()
    if await _waited(stop, min(settled_s, SETTLE_S)):  # whatever the clock says of whoever put them in force
        return
    await on.index.refresh()  # what was written before is scanned
    tagger = await asyncio.to_thread(_tagger, on, rules, whole=whole)
    reached = (int(claimed.place[0]), str(claimed.place[1])) if claimed.place else _START
    logs = on.index.scan(query if whole else _from(query, reached[0]), limit=None)
    async for page in _pages(logs, tagger, reached):
        if stop.is_set():
            return
        await _retag(on, claimed, tagger, page)
        await asyncio.to_thread(store.advance, on.registry, claimed, place_of(page[-1]), seen=len(page))
    await on.index.refresh()
    await asyncio.to_thread(store.finish, on.registry, claimed, "done")
    _log.info("backfill_done", backfill_id=claimed.backfill_id)


async def _pages(
    logs: AsyncIterator[TaggedLog], tagger: Tagger, reached: tuple[int, str]
) -> AsyncIterator[list[TaggedLog]]:
    """These logs, a page at a time, from the place on that was reached before."""
    page: list[TaggedLog] = []
    async for tagged in logs:
        if place_of(tagged) > reached:
            page.append(tagged)
        else:
            tagger.pass_by(tagged)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _from(query: Query, ts_ms: int) -> Query:
    return query if ts_ms < 0 else And((query, Between("ts", ts_ms, None)))


def _rules(on: Backfills, claimed: Backfill) -> RuleSet:
    found = rule_sets.find(on.registry, on.project, claimed.revision)
    if found is None:
        raise LookupError(claimed.revision)
    return found


def _tagger(on: Backfills, rules: RuleSet, *, whole: bool) -> Tagger:
    learned = rule_sets.learned_in(on.registry, on.project, rules)
    return on.tagging.compiled(rules.document, learned, whole=whole)


async def _retag(on: Backfills, claimed: Backfill, tagger: Tagger, page: Sequence[TaggedLog]) -> None:
    """Steps 2 to 4 for one page."""
    waiting = await asyncio.to_thread(_retagged, tagger, page)
    while waiting:
        stored = (await on.index.stored(log_ids=list(waiting), trace_ids=[])).logs
        wanted = await asyncio.to_thread(_wanted, tagger, waiting, stored)
        noted = {log_id: done for log_id, (_, done) in wanted.items() if done != TagChange()}
        await asyncio.to_thread(store.note_changes, on.registry, claimed, noted)
        late = await _replace(on.index, [replacement for replacement, _ in wanted.values()])
        waiting = {log_id: waiting[log_id] for log_id in late}


def _retagged(tagger: Tagger, page: Sequence[TaggedLog]) -> dict[str, tuple[TaggedLog, TaggedLog]]:
    """Of the logs that change, by log_id: as they are, and as they become."""
    both = ((tagged, tagger.retag(tagged)) for tagged in page)
    return {before.log.log_id: (before, after) for before, after in both if before != after}


def _wanted(
    tagger: Tagger, waiting: Mapping[str, tuple[TaggedLog, TaggedLog]], stored: Mapping[str, StoredLog]
) -> dict[str, tuple[StoredLog, TagChange]]:
    """Of the logs that still change, by log_id: what is to be stored, and what that does. Those that are gone are left out."""
    wanted: dict[str, tuple[StoredLog, TagChange]] = {}
    for log_id, found in stored.items():
        before, after = waiting[log_id]
        if found.tagged != before:  # somebody changed it since it was scanned
            before, after = found.tagged, tagger.retag(found.tagged)
        if before != after:
            wanted[log_id] = (StoredLog(after, found.version), change(before, after))
    return wanted


async def _replace(index: SearchIndex, wanted: Sequence[StoredLog]) -> list[str]:
    """Store these logs; the ids of those that somebody else changed since they were read, or had forgotten."""
    if not wanted:
        return []
    ends = await index.replace(wanted)
    refused = sum(end is not None and end.outcome is Outcome.REJECTED for end in ends)
    if refused:
        raise _NotTaken(f"the index does not take {refused} of its logs back: is its mapping another one than ours?")
    return [log.tagged.log.log_id for log, end in zip(wanted, ends, strict=True) if end is None]


async def _take_back(on: Backfills, claimed: Backfill, stop: asyncio.Event) -> None:
    """Undo, in the order of log ids."""
    place = claimed.place[0] if claimed.place else ""
    while changes := await asyncio.to_thread(store.changes_after, on.registry, claimed.backfill_id, place, limit=PAGE):
        if stop.is_set():
            return
        waiting = list(changes)
        while waiting:
            stored = (await on.index.stored(log_ids=waiting, trace_ids=[])).logs
            await asyncio.to_thread(store.renew, on.registry, claimed)
            waiting = await _replace(on.index, _restored(changes, stored))
        place = list(changes)[-1]
        await asyncio.to_thread(store.advance, on.registry, claimed, [place], seen=0)
    await on.index.refresh()
    await asyncio.to_thread(store.finish, on.registry, claimed, "undone")
    _log.info("backfill_undone", backfill_id=claimed.backfill_id)


def _restored(changes: Mapping[str, TagChange], stored: Mapping[str, StoredLog]) -> list[StoredLog]:
    both = ((found, undone(found.tagged, changes[log_id])) for log_id, found in stored.items())
    return [StoredLog(after, found.version) for found, after in both if after is not found.tagged]
