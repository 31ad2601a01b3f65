"""When to try again with logs that could not have what people did to them, because they are not there or the index refuses them."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 3_600.0
MOST = 100_000  # logs that are remembered; those beyond are tried whenever they are come across


class _Wait(NamedTuple):
    """Until when a log is left alone, and for how long that is in all."""

    until_s: float
    wait_s: float


class Tries:
    """Each log that failed is left alone, after every further failure for twice as long, up to an hour."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._waits: dict[str, _Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def due(self, log_ids: Iterable[str]) -> list[str]:
        """Those of these logs that are to be tried now."""
        now_s = self._now_s()
        return [log_id for log_id in log_ids if log_id not in self._waits or self._waits[log_id].until_s <= now_s]

    def failed(self, log_ids: Sequence[str]) -> None:
        """They were tried, and could not have it."""
        now_s = self._now_s()
        for log_id in log_ids:
            before = self._waits.pop(log_id, None)  # taken out, so that it becomes the newest
            wait_s = FIRST_WAIT_S if before is None else min(2 * before.wait_s, LONGEST_WAIT_S)
            self._waits[log_id] = _Wait(now_s + wait_s, wait_s)

    def keep(self, log_ids: Iterable[str]) -> None:
        """Forget all logs but these, and the oldest of these where they are too many."""
        left = set(log_ids)
        kept = [log_id for log_id in self._waits if log_id in left][-MOST:]
        self._waits = {log_id: self._waits[log_id] for log_id in kept}
