"""Waiting logs -> messages of many logs each. A conversation's logs share a lane, so that they keep their order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tunemill.sdk.entry import Entry

MAX_PACK_BYTES = 512 * 2**10  # a Kafka message that every default takes; a larger log travels alone
MAX_PACK_LOGS = 64


@dataclass(frozen=True, slots=True)
class Pack:
    """One message: `value` is what `tunemill.schemas.packing.pack` makes of these logs."""

    lane: int
    key: str
    entries: tuple[Entry, ...]

    @property
    def value(self) -> bytes:
        """Newline-delimited JSON."""
        return b"\n".join(entry.line for entry in self.entries)


def packs(entries: Sequence[Entry], lane: Callable[[str], int]) -> list[Pack]:
    """Entries in order as packs; those of one lane keep their order.

    Args:
        lane: the lane of a key: for Kafka the partition, so that one message can hold several conversations.
    """
    return [
        Pack(number, _key(chunk[0]), tuple(chunk))
        for number, members in _by_lane(entries, lane).items()
        for chunk in _chunks(members)
    ]


def singly(pack: Pack) -> list[Pack]:
    """The same logs, each in a message of its own."""
    return [Pack(pack.lane, _key(entry), (entry,)) for entry in pack.entries]


def _key(entry: Entry) -> str:
    return entry.session_id or entry.log_id


def _by_lane(entries: Sequence[Entry], lane: Callable[[str], int]) -> dict[int, list[Entry]]:
    """Logs without a conversation have no order to keep: they all go where the first one's id says."""
    alone = next((lane(entry.log_id) for entry in entries if entry.session_id is None), 0)
    lanes: dict[int, list[Entry]] = {}
    for entry in entries:
        number = alone if entry.session_id is None else lane(entry.session_id)
        lanes.setdefault(number, []).append(entry)
    return lanes


def _chunks(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        if chunk and (len(chunk) == MAX_PACK_LOGS or size + len(entry.line) + 1 > MAX_PACK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += len(entry.line) + 1
    if chunk:
        yield chunk
