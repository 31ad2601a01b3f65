"""Whether the worker gets anywhere. With work to do and nothing moving for too long the process ends; its supervisor starts another.

A consumer that reads nothing any more, a call that never returns and a loop that hangs all look alike from outside, and none of
them gets well by itself. An engine that is away does: each time that it says so counts as a move, so an outage is waited for.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunemill.streams.errors import Stalled
from tunemill.telemetry.metrics import INDEX_RETRIES

STALL_S = 60.0  # longer than an index may take to answer one request, and to be asked again
_WATCH_S = 1.0


class Liveness:
    """What was seen to move, and when."""

    def __init__(self, stall_s: float = STALL_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_s = stall_s
        self._clock = clock
        self._moves = -1
        self._moved_at = clock()

    def look(self, *, moves: int, has_work: bool) -> None:
        """Note how often something moved so far. Who has no work need not move."""
        if moves != self._moves or not has_work:
            self._moves = moves
            self._moved_at = self._clock()

    def is_stalled(self) -> bool:
        """Whether nothing moved for too long, or nobody looked: then the event loop hangs."""
        return self._clock() - self._moved_at > self._stall_s

    async def check(self) -> None:
        """For the health port.

        Raises:
            Stalled: nothing moved for too long.
        """
        if self.is_stalled():
            raise Stalled


@contextmanager
def watched(liveness: Liveness, end: Callable[[Exception], object]) -> Iterator[None]:
    """Call `end` when it is stalled while the body runs, from a thread: the event loop may be what hangs."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_WATCH_S):
            if liveness.is_stalled():
                end(Stalled())

    thread = threading.Thread(target=watch, name="liveness", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def index_retries() -> int:
    """How often an item was sent to the index again in this process, because it was busy or away."""
    samples = [sample for metric in INDEX_RETRIES.collect() for sample in metric.samples]
    return sum(int(sample.value) for sample in samples if sample.name.endswith("_total"))
