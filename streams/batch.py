"""One batch of messages, end to end, in two halves: reading needs a processor, accounting for what was read waits for engines.

`streams/flow.py` calls this, and nothing else writes logs.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from tunemill.bus.port import Bus, Message, Outgoing
from tunemill.schemas import wire
from tunemill.schemas.about import names
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Feedback, LogRecord, RejectedLog, TaggedLog
from tunemill.schemas.topics import FEEDBACK, REJECTED
from tunemill.schemas.trace import TraceNote
from tunemill.streams.assemble import assemble
from tunemill.streams.conflict import judged
from tunemill.streams.confluent import Schemas, schema_ids
from tunemill.streams.dead_letter import dead_letter
from tunemill.streams.erased import ErasedLogs, beside
from tunemill.streams.formats.shape import NotACall, Piece
from tunemill.streams.mask import MaskedPiece
from tunemill.streams.near import Near
from tunemill.streams.ports import LogIndex
from tunemill.streams.process import process
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import Rules
from tunemill.streams.schema_registry import SchemaRegistry
from tunemill.telemetry import metrics

_WRITE_LOGS = 4000  # per call of the index: a commit of the embedded one has a price of its own

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hop:
    """What a batch is worked on with."""

    index: LogIndex
    bus: Bus
    erased: ErasedLogs
    rulebook: Rulebook
    schemas: SchemaRegistry | None = None
    near: Near = field(default_factory=Near)  # used by one batch at a time


class _Origin(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """Something that a message told, and where it came from."""

    item: T
    message: Message
    place: int


@dataclass(slots=True)
class Batch:
    """What the messages told, by what is done with it."""

    rules: Rules  # those that they were read with
    begun: float  # on the monotonic clock
    logs: list[_Origin[TaggedLog]] = field(default_factory=list)
    told: list[_Origin[MaskedPiece | TraceNote]] = field(default_factory=list)  # parts of logs, and about their traces
    feedback: list[Feedback] = field(default_factory=list)
    unreadable: list[RejectedLog] = field(default_factory=list)
    beside: Counter[str] = field(default_factory=Counter)  # what is no log and no part of one, by kind
    received: int = 0  # logs and parts of logs, counted before anything becomes of them


class _End(msgspec.Struct, frozen=True, gc=False):
    """What became of one log or part of one, and the masked log that it is or is in."""

    written: Written
    log: LogRecord
    origin: _Origin[Any]


async def run_batch(messages: Sequence[Message], hop: Hop) -> Mapping[Outcome, int]:
    """Account for every log in these messages: when this returns, each is indexed, joined to one that was there, a duplicate, a
    dead letter or erased.

    The order of the steps is the promise; only after the last may the messages be acknowledged.

    Raises:
        Exception: whatever the index or the bus raised. Nothing was acknowledged, and the batch comes again.
    """
    return await account_for(await read_batch(messages, hop), hop)


async def read_batch(messages: Sequence[Message], hop: Hop) -> Batch:
    """The first half: steps 0 and 1, which leave no trace."""
    begun, rules = time.monotonic(), hop.rulebook.rules
    # 0. The schemas of Confluent's frames, if there are any.
    schemas = await hop.schemas.look_up(schema_ids(message.value for message in messages)) if hop.schemas else None
    # 1. Bytes to tagged logs, parts of logs and rejections, off the event loop.
    return await asyncio.to_thread(_process_all, messages, Batch(rules, begun), schemas, hop.near)


async def account_for(batch: Batch, hop: Hop, *, after: asyncio.Event | None = None) -> Mapping[Outcome, int]:
    """The second half: steps 2 to 6.

    Args:
        after: is set once all earlier messages are accounted for. Feedback waits for it: of two with one id the later one holds.
    """
    # 2. Drop what was erased. Delete it, too: a crash after step 3 may have left it in the index.
    erased = await _drop_erased(batch, hop)
    # 3. Write whole logs, then join parts to what is there, and wait until all of them are accounted for.
    ends = [*await _write(batch.logs, hop.index, batch.rules), *await _assemble(batch.told, hop.index, batch.rules)]
    # 4. An erasure may have come while the write ran: look again.
    late = await _erase_late(batch, ends, hop)
    # 5. Feedback and dead letters, durable before anything is acknowledged.
    letters = [*batch.unreadable, *_refused(ends, late, batch.rules)]
    if batch.feedback and after is not None:
        await after.wait()
    await _publish(batch.feedback, letters, hop.bus)
    # 6. Counters.
    counts = _count(ends, late, erased, len(batch.unreadable))
    _report(batch, counts, letters)
    return counts


def next_offsets(messages: Iterable[Message]) -> dict[tuple[str, int], int]:
    """The offset to read next of each (topic, partition), when all of these messages are finished."""
    highest: dict[tuple[str, int], int] = {}
    for message in messages:
        place = (message.topic, message.partition)
        highest[place] = max(highest.get(place, 0), message.offset + 1)
    return highest


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _process_all(messages: Sequence[Message], read: Batch, schemas: Schemas | None, near: Near) -> Batch:
    told = process(messages, read.rules, schemas, now_ms=_now_ms())
    for message, results in zip(messages, told, strict=True):
        for place, result in enumerate(results):
            match result:
                case TaggedLog():
                    read.logs.append(_Origin(near.mark(result), message, place))
                case MaskedPiece():
                    read.told.append(_Origin(result, message, place))
                case TraceNote():
                    read.told.append(_Origin(result, message, place))
                    read.beside["trace_note"] += 1
                case Feedback():
                    read.feedback.append(result)
                    read.beside["feedback"] += 1
                case NotACall(kind):
                    read.beside[kind] += 1
                case RejectedLog():
                    read.unreadable.append(result)
    read.received = sum(map(len, told)) - read.beside.total()
    return read


async def _drop_erased(read: Batch, hop: Hop) -> int:
    """Forget what belongs to erased logs, and delete those; how many logs and parts of logs that was."""
    await hop.erased.catch_up()
    await _drop_said(read, hop)
    origins: list[_Origin[Any]] = [*read.logs, *read.told]
    erased = [log_id for log_id in map(_log_id, origins) if log_id in hop.erased]
    if erased:
        await hop.index.delete(list(dict.fromkeys(erased)))
        read.logs = [origin for origin in read.logs if _log_id(origin) not in hop.erased]
        read.told = [origin for origin in read.told if _log_id(origin) not in hop.erased]
    return len(erased)


async def _drop_said(read: Batch, hop: Hop) -> None:
    """Forget what was said beside erased logs: traces' notes and feedback. Each is counted."""
    notes = [one.item for one in read.told if isinstance(one.item, TraceNote) and hop.erased.forgets(one.item)]
    if notes:
        await hop.index.forget_said(list({name for note in notes for name in beside(note)}))
        read.told = [
            one for one in read.told if not isinstance(one.item, TraceNote) or not hop.erased.forgets(one.item)
        ]
    kept = [one for one in read.feedback if not hop.erased.forgets(one)]
    for kind, gone in (("trace_note", len(notes)), ("feedback", len(read.feedback) - len(kept))):
        if gone:
            read.beside[kind] -= gone
            read.beside[f"{kind}_erased"] += gone
    read.feedback = kept


def _log_id(origin: _Origin[Any]) -> str:
    """The id of the log that this is or is a part of; a trace's note has none."""
    match origin.item:
        case TaggedLog(log=log) | MaskedPiece(piece=Piece(log=log)):
            return log.log_id
    return ""


async def _write(origins: Sequence[_Origin[TaggedLog]], index: LogIndex, rules: Rules) -> list[_End]:
    written: list[Written] = []
    for start in range(0, len(origins), _WRITE_LOGS):
        logs = [origin.item for origin in origins[start : start + _WRITE_LOGS]]
        written += await judged(logs, await index.write(logs), index, rules)
    return [_End(done, origin.item.log, origin) for origin, done in zip(origins, written, strict=True)]


async def _assemble(origins: Sequence[_Origin[MaskedPiece | TraceNote]], index: LogIndex, rules: Rules) -> list[_End]:
    if not origins:
        return []
    assembled = await assemble([origin.item for origin in origins], index, rules)
    return [
        _End(assembled[place].written, assembled[place].log, origin)
        for place, origin in enumerate(origins)
        if place in assembled
    ]


async def _erase_late(batch: Batch, ends: Sequence[_End], hop: Hop) -> set[str]:
    """The ids of logs that were erased while they were written; they are deleted again, with what was said beside them."""
    if not ends and not batch.told and not batch.feedback:
        return set()
    await hop.erased.catch_up()
    await _drop_said(batch, hop)
    late = {end.log.log_id for end in ends if end.log.log_id in hop.erased}
    if late:
        await hop.index.delete(sorted(late))
        traces = {name for end in ends if end.log.log_id in late for name in names(None, None, end.log.trace_id)}
        if about := sorted(name for name in traces if name in hop.erased):
            await hop.index.forget_said(about)
    return late


def _refused(ends: Sequence[_End], late: set[str], rules: Rules) -> list[RejectedLog]:
    """The dead letters of what the index would not take, holding the masked log; nothing is kept of what was erased."""
    now_ms = _now_ms()
    return [
        dead_letter(
            end.origin.message,
            end.origin.place,
            msgspec.json.encode(end.log),
            stage="index",
            code=end.written.error_code or "refused",
            reason=end.written.reason or "the index refused the log",
            now_ms=now_ms,
            private=rules.masks_private_data,
        )
        for end in ends
        if end.written.outcome is Outcome.REJECTED and end.log.log_id not in late
    ]


async def _publish(feedback: Sequence[Feedback], letters: Sequence[RejectedLog], bus: Bus) -> None:
    if feedback:
        await bus.publish(FEEDBACK, [Outgoing(wire.encode(item), key=item.feedback_id) for item in feedback])
    if letters:
        await bus.publish(REJECTED, [Outgoing(wire.encode(letter), key=letter.rejected_id) for letter in letters])


def _count(ends: Sequence[_End], late: set[str], erased: int, unreadable: int) -> Mapping[Outcome, int]:
    """Each log once, and each part of one; what was erased while it was written counts as erased, whatever the index had said."""
    counts = dict.fromkeys(Outcome, 0)
    for end in ends:
        counts[Outcome.ERASED if end.log.log_id in late else end.written.outcome] += 1
    counts[Outcome.ERASED] += erased
    counts[Outcome.REJECTED] += unreadable
    return counts


def _report(batch: Batch, counts: Mapping[Outcome, int], letters: Iterable[RejectedLog]) -> None:
    metrics.LOGS.labels("received").inc(batch.received)
    for outcome, count in counts.items():
        metrics.LOGS.labels(outcome.value).inc(count)
    for letter in letters:
        metrics.REJECTED.labels(letter.stage, letter.error_code).inc()
    for kind, count in batch.beside.items():
        metrics.NOT_CALLS.labels(kind).inc(count)
    metrics.BATCH_SECONDS.observe(time.monotonic() - batch.begun)
    metrics.LAST_PROGRESS.set_to_current_time()
