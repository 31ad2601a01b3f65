"""A lease on work, kept while the work goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


@contextlib.asynccontextmanager
async def kept(renew: Callable[[], object], *, lease_ms: int) -> AsyncIterator[None]:
    """Meanwhile the lease is renewed, three times as often as it must be, however long a step of the work takes.

    Args:
        renew: blocks on SQL. What it raises is passed over: the lease is lost or the registry away, and the next step notices.
    """

    async def renewing() -> None:
        while True:
            await asyncio.sleep(lease_ms / 3_000)
            with contextlib.suppress(Exception):
                await asyncio.to_thread(renew)

    task = asyncio.create_task(renewing())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
