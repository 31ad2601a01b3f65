"""Logs that wait in memory to be sent: bounded, first in first out, filled by many threads."""

import threading
from collections import deque
from itertools import islice

from tunemill.sdk.counts import Counts
from tunemill.sdk.entry import Entry

_BESIDE_BYTES = 256  # that a log takes in memory beside its text: its ids, and Python's objects


class Buffer:
    """A queue bounded by the memory it takes. A thread that is interrupted inside, by a signal or the garbage collector, may put.

    Args:
        counts: where a log is counted as logged, the moment that it is in.
        wake_logs: so many, or `wake_bytes`, are enough for a taker not to wait for more.
    """

    def __init__(self, max_bytes: int, counts: Counts, *, wake_logs: int, wake_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._counts = counts
        self._wake_logs = wake_logs
        self._wake_bytes = min(wake_bytes, max_bytes // 2)
        self._waiting: deque[Entry] = deque()
        self._bytes = 0
        self._taken = 0
        self._closed = False
        self._nudges = 0
        self._overflowing = False
        self._changed = threading.Condition()

    def put(self, log: Entry, *, wait_s: float | None) -> bool:
        """Append, waiting at most `wait_s` for room, or as long as it takes; False if there was none or the buffer is closed.

        With a limit, only the first to find the buffer full waits. While it stays full the next ones are turned away at once,
        or an application would pay the wait on every call for as long as the receiver is away.
        """
        size = log.size + _BESIDE_BYTES
        with self._changed:
            if not self._has_room(size) and not (self._overflowing and wait_s is not None):
                self._overflowing = not self._changed.wait_for(lambda: self._has_room(size) or self._closed, wait_s)
            if self._closed or not self._has_room(size):
                return False
            self._overflowing = False
            self._counts.add(logged=1)
            self._waiting.append(log)
            self._bytes += size
            if len(self._waiting) == 1 or self._is_enough():
                self._changed.notify_all()
            return True

    def wait(self, linger_s: float, *, nudges: int, longest_s: float | None = None) -> None:
        """Wait for a first log, then until there are enough or `linger_s` has passed; not at all once closed, or nudged.

        Args:
            nudges: how many there were when the caller last looked at what it waits for.
            longest_s: for the first log; as long as it takes, if there is no limit.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed or self._nudges != nudges, longest_s)
            self._changed.wait_for(lambda: self._is_enough() or self._closed or self._nudges != nudges, linger_s)

    def first(self, max_logs: int, max_bytes: int) -> list[Entry]:
        """The oldest, which stay inside until `drop`; only one thread at a time may do the two."""
        with self._changed:
            found: list[Entry] = []
            size = 0
            for log in tuple(islice(self._waiting, max_logs)):
                size += log.size
                if found and size > max_bytes:
                    break
                found.append(log)
            return found

    def drop(self, count: int) -> int:
        """Let go of the oldest; how many logs have gone in all, these included."""
        with self._changed:
            for _ in range(count):
                size = self._waiting.popleft().size + _BESIDE_BYTES
                self._bytes -= size
            self._taken += count
            self._changed.notify_all()
            return self._taken

    @property
    def entered(self) -> int:
        """How many logs have come in so far."""
        with self._changed:
            return self._taken + len(self._waiting)

    @property
    def is_filling(self) -> bool:
        """Whether over half of the room is used."""
        return self._bytes > self._max_bytes // 2

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes in."""
        return self._closed

    @property
    def taken(self) -> int:
        """How many logs have gone so far."""
        return self._taken

    def __len__(self) -> int:
        """Logs inside."""
        return len(self._waiting)

    @property
    def nudges(self) -> int:
        """How often those who wait were told to look again."""
        return self._nudges

    def nudge(self) -> None:
        """End the waiting of all who wait now."""
        with self._changed:
            self._nudges += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Accept nothing more; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return not self._waiting or self._bytes + size <= self._max_bytes

    def _is_enough(self) -> bool:
        return len(self._waiting) >= self._wake_logs or self._bytes >= self._wake_bytes
