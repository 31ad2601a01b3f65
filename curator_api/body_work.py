"""Work on a request's body, beside the event loop: small bodies at once, large ones a few at a time.

Else large bodies would take every thread, and whoever wants nothing but to be let in would wait for all of them.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

LARGE_BYTES = 2**20
LARGE_AT_ONCE = 2  # they share one interpreter: more of them at once are no faster, and need more memory

T = TypeVar("T")


class BodyWork:
    """The threads that bodies are worked on in."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """What `work` gives, which has to look at `size` bytes."""
        if size < LARGE_BYTES:
            return await asyncio.to_thread(work)
        async with self._large:
            return await asyncio.to_thread(work)
