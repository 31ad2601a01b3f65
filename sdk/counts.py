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
        self._passed = 0  # logs taken into memory that are settled together with all that came before them
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

    def passed(self, logs: int) -> None:
        """So many more logs are settled, and so is every log that came before them."""
        with self._changed:
            self._passed += logs
            self._changed.notify_all()

    def wait_settled(self, then: Stats, timeout_s: float) -> bool:
        """Wait until what was taken into memory by then is settled; a log that is dropped meanwhile may end it early.

        A count of settled logs alone would not do: one partition may take its logs while another's still wait.
        """

        def is_settled() -> bool:
            return self._passed + self._stats.dropped >= then.logged

        with self._changed:
            return self._changed.wait_for(is_settled, timeout_s)

    def fail_waiting(self) -> int:
        """Count all that still waits as failed; how many those were."""
        with self._changed:
            left = self._stats.waiting
            self._stats = replace(self._stats, failed=self._stats.failed + left)
            self._passed = self._stats.logged - self._stats.dropped
            self._changed.notify_all()
            return left
