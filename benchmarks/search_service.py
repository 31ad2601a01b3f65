"""What the service adds to a search: the API's own time, in this process and over a socket; and `tunemill up` as a process."""

import asyncio
import dataclasses
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from engines.process import free_port

from benchmarks.processes import running
from tunemill.cli.engines import open_engines, prepare
from tunemill.cli.settings import embedded
from tunemill.cli.up import api_over
from tunemill.curator_api.settings import Settings
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import SearchIndex, SearchPage, SearchRequest

KEY = "a-key-of-the-benchmark"
START_DEADLINE_S = 300

Asked = Mapping[str, Sequence[SearchRequest]]


class _Timed:
    """An index that notes how long its last search took; all else is the index's own."""

    def __init__(self, index: SearchIndex) -> None:
        self._index = index
        self.last_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    async def search(self, request: SearchRequest) -> SearchPage:
        started = time.perf_counter()
        page = await self._index.search(request)
        self.last_s = time.perf_counter() - started
        return page


async def in_process_ms(data: Path, asked: Asked) -> tuple[dict[str, float], dict[str, float]]:
    """Of each kind, the median of the port's time, and of what the API adds to it, without a socket."""
    port, added = {}, {}
    async with open_engines(embedded(data)) as opened:
        await prepare(opened)
        timed: Any = _Timed(opened.index)
        app = api_over(dataclasses.replace(opened, index=timed), Settings(require_key=False))
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for kind, requests in asked.items():
                times = [(await _asked_s(client, request), timed.last_s) for request in requests]
                port[kind] = statistics.median(own for _, own in times) * 1000
                added[kind] = statistics.median(whole - own for whole, own in times) * 1000
    return port, added


async def over_socket_ms(client: httpx.AsyncClient, asked: Asked) -> dict[str, float]:
    """Of each kind, the median of the whole time."""
    return {
        kind: statistics.median([await _asked_s(client, request) for request in requests]) * 1000
        for kind, requests in asked.items()
    }


@asynccontextmanager
async def served(data: Path) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """`tunemill up` on a folder, once it is ready: a client with its key, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "tunemill.cli", "up", "--data", str(data), "--port", str(port)]
    with running(command, {"TUNEMILL_KEY": KEY}) as process:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            deadline = time.monotonic() + START_DEADLINE_S
            while not await _is_ready(client):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("tunemill up did not become ready")
                await asyncio.sleep(0.1)
            yield client, process.pid


async def _asked_s(client: httpx.AsyncClient, request: SearchRequest) -> float:
    params: dict[str, str | int] = {"q": to_text(request.query), "sort": request.sort, "limit": request.limit}
    started = time.perf_counter()
    answer = await client.get("/v1/search", params=params)
    spent = time.perf_counter() - started
    answer.raise_for_status()
    return spent


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health/ready")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
