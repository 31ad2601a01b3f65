"""What was erased is taken out of the topics: out of messages of logs, feedback about them, and dead letters of either.

An engine that can change what it has rewrites each message that holds such a record, in its place and without it. One that cannot
says when it lets go of it by itself.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from tunemill.bus.port import Bus, Message
from tunemill.curator_api.receipt import Line
from tunemill.schemas import wire
from tunemill.schemas.records import Feedback, RejectedLog
from tunemill.schemas.told import TAKEN_OUT, Told
from tunemill.schemas.topics import FEEDBACK, LOGS, REJECTED, Topic

ToldIn = Callable[[bytes], Sequence[Told]]  # what the records of a message tell of, as the stream reads it

_POLL_MESSAGES = 500
_POLL_S = 1.0
_MANY = 200  # values; to look for more of them in bytes, one after another, takes too long
_LONG = 6  # characters that stand in no other word by chance
_WORD = re.compile(rb"[^\s\"'{}\[\],:]+")


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What nothing may be left of."""

    log_ids: frozenset[str]
    answers: frozenset[str] = frozenset()  # response_id of these logs
    traces: frozenset[str] = frozenset()  # of which no call is left, or of which the subject is said to be the user
    subject: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """What a record that cannot be read may name."""
        return self.log_ids | self.answers | self.traces | ({self.subject} if self.subject is not None else set())


async def can_scrub(bus: Bus) -> bool:
    """Whether this bus can change what it has."""
    return await bus.scrub(LOGS, {}) is not None


async def logs_of(bus: Bus, told_in: ToldIn, subject: str) -> AsyncIterator[Sequence[Told]]:
    """The logs of a subject that lie in the topic, in the index or not, some at a time."""
    async for messages in _all_of(bus, LOGS):
        found = await asyncio.to_thread(_told_of, messages, told_in, subject)
        if found:
            yield found


async def scrub(bus: Bus, told_in: ToldIn, erased: Erased) -> list[Line]:
    """Take every record of these logs out, and say what was removed from which topic.

    The topic of logs comes last: what dead letters are about is read there.
    """
    letters, feedback, logs = 0, 0, 0
    if not await can_scrub(bus):
        feedback = await _scrubbed(bus, FEEDBACK, lambda messages: _without_feedback(messages, erased))
        return [
            await _kept(bus, LOGS),
            Line(store=_store(FEEDBACK), removed=feedback, note="a tombstone each; Kafka's compaction takes them"),
            await _kept(bus, REJECTED),
        ]
    rejected: set[str] = set()  # ids of letters whose records are taken out
    async for messages in _all_of(bus, LOGS):
        rejected |= await asyncio.to_thread(_letter_ids, messages, told_in, erased)
    letters = await _scrubbed(bus, REJECTED, lambda messages: _without_letters(messages, erased, rejected))
    feedback = await _scrubbed(bus, FEEDBACK, lambda messages: _without_feedback(messages, erased))
    logs = await _scrubbed(bus, LOGS, lambda messages: _without_logs(messages, told_in, erased))
    await bus.expunge()
    counts = ((LOGS, logs), (FEEDBACK, feedback), (REJECTED, letters))
    return [Line(store=_store(topic), removed=count) for topic, count in counts]


def names_one(payload: bytes, names: AbstractSet[str]) -> bool:
    """Whether bytes that may be no JSON name one of these, whole."""
    try:
        value = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _holds_one(payload, names)
    return any(text in names for text in _strings(value))


def _holds_one(payload: bytes, names: AbstractSet[str]) -> bool:
    if len(names) > _MANY:
        return any(word.decode(errors="replace") in names for word in _WORD.findall(payload))
    for name in names:
        raw = re.escape(name.encode())
        if re.search(raw if len(name) >= _LONG else rb"(?<![\w-])" + raw + rb"(?![\w-])", payload):
            return True
    return False


def _strings(value: Any) -> list[str]:
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
    return found


def _is_gone(told: Told, erased: Erased) -> bool:
    """Whether a record is one of an erased log, or about one."""
    if erased.subject is not None and erased.subject in told.people:
        return True
    if told.log_id is not None:
        return told.log_id in erased.log_ids
    if told.response_id is not None and told.response_id in erased.answers:
        return True
    if told.trace_id is not None:
        return told.trace_id in erased.traces
    return names_one(told.record, erased.names)


def _told_of(messages: Sequence[Message], told_in: ToldIn, subject: str) -> list[Told]:
    return [
        told
        for message in messages
        for told in told_in(message.value)
        if told.is_log and told.log_id is not None and subject in told.people
    ]


def _letter_ids(messages: Sequence[Message], told_in: ToldIn, erased: Erased) -> set[str]:
    return {
        f"{message.topic}:{message.partition}:{message.offset}:{place}"
        for message in messages
        for place, told in enumerate(told_in(message.value))
        if _is_gone(told, erased)
    }


def _without_logs(messages: Sequence[Message], told_in: ToldIn, erased: Erased) -> dict[tuple[int, int], bytes]:
    changed: dict[tuple[int, int], bytes] = {}
    for message in messages:
        records = told_in(message.value)
        gone = [_is_gone(told, erased) for told in records]
        if any(gone):
            rest = [TAKEN_OUT if out else told.record for out, told in zip(gone, records, strict=True)]
            changed[message.partition, message.offset] = b"" if _nothing_left(rest) else b"\n".join(rest)
    return changed


def _nothing_left(records: Collection[bytes]) -> bool:
    return all(record == TAKEN_OUT for record in records)


def _without_feedback(messages: Sequence[Message], erased: Erased) -> dict[tuple[int, int], bytes]:
    return {
        (message.partition, message.offset): b"" for message in messages if _is_gone(_feedback(message.value), erased)
    }


def _feedback(value: bytes) -> Told:
    try:
        said = wire.decode(value, Feedback)
    except wire.WireError:
        return Told(record=value)
    return Told(record=value, log_id=said.log_id, response_id=said.response_id, trace_id=said.trace_id)


def _without_letters(
    messages: Sequence[Message], erased: Erased, rejected: AbstractSet[str]
) -> dict[tuple[int, int], bytes]:
    changed: dict[tuple[int, int], bytes] = {}
    for message in messages:
        try:
            letter = wire.decode(message.value, RejectedLog)
        except wire.WireError:
            is_gone = names_one(message.value, erased.names)
        else:
            is_gone = letter.rejected_id in rejected or names_one(letter.payload, erased.names)
        if is_gone:
            changed[message.partition, message.offset] = b""
    return changed


async def _scrubbed(
    bus: Bus, topic: Topic, without: Callable[[Sequence[Message]], dict[tuple[int, int], bytes]]
) -> int:
    count = 0
    async for messages in _all_of(bus, topic):
        changed = await asyncio.to_thread(without, messages)
        count += (await bus.scrub(topic, changed) or 0) if changed else 0
    return count


async def _all_of(bus: Bus, topic: Topic) -> AsyncIterator[Sequence[Message]]:
    """What lies in a topic by now, some messages at a time; those that hold nothing are passed over."""
    async with bus.subscribe([topic], group=None) as subscription:
        left = await subscription.lag()
        while left > 0:
            polled = await subscription.poll(max_messages=_POLL_MESSAGES, timeout_s=_POLL_S)
            left = await subscription.lag() if not polled else left - len(polled)
            if messages := [message for message in polled if message.value]:
                yield messages


async def _kept(bus: Bus, topic: Topic) -> Line:
    until_ms = await bus.kept_until_ms(topic)
    note = (
        "the topic keeps what it holds until then" if until_ms is not None else "the topic keeps it: see its retention"
    )
    return Line(store=_store(topic), removed=0, kept_until_ms=until_ms, note=note)


def _store(topic: Topic) -> str:
    return f"topic {topic.name}"
