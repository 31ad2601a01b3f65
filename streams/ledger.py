"""What may be acknowledged: of each partition, the finished messages before the first unfinished one. Pure.

Faust 0.15.3 would commit past unfinished work when acknowledgements come out of order, so none of its own are used.
"""

from collections.abc import Iterable
from itertools import takewhile

from tunemill.bus.port import Message

Partition = tuple[str, int]


class AckLedger:
    """Which of the messages in hand are finished. Offsets of a partition must be taken in order."""

    def __init__(self) -> None:
        self._in_hand: dict[Partition, dict[int, bool]] = {}  # offset -> finished, in the order of the offsets

    def take(self, messages: Iterable[Message]) -> None:
        """These messages are being worked on.

        A partition that is read again from an earlier offset (it was lost and came back) starts over there: what was in
        hand from there on is unfinished again.
        """
        for message in messages:
            in_hand = self._in_hand.setdefault((message.topic, message.partition), {})
            while in_hand and next(reversed(in_hand)) >= message.offset:
                in_hand.popitem()
            in_hand[message.offset] = False

    def finish(self, messages: Iterable[Message]) -> None:
        """These messages are done with, for good."""
        for message in messages:
            in_hand = self._in_hand.get((message.topic, message.partition), {})
            if message.offset in in_hand:
                in_hand[message.offset] = True

    def release(self) -> dict[Partition, int]:
        """The next offset to read of each partition whose finished prefix has grown; the prefix leaves the ledger."""
        released = {}
        for partition, in_hand in self._in_hand.items():
            for offset in [*takewhile(in_hand.__getitem__, in_hand)]:
                del in_hand[offset]
                released[partition] = offset + 1
        return released

    def forget(self) -> None:
        """Nothing is in hand any more: what comes next is read from where it was committed."""
        self._in_hand.clear()
