"""History gets its tags by the rules of one revision, or has them taken back.

A page of logs at a time, in this order: 1. read; 2. tag anew, beside the event loop; 3. commit what will be done to which log;
4. replace those logs in the index, each only if it still is as it was read, else from 1; 5. commit the place. A crash at any step
leaves a page that is done again, and done again it is the same: whoever reads the changes never misses one.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

import structlog

from tunemill.curator_api import job_store as store
from tunemill.curator_api import job_work
from tunemill.curator_api.job_store import Job
from tunemill.curator_api.job_work import Jobs, NotTaken, pages, place_of, query_of, told_within
from tunemill.curator_api.tag_changes import TagChange, change, undone
from tunemill.curator_api.tagging import Tagger
from tunemill.indexer.ast import Everything
from tunemill.indexer.search import SearchIndex
from tunemill.registry import rule_sets
from tunemill.registry.rule_sets import RuleSet
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.stored import StoredLog

SETTLE_S = (
    5.0  # after rules were put in force: until workers use them, and what they tagged by the older ones is stored
)

_log = structlog.get_logger()


async def set_anew(on: Jobs, claimed: Job, stop: asyncio.Event) -> None:
    """Set the tags of the logs that match by the rules of one revision."""
    query = query_of(claimed)
    whole = isinstance(query, Everything)
    rules = await asyncio.to_thread(_rules, on, claimed)
    settled_s = (rules.created_ms or 0) / 1000 + SETTLE_S - time.time()
    if await told_within(stop, min(settled_s, SETTLE_S)):  # whatever the clock says of whoever put them in force
        return
    await on.index.refresh()  # what was written before is scanned
    tagger = await asyncio.to_thread(_tagger, on, rules, whole=whole)
    async for page in pages(on, query, claimed, pass_by=tagger.pass_by if whole else None):
        if stop.is_set():
            return
        await _retag(on, claimed, tagger, page)
        changed = await asyncio.to_thread(
            store.count_noted, on.registry, claimed.job_id, [tagged.log.log_id for tagged in page]
        )
        place = place_of(page[-1])
        await asyncio.to_thread(store.advance, on.registry, claimed, place, seen=len(page), changed=changed)
    await on.index.refresh()
    await asyncio.to_thread(store.finish, on.registry, claimed, "done")
    _log.info("job_done", job_id=claimed.job_id)


def _rules(on: Jobs, claimed: Job) -> RuleSet:
    found = None if claimed.revision is None else rule_sets.find(on.registry, on.project, claimed.revision)
    if found is None:
        raise LookupError(claimed.revision)
    return found


def _tagger(on: Jobs, rules: RuleSet, *, whole: bool) -> Tagger:
    learned = rule_sets.learned_in(on.registry, on.project, rules)
    return on.tagging.compiled(rules.document, learned, whole=whole)


async def _retag(on: Jobs, claimed: Job, tagger: Tagger, page: Sequence[TaggedLog]) -> None:
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
        raise NotTaken(f"the index does not take {refused} of its logs back: is its mapping another one than ours?")
    return [log.tagged.log.log_id for log, end in zip(wanted, ends, strict=True) if end is None]


async def take_back(on: Jobs, claimed: Job, stop: asyncio.Event) -> None:
    """Undo what was done, in the order of log ids."""
    place = claimed.place[0] if claimed.place else ""
    while changes := await asyncio.to_thread(
        store.changes_after, on.registry, claimed.job_id, place, limit=job_work.PAGE
    ):
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
    _log.info("job_undone", job_id=claimed.job_id)


def _restored(changes: Mapping[str, TagChange], stored: Mapping[str, StoredLog]) -> list[StoredLog]:
    both = ((found, undone(found.tagged, changes[log_id])) for log_id, found in stored.items())
    return [StoredLog(after, found.version) for found, after in both if after is not found.tagged]
