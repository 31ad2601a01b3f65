"""One batch of messages, end to end. The embedded loop and the Faust worker both call this, and nothing else writes logs."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from tunemill.bus.port import Bus, Message, Outgoing
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import RejectedLog, TaggedLog
from tunemill.schemas.topics import REJECTED
from tunemill.streams.dead_letter import dead_letter
from tunemill.streams.erased import ErasedLogs
from tunemill.streams.ports import LogIndex
from tunemill.streams.process import process
from tunemill.streams.rules import Rules
from tunemill.telemetry import metrics

PART_BYTES = 16 * 2**20  # logs take several times their bytes once they are decoded
_WRITE_LOGS = 1000  # per call of the index: a few megabytes


@dataclass(frozen=True, slots=True)
class Hop:
    """What a batch is worked on with."""

    index: LogIndex
    bus: Bus
    erased: ErasedLogs
    rules: Rules


@dataclass(frozen=True, slots=True)
class _Origin:
    """A tagged log and where it came from."""

    log: TaggedLog
    message: Message
    place: int


async def run_batch(messages: Sequence[Message], hop: Hop) -> Mapping[Outcome, int]:
    """Account for every log in these messages: when this returns, each is indexed, a duplicate, a dead letter or erased.

    The order of the steps is the promise; only after the last may the messages be acknowledged.

    Raises:
        Exception: whatever the index or the bus raised. Nothing was acknowledged, and the batch comes again.
    """
    started = time.monotonic()
    # 1. Bytes to tagged logs and rejections, off the event loop.
    origins, unreadable = await asyncio.to_thread(_process_all, messages, hop.rules, _now_ms())
    # 2. Drop what was erased. Delete it, too: a crash after step 3 may have left it in the index.
    kept, erased_ids = await _without_erased(origins, hop)
    # 3. Write, and wait until every log is accounted for.
    written = [done for chunk in _chunks(kept) for done in await hop.index.write([origin.log for origin in chunk])]
    # 4. An erasure may have come while the write ran: look again.
    late = await _erase_late(kept, hop)
    # 5. Dead letters, durable before anything is acknowledged.
    letters = [*unreadable, *_refused(kept, written, late)]
    await _publish(letters, hop.bus)
    # 6. Counters.
    counts = _count(written, late, len(erased_ids), len(unreadable))
    _report(counts, letters, time.monotonic() - started)
    return counts


def parts(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages in order, in parts of at most `PART_BYTES` or one message: what is worked on at one time fits the memory."""
    start = size = 0
    for place, message in enumerate(messages):
        if place > start and size + len(message.value) > PART_BYTES:
            yield messages[start:place]
            start, size = place, 0
        size += len(message.value)
    if messages:
        yield messages[start:]


def next_offsets(messages: Iterable[Message]) -> dict[tuple[str, int], int]:
    """The offset to read next of each (topic, partition), when all of these messages are finished."""
    highest: dict[tuple[str, int], int] = {}
    for message in messages:
        place = (message.topic, message.partition)
        highest[place] = max(highest.get(place, 0), message.offset + 1)
    return highest


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _process_all(messages: Sequence[Message], rules: Rules, now_ms: int) -> tuple[list[_Origin], list[RejectedLog]]:
    origins, letters = [], []
    for message in messages:
        for place, result in enumerate(process(message, rules, now_ms=now_ms)):
            if isinstance(result, RejectedLog):
                letters.append(result)
            else:
                origins.append(_Origin(result, message, place))
    return origins, letters


async def _without_erased(origins: Sequence[_Origin], hop: Hop) -> tuple[list[_Origin], list[str]]:
    await hop.erased.catch_up()
    gone = [origin.log.log.log_id for origin in origins if origin.log.log.log_id in hop.erased]
    if gone:
        await hop.index.delete(gone)
    return [origin for origin in origins if origin.log.log.log_id not in hop.erased], gone


def _chunks(origins: Sequence[_Origin]) -> list[Sequence[_Origin]]:
    return [origins[start : start + _WRITE_LOGS] for start in range(0, len(origins), _WRITE_LOGS)]


async def _erase_late(kept: Sequence[_Origin], hop: Hop) -> set[str]:
    """The ids of logs that were erased while they were written; they are deleted again."""
    if not kept:
        return set()
    await hop.erased.catch_up()
    late = {origin.log.log.log_id for origin in kept if origin.log.log.log_id in hop.erased}
    if late:
        await hop.index.delete(sorted(late))
    return late


def _refused(kept: Sequence[_Origin], written: Sequence[Written], late: set[str]) -> list[RejectedLog]:
    """The dead letters of what the index would not take, holding the masked log; nothing is kept of what was erased."""
    now_ms = _now_ms()
    return [
        dead_letter(
            origin.message,
            origin.place,
            msgspec.json.encode(origin.log.log),
            stage="index",
            code=done.error_code or "refused",
            reason=done.reason or "the index refused the log",
            now_ms=now_ms,
        )
        for origin, done in zip(kept, written, strict=True)
        if done.outcome is Outcome.REJECTED and done.log_id not in late
    ]


async def _publish(letters: Sequence[RejectedLog], bus: Bus) -> None:
    if letters:
        await bus.publish(REJECTED, [Outgoing(wire.encode(letter), key=letter.rejected_id) for letter in letters])


def _count(written: Sequence[Written], late: set[str], erased: int, unreadable: int) -> Mapping[Outcome, int]:
    """Each log once; what was erased while it was written counts as erased, whatever the index had said."""
    counts = dict.fromkeys(Outcome, 0)
    for done in written:
        counts[Outcome.ERASED if done.log_id in late else done.outcome] += 1
    counts[Outcome.ERASED] += erased
    counts[Outcome.REJECTED] += unreadable
    return counts


def _report(counts: Mapping[Outcome, int], letters: Iterable[RejectedLog], seconds: float) -> None:
    metrics.LOGS.labels("received").inc(sum(counts.values()))
    for outcome, count in counts.items():
        metrics.LOGS.labels(outcome.value).inc(count)
    for letter in letters:
        metrics.REJECTED.labels(letter.stage, letter.error_code).inc()
    metrics.BATCH_SECONDS.observe(seconds)
    metrics.LAST_PROGRESS.set_to_current_time()
