"""What became of the logs: each that was handed in is sent, failed, dropped, on disk, or still waiting in memory."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stats:
    """Logs by what became of them, since the producer was made."""

    logged: int = 0  # handed to `log`, or found in the spool of a process that has ended
    sent: int = 0  # durable at the receiver
    failed: int = 0  # refused by the receiver, unreadable in the spool, or unsent at close without a spool
    dropped: int = 0  # no room, too large, or not a log
    spooled: int = 0  # on disk, not yet known to be durable at the receiver

    @property
    def waiting(self) -> int:
        """In memory, not yet known to be durable."""
        return self.logged - self.sent - self.failed - self.dropped - self.spooled


class Counts:
    """The running counts, which threads can wait on."""

    def __init__(self) -> None:
        self._logged = self._sent = self._failed = self._dropped = self._spooled = 0
        self._settled = 0
        self._is_final = False
        self._changed = threading.Condition()

    def add(self, *, logged: int = 0, sent: int = 0, failed: int = 0, dropped: int = 0, spooled: int = 0) -> None:
        """Count; `spooled` may be negative, when logs leave the disk."""
        with self._changed:
            self._logged += logged
            self._dropped += dropped
            if not self._is_final:
                self._sent += sent
                self._failed += failed
                self._spooled += spooled

    def read(self) -> Stats:
        """The counts of this moment."""
        with self._changed:
            return self._read()

    def settled(self, entered: int) -> None:
        """Of the logs that ever entered memory, so many are settled: the oldest ones, for they are sent in order."""
        with self._changed:
            self._settled = max(self._settled, entered)
            self._changed.notify_all()

    def wait_settled(self, entered: int, timeout_s: float) -> bool:
        """Wait until the first `entered` logs that entered memory are settled; False when time is up."""
        with self._changed:
            return self._changed.wait_for(lambda: self._settled >= entered, timeout_s)

    def fail_waiting(self) -> int:
        """Count all that still waits in memory as failed; how many those were. Whoever still sends some counts no more."""
        with self._changed:
            self._is_final = True
            left = self._read().waiting
            self._failed += left
            return left

    def _read(self) -> Stats:
        return Stats(self._logged, self._sent, self._failed, self._dropped, self._spooled)
