"""Dead letters -> their records, published again to the topics that they came from.

The bytes are those of the message in which the record came, if the bus still holds it: the letter's own are masked, which
breaks a binary encoding, and are missing where masking failed. Headers say which letter it was (`schemas/redrive.py`).
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from tunemill.bus.port import Bus, Message, Outgoing
from tunemill.curator_api.dead_letters import DeadLetters
from tunemill.curator_api.open_letters import OpenLetter
from tunemill.schemas import wire
from tunemill.schemas.records import RejectedLog
from tunemill.schemas.redrive import headers_of, place_of, rejection_in
from tunemill.schemas.topics import REJECTED, TOPICS, Topic
from tunemill.telemetry import metrics

RecordsIn = Callable[[bytes], Sequence[bytes]]  # the records in a message of logs, each as a message of its own

MESSAGES_AT_ONCE = 20  # each may have 4 MiB, and is held together with its records
LETTERS_AT_ONCE = 2_000  # or those of one message: the event loop is held while their messages are made
CLOCKS_DIFFER_MS = (
    3_600_000  # a message that was published later than that after its letter is another one, at the same place
)


async def redrive(found: Sequence[OpenLetter], bus: Bus, dead_letters: DeadLetters, records_in: RecordsIn) -> int:
    """Send the records of these letters again and mark the letters as sent. Of some there may be no bytes left to send.

    A letter is marked after its record is durable. If we stop in between it is still open, and sent twice it is a duplicate.

    Returns:
        how many were sent.
    """
    by_topic: dict[str, dict[tuple[int, int], list[OpenLetter]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        by_topic[one.letter.topic][one.letter.partition, one.letter.offset].append(one)
    sent = 0
    for topic in TOPICS:
        for some in _some_at_once(by_topic.get(topic.name, {})):
            sent += await _redrive_some(topic, some, bus, dead_letters, records_in)
    return sent


def _some_at_once(
    by_place: Mapping[tuple[int, int], Sequence[OpenLetter]],
) -> Iterator[Mapping[tuple[int, int], Sequence[OpenLetter]]]:
    some: dict[tuple[int, int], Sequence[OpenLetter]] = {}
    for place in sorted(by_place):
        some[place] = by_place[place]
        if len(some) == MESSAGES_AT_ONCE or sum(map(len, some.values())) >= LETTERS_AT_ONCE:
            yield some
            some = {}
    if some:
        yield some


async def _redrive_some(
    topic: Topic,
    by_place: Mapping[tuple[int, int], Sequence[OpenLetter]],
    bus: Bus,
    dead_letters: DeadLetters,
    records_in: RecordsIn,
) -> int:
    originals = await bus.read(topic, by_place)
    records: dict[str, bytes] = {}
    for place, group in by_place.items():
        parts = await asyncio.to_thread(records_in, originals[place].value) if place in originals else ()
        for one in group:
            records[one.letter.rejected_id] = record_of(one.letter, _its_message(one.letter, originals), parts)
    letters = [one for group in by_place.values() for one in group]
    kept = await dead_letters.payloads([one.place for one in letters if not records[one.letter.rejected_id]])
    sent: list[RejectedLog] = []
    messages: dict[str | tuple[int, int], Outgoing] = {}
    for one in letters:
        letter, original = one.letter, _its_message(one.letter, originals)
        name: str | tuple[int, int] = letter.rejected_id
        value = records[letter.rejected_id] or kept.get(one.place, b"")
        if not value and original is not None:
            # What nobody here can take apart, as a message that needs a schema registry, is sent whole, once for all of its
            # letters. Its other records are duplicates.
            name, value = (letter.partition, letter.offset), original.value
        if name not in messages and (message := outgoing(topic, letter, original, value)) is not None:
            messages[name] = message
        if name in messages:
            sent.append(letter)
    if sent:
        await bus.publish(topic, [*messages.values()])
        await bus.publish(REJECTED, [_mark(letter) for letter in sent])
        metrics.REDRIVEN.labels(topic.name).inc(len(sent))
    return len(sent)


def _its_message(letter: RejectedLog, originals: Mapping[tuple[int, int], Message]) -> Message | None:
    """The message in which the letter's record came; none if the topic was made anew since, and another lies there."""
    found = originals.get((letter.partition, letter.offset))
    return found if found is not None and found.ts_ms <= letter.ts_ms + CLOCKS_DIFFER_MS else None


def record_of(letter: RejectedLog, original: Message | None, parts: Sequence[bytes]) -> bytes:
    """The letter's record as it came; nothing if it cannot be had any more.

    Args:
        original: the message in which it came.
        parts: the records in it.
    """
    if original is None:
        return b""
    if letter.payload_bytes == len(original.value):  # the message as a whole was rejected, or it is its only record
        return original.value
    before = rejection_in(original.headers)
    place = 0 if before is not None and before.rejected_id == letter.rejected_id else place_of(letter.rejected_id)
    return parts[place] if place < len(parts) else b""


def outgoing(topic: Topic, letter: RejectedLog, original: Message | None, value: bytes) -> Outgoing | None:
    """The message that sends a letter's record again; None if nothing is left of it, or the topic would not take it."""
    # On a compacted topic a message takes the place of earlier ones with its key: what was rejected must not.
    key = letter.rejected_id if original is None or topic.compacted else original.key
    if not value or len(value) + len((key or "").encode()) > topic.max_message_bytes:
        return None
    return Outgoing(value, key, headers_of(letter.rejected_id, letter.attempts, letter.first_ts_ms or letter.ts_ms))


def _mark(letter: RejectedLog) -> Outgoing:
    mark = msgspec.structs.replace(letter, payload=b"", redriven_ms=time.time_ns() // 1_000_000)
    return Outgoing(wire.encode(mark), letter.rejected_id)
