"""What people do to logs: tags, other messages, consent. It lies beside what came, so that neither loses the other.

In this order: 1. the registry remembers it, numbered per log; 2. the index gets every row that it does not have yet, each log only if
it still is as it was read, else from 2; 3. the rows are marked. A crash leaves rows without a mark, and a log that was dropped and
comes again has lost what was done to it: `apply_until` finds both.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Protocol

import msgspec
import structlog
from sqlalchemy import Engine

from tunemill.curator_api import edit_store
from tunemill.curator_api.edit_store import Act, EditRow
from tunemill.curator_api.edit_tries import Tries
from tunemill.curator_api.errors import NotFound, Unprocessable
from tunemill.indexer.errors import IndexUnavailable
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Edit, Tag, TaggedLog
from tunemill.schemas.stored import StoredLog
from tunemill.telemetry.metrics import EDITS_WITHOUT_LOG

DEADLINE_S = 10.0  # the index waits for an engine that is away; a person does not
LOOK_EVERY_S = 5.0  # for edits that a crash kept from the index
SETTLED_MS = 15_000  # those of this age: whoever recorded younger ones may be at it
LONGEST_WAIT_S = 60.0  # between looks while something is away
BRING_BACK_EVERY_S = 3_600.0
_PAGE = 500

KEPT = ("caller", "person:")  # who set a tag before, and still has when a person adds it

_log = structlog.get_logger()


class Stores(Protocol):
    """Where the logs of a project are, and what people did to them."""

    @property
    def index(self) -> SearchIndex: ...
    @property
    def registry(self) -> Engine: ...
    @property
    def project(self) -> str: ...


async def change(
    on: Stores, log_id: str, acts: Sequence[Act], *, by: str, why: str | None = None, expected: int | None = None
) -> TaggedLog:
    """Do this to a log, remember who did it and why, and give the log as it is then; findable so after a refresh.

    Args:
        expected: the last revision that the person has seen; None: it does not matter.

    Raises:
        NotFound: there is no such log, or it was erased.
        EditedMeanwhile: its last revision is not the one that is expected.
        IndexUnavailable: the engine does not answer in time.
    """
    changed = await change_many(
        on, {log_id: acts}, by=by, why=why, expected=None if expected is None else {log_id: expected}
    )
    if log_id not in changed:
        raise NotFound("there is no such log")
    return changed[log_id]


async def change_many(
    on: Stores,
    acts: Mapping[str, Sequence[Act]],
    *,
    by: str,
    why: str | None = None,
    job_id: str | None = None,
    expected: Mapping[str, int] | None = None,
) -> dict[str, TaggedLog]:
    """Likewise for many logs, by log_id; those that are not there or were erased are left out."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            there = await _stored(on, acts)  # nothing is remembered about a log that is not there
            recorded = await asyncio.to_thread(
                edit_store.record,
                on.registry,
                on.project,
                {log_id: acts[log_id] for log_id in there},
                by=by,
                why=why,
                job_id=job_id,
                expected=expected,
                indexed={log_id: stored.tagged.revision for log_id, stored in there.items()},
            )
            return await apply(on, list(recorded))
    except TimeoutError as error:
        raise IndexUnavailable(f"the logs could not be changed in {DEADLINE_S:.0f} s") from error


async def apply(on: Stores, log_ids: Sequence[str]) -> dict[str, TaggedLog]:
    """Let the index have whatever people did to these logs; each log as it is then, those left out that are not there.

    Raises:
        Unprocessable: the index does not take a log with what was done to it; it takes the others.
    """
    done, refused = await _apply(on, log_ids)
    if refused:
        raise Unprocessable(
            "the index does not take the log with what was done to it: take it back, or make it shorter"
        )
    return done


async def _apply(on: Stores, log_ids: Sequence[str]) -> tuple[dict[str, TaggedLog], set[str]]:
    """The logs that have all of it now, and those that the index refuses."""
    done: dict[str, TaggedLog] = {}
    refused: set[str] = set()
    waiting = set(log_ids)
    while waiting:
        found = await _stored(on, waiting)
        after = {log_id: stored.tagged.revision for log_id, stored in found.items()}
        rows = await asyncio.to_thread(edit_store.edits_of, on.registry, on.project, list(found), after=after)
        wanted = {
            log_id: StoredLog(with_edits(stored.tagged, rows.get(log_id, ())), stored.version)
            for log_id, stored in found.items()
        }
        ends = await _replaced(on.index, [wanted[log_id] for log_id in rows])
        refused |= {log_id for log_id, end in ends.items() if end is not None and end.outcome is Outcome.REJECTED}
        waiting = {log_id for log_id, end in ends.items() if end is None}  # somebody else changed it since it was read
        done |= {log_id: one.tagged for log_id, one in wanted.items() if log_id not in waiting | refused}
    revisions = {log_id: tagged.revision for log_id, tagged in done.items()}
    await asyncio.to_thread(edit_store.applied, on.registry, on.project, revisions)
    return done, refused


def brought_up(engine: Engine, project: str, logs: Sequence[TaggedLog]) -> list[TaggedLog]:
    """These logs with what people did to them and the index does not have yet."""
    revisions = {tagged.log.log_id: tagged.revision for tagged in logs}
    rows = edit_store.edits_of(engine, project, list(revisions), after=revisions)
    return [with_edits(tagged, rows.get(tagged.log.log_id, ())) for tagged in logs] if rows else list(logs)


def with_edits(tagged: TaggedLog, rows: Sequence[EditRow]) -> TaggedLog:
    """The log with those of these rows, given in order, that it does not have yet."""
    newer = (row for row in rows if row.revision > tagged.revision)
    return reduce(_with_edit, newer, tagged)


async def apply_until(stop: asyncio.Event, on: Stores) -> None:
    """Now and again, until told to stop, let the index have what it lacks. Whatever is away is waited for."""
    wait_s, tries = 0.0, Tries()
    bring_back_s = time.monotonic() + BRING_BACK_EVERY_S
    while not await _waited(stop, wait_s):
        try:
            missing = await apply_pending(on, before_ms=time.time_ns() // 1_000_000 - SETTLED_MS, tries=tries)
            EDITS_WITHOUT_LOG.set(missing)
            if time.monotonic() >= bring_back_s:
                await bring_back(on)
                bring_back_s = time.monotonic() + BRING_BACK_EVERY_S
            wait_s = LOOK_EVERY_S
        except Exception as error:  # the index or the registry is away
            wait_s = min(max(wait_s * 2, LOOK_EVERY_S), LONGEST_WAIT_S)
            _log.warning("edits_wait", error=type(error).__name__, again_in_s=wait_s)


async def apply_pending(on: Stores, *, before_ms: int, tries: Tries | None = None) -> int:
    """Let the index have all that was done before a moment; of how many logs it has not, most because they are not there.

    Args:
        tries: which logs are not to be tried now, as they failed before; they are counted all the same.
    """
    tries = Tries() if tries is None else tries
    missing: set[str] = set()
    failed: list[str] = []
    after_seq = 0
    while page := await asyncio.to_thread(
        edit_store.pending, on.registry, on.project, before_ms=before_ms, after_seq=after_seq, limit=_PAGE
    ):
        after_seq = page.seq
        due = tries.due(log_id for log_id in page.log_ids if log_id not in missing)
        done, _ = await _apply(on, due)
        failed += (log_id for log_id in due if log_id not in done)
        missing.update(log_id for log_id in page.log_ids if log_id not in done)
        if done:
            _log.info("edits_caught_up", logs=len(done))
    tries.failed(failed)
    tries.keep(missing)
    if failed:
        _log.warning("edits_without_log", logs=len(failed))
    return len(missing)


async def bring_back(on: Stores) -> int:
    """Let logs have their edits again that the index had with them once: those that were dropped and came again. How many."""
    brought = 0
    after = ""
    while last := await asyncio.to_thread(edit_store.last_applied, on.registry, on.project, after=after, limit=_PAGE):
        after = list(last)[-1]
        stored = await _stored(on, last)
        done, _ = await _apply(on, [log_id for log_id, one in stored.items() if one.tagged.revision < last[log_id]])
        brought += len(done)
    if brought:
        _log.info("edits_brought_back", logs=brought)
    return brought


def _with_edit(tagged: TaggedLog, row: EditRow) -> TaggedLog:
    replaced = msgspec.structs.replace(tagged, revision=row.revision)
    match row.kind:
        case "tag" if row.tag:
            removed = tuple(name for name in tagged.removed if name != row.tag)
            return msgspec.structs.replace(replaced, tags=_with_tag(tagged.tags, row.tag, row.by), removed=removed)
        case "untag" if row.tag:
            tags = tuple(tag for tag in tagged.tags if tag.tag != row.tag)
            removed = tuple(dict.fromkeys((*tagged.removed, row.tag)))
            return msgspec.structs.replace(replaced, tags=tags, removed=removed)
        case "reset" if row.tag:
            tags = _without_persons(tagged.tags, row.tag, row.value)
            removed = tuple(name for name in tagged.removed if name != row.tag)
            return msgspec.structs.replace(replaced, tags=tags, removed=removed)
        case "messages":
            edit = None if row.value is None else msgspec.convert(row.value, Edit)
            return msgspec.structs.replace(replaced, edit=edit)
        case "consent":
            return msgspec.structs.replace(replaced, consent=row.value)
    return replaced


def _with_tag(tags: Sequence[Tag], name: str, by: str) -> tuple[Tag, ...]:
    """The tags with this one. What only a rule or a model had set becomes the person's."""
    found = {tag.tag: tag for tag in tags}
    if name not in found or not found[name].by.startswith(KEPT):
        found[name] = Tag(name, by)
    return tuple(found.values())


def _without_persons(tags: Sequence[Tag], name: str, by: str | None) -> tuple[Tag, ...]:
    """The tags as they are without a person's word on this one; `by`: who had set it before."""
    found = {tag.tag: tag for tag in tags if tag.tag != name or not tag.by.startswith("person:")}
    if by is not None:
        found.setdefault(name, Tag(name, by))
    return tuple(found.values())


async def _stored(on: Stores, log_ids: Iterable[str]) -> Mapping[str, StoredLog]:
    return (await on.index.stored(log_ids=list(log_ids), trace_ids=[])).logs


async def _replaced(index: SearchIndex, wanted: Sequence[StoredLog]) -> dict[str, Written | None]:
    """What became of each of these logs; None: it is not any more as it was read."""
    ends = await index.replace(wanted) if wanted else []
    for end in ends:
        if end is not None and end.outcome is Outcome.REJECTED:
            _log.warning("edits_not_taken", code=end.error_code)
    return {log.tagged.log.log_id: end for log, end in zip(wanted, ends, strict=True)}


async def _waited(stop: asyncio.Event, seconds: float) -> bool:
    """Whether we were told to stop meanwhile."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()
