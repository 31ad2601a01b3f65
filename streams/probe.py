"""The worker's health port, in the worker's own event loop: when that hangs, the port does not answer."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from tunemill.telemetry.health import Check, health_app


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to the worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve_health(checks: Mapping[str, Check], alive: Check, host: str, port: int | None) -> AsyncIterator[None]:
    """Serve live, ready and metrics while the body runs; nothing when there is no port."""
    if port is None:
        yield
        return
    settings = uvicorn.Config(
        health_app(checks, alive),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
    )
    server = _Server(settings)
    serving = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await serving
