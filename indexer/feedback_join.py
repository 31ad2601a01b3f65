"""Feedback reaches the logs that it is about, so that they are found by it: a task beside the API, on either engine.

Feedback and its log come in either order and by different ways, so each feedback is due as soon as it is stored. A round, in
this order: 1. read what is due; 2. read the logs that it is about; 3. write into each log what is said of it by now, only if the
log still is as it was read, else from 2; 4. put off what has not met its log. A crash leaves a round that is done again, and several
processes may be at it at once.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import msgspec
import structlog

from tunemill.indexer.ast import Is, Or, Query
from tunemill.indexer.feedback import NEVER, FeedbackDocument, StoredFeedback, names_of, said
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.stored import StoredLog

LOOK_EVERY_S = 1.0
LONGEST_WAIT_S = 30.0  # between attempts while the index is away
AT_ONCE = 500  # feedbacks of a round
LOGS_AT_ONCE = 100
SOONEST_MS = 1_000  # until a log that is not there is looked for again; then, after as long as was waited already
TRACE_GROWS_MS = 24 * 3600 * 1000  # so long after its feedback a trace may get further calls

_FIELDS = {"response": "response_id", "trace": "trace"}  # of `about` -> in a search

_log = structlog.get_logger()


async def join_until(stop: asyncio.Event, index: SearchIndex) -> None:
    """Bring feedback to its logs until told to stop; whatever fails is tried again, later each time."""
    wait_s = LOOK_EVERY_S
    while not stop.is_set():
        try:
            if await join(index, now_ms=time.time_ns() // 1_000_000) == AT_ONCE:
                await index.refresh()  # else the same ones would seem to be due still
                continue
            wait_s = LOOK_EVERY_S
        except Exception as error:  # the index is away
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            _log.warning("feedback_waits", error=type(error).__name__, again_in_s=wait_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)


async def join(index: SearchIndex, *, now_ms: int) -> int:
    """One round; how many feedbacks were due."""
    due = await index.due_feedback(now_ms=now_ms, limit=AT_ONCE)
    met: set[str] = set()
    async for log_ids in _logs_about(index, [stored.document.about for stored in due]):
        met |= await _brought(index, log_ids)
    put_off = [
        StoredFeedback(_due_again(stored.document, is_met=stored.document.about in met, now_ms=now_ms), stored.version)
        for stored in due
    ]
    if put_off:
        await index.put_off(put_off)
    return len(due)


def _due_again(document: FeedbackDocument, *, is_met: bool, now_ms: int) -> FeedbackDocument:
    """The feedback with the time of its next round: a log that comes late gets it after as long again, at most."""
    age_ms = now_ms - document.since
    may_grow = document.about.startswith("trace:") and age_ms < TRACE_GROWS_MS
    due_ms = NEVER if is_met and not may_grow else now_ms + max(SOONEST_MS, age_ms)
    return msgspec.structs.replace(document, due=min(due_ms, NEVER))


async def _logs_about(index: SearchIndex, about: Sequence[str]) -> AsyncIterator[list[str]]:
    """The ids of the logs with these names, some at once; a log that is named by its own id may not be there."""
    kinds = [name.partition(":") for name in dict.fromkeys(about)]
    log_ids = [value for kind, _, value in kinds if kind == "log"]
    terms: list[Query] = [Is(_FIELDS[kind], value) for kind, _, value in kinds if kind in _FIELDS]
    if terms:
        found = index.scan(terms[0] if len(terms) == 1 else Or(tuple(terms)), limit=None)
        log_ids += [tagged.log.log_id async for tagged in found]
    log_ids = list(dict.fromkeys(log_ids))
    for start in range(0, len(log_ids), LOGS_AT_ONCE):
        yield log_ids[start : start + LOGS_AT_ONCE]


async def _brought(index: SearchIndex, log_ids: Sequence[str]) -> set[str]:
    """Write into each log what is said of it; every name of those that are there."""
    met: set[str] = set()
    waiting = list(log_ids)
    while waiting:
        logs = list((await index.stored(log_ids=waiting, trace_ids=[])).logs.values())
        items = await asyncio.gather(*(index.feedback_of(stored.tagged.log) for stored in logs))
        now_said = [
            StoredLog(msgspec.structs.replace(stored.tagged, feedback=said(some)), stored.version)
            for stored, some in zip(logs, items, strict=True)
        ]
        met.update(name for stored in logs for name in names_of(stored.tagged.log))
        waiting = await _replaced(
            [new for new, old in zip(now_said, logs, strict=True) if new.tagged != old.tagged], index
        )
    return met


async def _replaced(logs: Sequence[StoredLog], index: SearchIndex) -> list[str]:
    """Store these logs; the ids of those that somebody else changed since they were read, or had forgotten."""
    ends = await index.replace(logs) if logs else []
    refused = sum(end is not None and end.outcome is Outcome.REJECTED for end in ends)
    if refused:
        _log.warning("feedback_not_taken", logs=refused)
    return [stored.tagged.log.log_id for stored, end in zip(logs, ends, strict=True) if end is None]
