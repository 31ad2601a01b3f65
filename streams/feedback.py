"""Feedback from its topic into the index. It may come before the log that it is about, and it goes when that is erased."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Message, Outgoing
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Feedback, RejectedLog
from tunemill.schemas.topics import FEEDBACK, REJECTED
from tunemill.streams.batch import Hop, next_offsets
from tunemill.streams.dead_letter import dead_letter
from tunemill.streams.erased import beside
from tunemill.streams.mask import mask_beside
from tunemill.telemetry import metrics

_POLL_MESSAGES = 200
_POLL_S = 1.0
_AGAIN_S = 1.0  # after an outage of the bus


@dataclass(frozen=True, slots=True)
class _Told:
    """Feedback without secrets, and where it came from."""

    item: Feedback
    message: Message


async def keep_feedback(messages: Sequence[Message], hop: Hop) -> Mapping[Outcome, int]:
    """Account for each feedback in these messages: when this returns, it is stored, a repeat, a dead letter or erased.

    The order of the steps is the promise; only after the last may the messages be acknowledged.

    Raises:
        Exception: whatever the index or the bus raised. Nothing was acknowledged, and the messages come again.
    """
    private = hop.rulebook.rules.masks_private_data
    # 1. Bytes to feedback without secrets. Of two with one id the later one holds.
    told, unreadable = await asyncio.to_thread(_read, messages, private)
    latest = list({said.item.feedback_id: said for said in told}.values())
    # 2. Drop what is about an erased log.
    await hop.erased.catch_up()
    kept = [said for said in latest if not hop.erased.forgets(said.item)]
    # 3. Store, and wait until all is accounted for.
    written = await hop.index.add_feedback([said.item for said in kept]) if kept else []
    # 4. An erasure may have come meanwhile: deleting the log again deletes what was said about it.
    await hop.erased.catch_up()
    late = [said.item for said in kept if hop.erased.forgets(said.item)]
    if log_ids := {item.log_id for item in late if item.log_id}:
        await hop.index.delete(sorted(log_ids))
    # By the one name that the index keeps it under: others may be of its trace.
    if about := {beside(item)[0] for item in late if not item.log_id}:
        await hop.index.forget_said(sorted(about))
    # 5. Dead letters, durable before anything is acknowledged.
    ends = [(said, done) for said, done in zip(kept, written, strict=True) if not hop.erased.forgets(said.item)]
    letters = [*unreadable, *_refused(ends, private)]
    if letters:
        await hop.bus.publish(REJECTED, [Outgoing(wire.encode(letter), key=letter.rejected_id) for letter in letters])
    # 6. Counters.
    counts = {
        Outcome.INDEXED: len(ends) - len(letters) + len(unreadable),
        Outcome.DUPLICATE: len(told) - len(latest),
        Outcome.REJECTED: len(letters),
        Outcome.ERASED: len(latest) - len(ends),
    }
    _report(counts, letters)
    return counts


async def follow_feedback(hop: Hop, *, group: str) -> NoReturn:
    """Store feedback as it comes, for ever; an outage of the bus is waited for.

    Raises:
        Exception: whatever the index raised. What was in hand comes again.
    """
    while True:
        with suppress(BusUnavailable):  # readiness says so, and what was polled and not committed comes again
            async with hop.bus.subscribe([FEEDBACK], group=group) as subscription:
                while True:
                    messages = await subscription.poll(max_messages=_POLL_MESSAGES, timeout_s=_POLL_S)
                    if messages:
                        await keep_feedback(messages, hop)
                        await subscription.commit(next_offsets(messages))
        await asyncio.sleep(_AGAIN_S)


def _read(messages: Sequence[Message], private: bool) -> tuple[list[_Told], list[RejectedLog]]:
    told, unreadable = [], []
    for message in messages:
        if not message.value:  # a tombstone of compaction
            continue
        try:
            told.append(_Told(mask_beside(wire.decode(message.value, Feedback), private=private), message))
        except wire.WireError as error:
            unreadable.append(_letter(message, message.value, "decode", error.code, str(error), private=private))
        except Exception as error:  # its message may hold words of the feedback: only its kind is told
            reason = f"unforeseen {type(error).__name__} at stage mask"
            unreadable.append(_letter(message, message.value, "mask", "internal", reason, private=private))
    return told, unreadable


def _refused(ends: Sequence[tuple[_Told, Written]], private: bool) -> list[RejectedLog]:
    return [
        _letter(
            said.message,
            msgspec.json.encode(said.item),
            "index",
            done.error_code or "refused",
            done.reason or "the index refused the feedback",
            private=private,
        )
        for said, done in ends
        if done.outcome is Outcome.REJECTED
    ]


def _letter(message: Message, payload: bytes, stage: str, code: str, reason: str, *, private: bool) -> RejectedLog:
    now_ms = time.time_ns() // 1_000_000
    return dead_letter(message, 0, payload, stage=stage, code=code, reason=reason, now_ms=now_ms, private=private)


def _report(counts: Mapping[Outcome, int], letters: Sequence[RejectedLog]) -> None:
    for outcome, count in counts.items():
        metrics.FEEDBACK.labels(outcome.value).inc(count)
    for letter in letters:
        metrics.REJECTED.labels(letter.stage, letter.error_code).inc()
