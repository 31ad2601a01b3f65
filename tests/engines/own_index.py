"""A search index of a project of its own, on either engine, gone after the test."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tunemill.indexer.open import open_index
from tunemill.indexer.search import SearchIndex


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SearchIndex]:
    """The index at this address, empty, of a project that nothing else has."""
    project = f"test-{uuid.uuid4().hex[:12]}"
    index = open_index(url, project=project)
    await index.setup()
    yield index
    await index.close()
    if not url.startswith("local:"):
        async with httpx.AsyncClient() as client:
            for name in ("logs", "traces", "feedback"):
                for made in (await client.get(f"{url}/{name}-{project}-*")).json():  # a rebuild gives it another number
                    await client.delete(f"{url}/{made}")
                await client.delete(f"{url}/_index_template/{name}-{project}")
