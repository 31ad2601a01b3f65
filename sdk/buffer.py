"""Logs that wait in memory to be sent: bounded, first in first out, filled by many threads and emptied by one."""

import threading
import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One log, encoded when it was logged, so that what the application changes later does not matter."""

    log_id: str
    session_id: str | None
    line: bytes  # one line of JSON


class Buffer:
    """A queue bounded by the bytes it holds."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._closed = False
        self._hurried = False
        self._overflowing = False
        self._changed = threading.Condition()

    def put(self, entry: Entry, *, block_s: float) -> bool:
        """Append, waiting at most `block_s` for room; False if there was none or the buffer is closed.

        Only the first to find the buffer full waits. While it stays full the next ones are turned away at once,
        or an application would pay the wait on every call for as long as the broker is away.
        """
        with self._changed:
            if not self._has_room(entry) and not self._overflowing:
                self._overflowing = not self._changed.wait_for(lambda: self._has_room(entry) or self._closed, block_s)
            if self._closed or not self._has_room(entry):
                return False
            self._overflowing = False
            self._entries.append(entry)
            self._bytes += len(entry.line)
            self._changed.notify_all()
            return True

    def take(self, *, max_entries: int, max_bytes: int, linger_s: float) -> list[Entry]:
        """Wait for a first entry, then until there are enough or `linger_s` has passed; empty once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closed)
            self._linger(max_entries, max_bytes, linger_s)
            taken = self._pop(max_entries, max_bytes)
            self._changed.notify_all()
            return taken

    def hurry(self) -> None:
        """End the lingering of the take that is waiting now, or of the next one."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def close(self) -> None:
        """Accept nothing more; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, entry: Entry) -> bool:
        return not self._entries or self._bytes + len(entry.line) <= self._max_bytes

    def _linger(self, max_entries: int, max_bytes: int, linger_s: float) -> None:
        def enough() -> bool:
            full = len(self._entries) >= max_entries or self._bytes >= max_bytes
            return full or self._hurried or self._closed

        until = time.monotonic() + linger_s
        self._changed.wait_for(enough, max(0.0, until - time.monotonic()))
        self._hurried = False

    def _pop(self, max_entries: int, max_bytes: int) -> list[Entry]:
        taken: list[Entry] = []
        size = 0
        while self._entries and len(taken) < max_entries:
            size += len(self._entries[0].line)
            if taken and size > max_bytes:
                break
            taken.append(self._entries.popleft())
        self._bytes -= sum(len(entry.line) for entry in taken)
        return taken
