"""A search index of a project of its own, on either engine, gone after the test."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.open import open_index
from tunemill.indexer.search import Change, Progress, Rebuilt, SearchIndex
from tunemill.schemas.outcome import Written
from tunemill.schemas.records import TaggedLog

IN_MANY = "elasticsearch in many"  # indices
ENGINES = ("embedded", *(pytest.param(name, marks=pytest.mark.live) for name in ("elasticsearch", IN_MANY)))


class RollingIndex(ElasticIndex):
    """One that begins another index with each batch, but while it is rebuilt: both are jobs, done one at a time."""

    _is_rebuilt = False

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        written = await super().write(logs)
        if not self._is_rebuilt:
            await self.roll_over()
        return written

    async def rebuild(self, change: Change, *, progress: Progress) -> Rebuilt:
        self._is_rebuilt = True
        try:
            return await super().rebuild(change, progress=progress)
        finally:
            self._is_rebuilt = False


@asynccontextmanager
async def opened(url: str, *, rolling: bool = False) -> AsyncIterator[SearchIndex]:
    """The index at this address, empty, of a project that nothing else has.

    Args:
        rolling: its logs lie in several indices.
    """
    project = f"test-{uuid.uuid4().hex[:12]}"
    index = RollingIndex(url, project=project) if rolling else open_index(url, project=project)
    try:
        await index.setup()
        yield index
    finally:
        await index.close()
        if not url.startswith("local:"):
            await _remove(url, project)


async def _remove(url: str, project: str) -> None:
    async with httpx.AsyncClient() as client:
        for name in ("logs", "traces", "feedback"):
            for made in (await client.get(f"{url}/{name}-{project}-*")).json():  # a rebuild gives it another name
                await client.delete(f"{url}/{made}")
            await client.delete(f"{url}/_index_template/{name}-{project}")


@asynccontextmanager
async def opened_for(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    """The index on the engine that a fixture's parameter names, one of ENGINES."""
    url = f"local:{tmp_path}" if request.param == "embedded" else request.getfixturevalue("elasticsearch_url")
    async with opened(url, rolling=request.param == IN_MANY) as index:
        yield index
