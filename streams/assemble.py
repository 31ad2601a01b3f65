"""Parts of calls and traces' notes -> logs in the index, whatever lies there of them already.

Several workers may hold parts of one trace. Nobody locks; each write names the state that it replaces. In this order:
1. read the traces' notes, and what there is of the logs; 2. write the logs, with what the notes say; 3. put the notes, which
name these logs. Where another worker came in between, its change is read and all is done once more. So a note that is put
has been applied to each log that it names; and who wrote a log that it does not name yet will find, when it puts the note,
that it changed. A crash leaves at worst a log that its trace's note does not name: its parts come again and make up for it.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import msgspec
import structlog

from tunemill.schemas.outcome import ID_CONFLICT, Outcome, Written
from tunemill.schemas.records import LogRecord, TaggedLog
from tunemill.schemas.stored import Stored, StoredLog, StoredNote
from tunemill.schemas.trace import TraceNote
from tunemill.streams.dead_letter import MAX_PAYLOAD_BYTES
from tunemill.streams.mask import Masked, MaskedPiece, mask_beside
from tunemill.streams.merge import holds_note, join, merge_notes, with_note
from tunemill.streams.ports import LogIndex
from tunemill.streams.rules import Rules
from tunemill.streams.tag import retag, tag
from tunemill.telemetry.metrics import NOT_CALLS

MAX_LOG_BYTES = MAX_PAYLOAD_BYTES  # of a log's JSON: as much as any record that came in one may have, as a dead letter
_TRACES = 1000  # worked on at one time
_FIRST_WAIT_S = 0.02
_LONGEST_WAIT_S = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Assembled:
    """What became of one part, and the log that it is in; the part alone where it could not be joined."""

    written: Written
    log: LogRecord


@dataclass(slots=True)
class _Trace:
    """What is in hand of one trace; a log without a trace is one of its own, without an id."""

    trace_id: str | None
    notes: list[TraceNote] = field(default_factory=list)
    parts: dict[str, dict[int, MaskedPiece]] = field(default_factory=dict)  # by log_id, and by place in their order


@dataclass(frozen=True, slots=True)
class _Change:
    """One log, and what it becomes."""

    log_id: str
    stored: StoredLog | None
    tagged: TaggedLog | None  # None: the parts are not joined to it
    parts: Mapping[int, MaskedPiece]  # those in hand, by place
    ends: Sequence[Outcome] = ()  # of each of them, once this is written
    refusal: tuple[str, str] = (
        "internal",
        "the parts of the call could not be joined",
    )  # the code, and why they are not joined

    @property
    def is_new(self) -> bool:
        return self.tagged is not None and (self.stored is None or self.stored.tagged != self.tagged)


@dataclass(frozen=True, slots=True)
class _Note:
    """A trace's note, as it is stored and with what is in hand."""

    before: TraceNote
    now: TraceNote
    version: Any

    @property
    def says_more(self) -> bool:
        """Whether there is something new for the calls that were there before."""
        return _less_calls(self.now) != _less_calls(self.before)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be written for one trace."""

    trace: _Trace
    note: _Note | None
    changes: tuple[_Change, ...]

    def is_written(self, written: Mapping[str, Written | None]) -> bool:
        """Whether no log of it was changed by others meanwhile."""
        return all(written[change.log_id] is not None for change in self.changes if change.is_new)


async def assemble(told: Sequence[MaskedPiece | TraceNote], index: LogIndex, rules: Rules) -> Mapping[int, Assembled]:
    """Join these parts, in order, to what the index holds of their logs, and apply the notes to all calls of their traces.

    Returns:
        What became of each part, by its place among `told`. Everything is in the index or rejected.
    """
    ends: dict[int, Assembled] = {}
    traces = _traces(told)
    for start in range(0, len(traces), _TRACES):
        waiting = traces[start : start + _TRACES]
        attempt = 0
        while waiting := await _once(waiting, index, rules, ends):
            await _before_next(attempt, len(waiting))
            attempt += 1
    return ends


def _traces(told: Sequence[MaskedPiece | TraceNote]) -> list[_Trace]:
    """What is in hand, by trace; all parts of one log are in one."""
    trace_of: dict[str, str | None] = {}
    for item in told:
        if isinstance(item, MaskedPiece):
            log = item.piece.log
            trace_of[log.log_id] = trace_of.get(log.log_id) or log.trace_id
    found: dict[tuple[str, str], _Trace] = {}

    def trace(trace_id: str | None, log_id: str = "") -> _Trace:
        return found.setdefault(("trace", trace_id) if trace_id else ("log", log_id), _Trace(trace_id or None))

    for place, item in enumerate(told):
        note = item.piece.note if isinstance(item, MaskedPiece) else item
        if isinstance(item, MaskedPiece):
            log_id = item.piece.log.log_id
            trace(trace_of[log_id], log_id).parts.setdefault(log_id, {})[place] = item
        if note is not None and note.trace_id:
            trace(note.trace_id).notes.append(note)
    return list(found.values())


async def _once(traces: Sequence[_Trace], index: LogIndex, rules: Rules, ends: dict[int, Assembled]) -> list[_Trace]:
    """The three steps for each of these traces; those are returned in which another worker came in between."""
    # 1. What is there.
    stored = await index.stored(
        log_ids=[log_id for trace in traces for log_id in trace.parts],
        trace_ids=[trace.trace_id for trace in traces if trace.trace_id],
    )
    notes = [_note(trace, stored, rules) for trace in traces]
    earlier = [log_id for note in notes if note and note.says_more for log_id in note.before.log_ids]
    if earlier:
        more = await index.stored(log_ids=[log_id for log_id in earlier if log_id not in stored.logs], trace_ids=[])
        stored = Stored({**more.logs, **stored.logs}, stored.notes)
    plans = await asyncio.to_thread(_plans, traces, notes, stored, rules)
    # 2. The logs, with what the notes say.
    written = await _write([change for plan in plans for change in plan.changes if change.is_new], index)
    _settle(plans, written, ends)
    # 3. The notes that are new, of traces whose logs are all written.
    done = [plan for plan in plans if plan.is_written(written)]
    _count_too_large(done)
    put = await _put([plan.note for plan in done if plan.note and plan.note.now != plan.note.before], index)
    return [plan.trace for plan in plans if not plan.is_written(written) or plan.trace.trace_id in put]


def _note(trace: _Trace, stored: Stored, rules: Rules) -> _Note | None:
    if trace.trace_id is None:
        return None
    found = stored.notes.get(trace.trace_id, StoredNote(TraceNote(trace_id=trace.trace_id)))
    calls = TraceNote(trace_id=trace.trace_id, log_ids=tuple(trace.parts))
    known = _as_masked(found.note) if rules.masks_private_data else found.note
    return _Note(found.note, reduce(merge_notes, (*trace.notes, calls), known), found.version)


def _as_masked(note: TraceNote) -> TraceNote:
    """A note that may have been stored under another policy; what it tells goes into new logs. Its ids stay: it is found by them."""
    masked = mask_beside(note, private=True)
    return msgspec.structs.replace(masked, trace_id=note.trace_id, log_ids=note.log_ids)


def _count_too_large(plans: Sequence[_Plan]) -> None:
    """Say of how many notes something was left out, because what is said about their traces is too much."""
    notes = [(plan.note.now, said) for plan in plans if plan.note for said in plan.trace.notes]
    if count := sum(not holds_note(now, said) for now, said in notes):
        NOT_CALLS.labels("trace_note_too_large").inc(count)
        _log.warning("trace_notes_too_large", notes=count)


def _less_calls(note: TraceNote) -> TraceNote:
    return msgspec.structs.replace(note, log_ids=())


def _plans(traces: Sequence[_Trace], notes: Sequence[_Note | None], stored: Stored, rules: Rules) -> list[_Plan]:
    return [_plan(trace, note, stored, rules) for trace, note in zip(traces, notes, strict=True)]


def _plan(trace: _Trace, note: _Note | None, stored: Stored, rules: Rules) -> _Plan:
    """Each log in hand with its parts; with its trace's note, too, unless it has that already; so each earlier one."""
    changes = []
    for log_id, parts in trace.parts.items():
        found = stored.logs.get(log_id)
        has_note = note and not note.says_more and log_id in note.before.log_ids and found
        changes.append(_change(log_id, found, parts, None if has_note else note, rules))
    if note and note.says_more:
        earlier = [log_id for log_id in note.before.log_ids if log_id in stored.logs and log_id not in trace.parts]
        changes += [_change(log_id, stored.logs[log_id], {}, note, rules) for log_id in earlier]
    return _Plan(trace, note, tuple(changes))


def _change(
    log_id: str, stored: StoredLog | None, parts: Mapping[int, MaskedPiece], note: _Note | None, rules: Rules
) -> _Change:
    try:
        log, ends = _joined(stored, list(parts.values()))
        if note:
            log = with_note(log, note.now)
        if len(msgspec.json.encode(log)) > MAX_LOG_BYTES:
            reason = f"with its parts the call would have over {MAX_LOG_BYTES} bytes"
            return _Change(log_id, stored, None, parts, refusal=("too_large", reason))
        new = [part for part, end in zip(parts.values(), ends, strict=True) if end is not Outcome.DUPLICATE]
        kinds = tuple(kind for part in new for kind in part.kinds)
        private = tuple(kind for part in new for kind in part.private)
        masked = Masked(log, kinds, private=private)
        return _Change(log_id, stored, _tagged(stored, masked, rules), parts, ends)
    except Exception as error:  # one log that nobody foresaw must not hold up the others for ever
        _log.error("parts_not_joined", error=type(error).__name__)
        return _Change(log_id, stored, None, parts)


def _joined(stored: StoredLog | None, parts: Sequence[MaskedPiece]) -> tuple[LogRecord, list[Outcome]]:
    """The log with these parts, and what becomes of each: the first of a new log is the one that is indexed."""
    log, is_new = join(stored.tagged.log if stored else None, [part.piece for part in parts])
    ends = [Outcome.MERGED if new else Outcome.DUPLICATE for new in is_new]
    if not stored:
        ends[0] = Outcome.INDEXED
    if stored and log == stored.tagged.log:  # a replay, though one part may have taken back what another says again
        ends = [Outcome.DUPLICATE] * len(ends)
    return log, ends


def _tagged(stored: StoredLog | None, masked: Masked, rules: Rules) -> TaggedLog:
    if stored is None:
        return tag(masked, rules)
    return stored.tagged if masked.log == stored.tagged.log else retag(stored.tagged, rules, grown=masked)


async def _write(changes: Sequence[_Change], index: LogIndex) -> dict[str, Written | None]:
    """What became of each log; None: another worker changed it meanwhile."""
    written: dict[str, Written | None] = {}
    created = [change.tagged for change in changes if change.tagged and not change.stored]
    if created:
        for done in await index.write(created):
            is_taken = done.outcome is Outcome.DUPLICATE or done.error_code == ID_CONFLICT
            written[done.log_id] = None if is_taken else done
    replaced = [
        StoredLog(change.tagged, change.stored.version) for change in changes if change.tagged and change.stored
    ]
    if replaced:
        for stored, end in zip(replaced, await index.replace(replaced), strict=True):
            written[stored.tagged.log.log_id] = end
    return written


async def _put(notes: Sequence[_Note], index: LogIndex) -> set[str]:
    """The traces whose notes another worker changed meanwhile."""
    if not notes:
        return set()
    done = await index.put_notes([StoredNote(note.now, note.version) for note in notes])
    return {note.now.trace_id for note, is_put in zip(notes, done, strict=True) if not is_put}


def _settle(plans: Sequence[_Plan], written: Mapping[str, Written | None], ends: dict[int, Assembled]) -> None:
    """Note what became of the parts of each log that is written; what was noted in an earlier round stays."""
    for change in (change for plan in plans for change in plan.changes):
        end = written.get(change.log_id)
        if change.tagged is None:
            end = Written(change.log_id, Outcome.REJECTED, *change.refusal)
        elif change.is_new and end is None:
            continue
        is_rejected = end is not None and end.outcome is Outcome.REJECTED
        if is_rejected and not change.parts:
            _log.warning("note_not_applied", code=end and end.error_code)
        for at, (place, part) in enumerate(change.parts.items()):
            log = change.tagged.log if change.tagged else part.piece.log
            became = end if end is not None and is_rejected else Written(change.log_id, change.ends[at])
            ends.setdefault(place, Assembled(became, log))


async def _before_next(attempt: int, traces: int) -> None:
    wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt, 20))
    if attempt > 2:
        _log.warning("traces_changed_by_others", traces=traces, attempt=attempt)
    await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  spreads the workers, guards no secret
