"""What became of the logs: each that was handed in is sent, failed, dropped, or still waiting."""

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Stats:
    """Logs by what became of them, since the producer was made."""

    logged: int = 0  # handed to `log`
    sent: int = 0  # durable at the receiver
    failed: int = 0  # taken into memory but refused by the receiver, or still unsent at close
    dropped: int = 0  # never taken into memory: no room, too large, or not a log

    @property
    def waiting(self) -> int:
        """In memory, not yet known to be durable."""
        return self.logged - self.sent - self.failed - self.dropped


class Counts:
    """The running counts, which threads can wait on."""

    def __init__(self) -> None:
        self._stats = Stats()
        self._changed = threading.Condition()

    def add(self, *, logged: int = 0, sent: int = 0, failed: int = 0, dropped: int = 0) -> None:
        """Count, and wake whoever waits."""
        with self._changed:
            now = self._stats
            self._stats = replace(
                now,
                logged=now.logged + logged,
                sent=now.sent + sent,
                failed=now.failed + failed,
                dropped=now.dropped + dropped,
            )
            self._changed.notify_all()

    def read(self) -> Stats:
        """The counts of this moment."""
        return self._stats

    def wait_settled(self, logged: int, timeout_s: float) -> bool:
        """Wait until as many logs as `logged` are settled; logs settle in the order they came. False if time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: self._settled() >= logged, timeout_s)

    def fail_waiting(self) -> int:
        """Count all that still waits as failed; how many those were."""
        with self._changed:
            left = self._stats.waiting
            self._stats = replace(self._stats, failed=self._stats.failed + left)
            self._changed.notify_all()
            return left

    def _settled(self) -> int:
        return self._stats.logged - self._stats.waiting
