"""An index full of tagged logs and a registry, for benchmarks of work on all of them; and how a bare loop reads and writes it."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import msgspec
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_bulk, async_scan
from engines import choose

from benchmarks.batches import Batches
from tunemill.curator_api.job_work import PAGE
from tunemill.indexer import mapping
from tunemill.indexer.document import to_document
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.stored import StoredLog
from tunemill.streams.near import Near

_WRITE = 2_000  # logs at once when the index is filled


@contextmanager
def engine_urls(name: str) -> Iterator[tuple[str, str]]:
    """The addresses of an index, `embedded` or `elasticsearch`, and of a registry."""
    with tempfile.TemporaryDirectory() as scratch:
        registry = f"sqlite:///{scratch}/registry.db"
        if name == "embedded":
            yield f"local:{scratch}", registry
        else:
            with choose.elasticsearch() as url:
                yield url, registry


@contextmanager
def filled_index(engine: str, batches: Batches) -> Iterator[tuple[asyncio.Runner, "FilledIndex"]]:
    """An index with these logs, and what runs its coroutines."""
    with engine_urls(engine) as (index_url, registry_url), asyncio.Runner() as runner:
        filled = FilledIndex(index_url, registry_url)
        try:
            runner.run(filled.fill(batches))
            yield runner, filled
        finally:
            runner.run(filled.close())


class FilledIndex:
    """An index and a registry of a project of their own."""

    def __init__(self, index_url: str, registry_url: str) -> None:
        self.project = f"bench-{uuid.uuid4().hex[:8]}"
        self.index = open_index(index_url, project=self.project)
        self.registry = open_registry(registry_url)
        migrate(self.registry)
        self._raw = None if index_url.startswith("local:") else AsyncElasticsearch(index_url)

    async def fill(self, batches: Batches) -> None:
        """The logs, as the stream makes them; the input comes again and again, so that most are near-duplicates."""
        near = Near()
        await self.index.setup()
        tagged = batches.tagged()
        while chunk := list(islice(tagged, _WRITE)):
            await self.index.write([near.mark(log) for log in chunk])
        await self.index.refresh()

    async def close(self) -> None:
        """Let go of everything, and leave nothing in an Elasticsearch that others use."""
        if self._raw is not None:
            for alias in mapping.templates(self.project):
                await self._raw.indices.delete(index=mapping.first_index(alias), ignore_unavailable=True)
                await self._raw.options(ignore_status=404).indices.delete_index_template(name=alias)
            await self._raw.close()
        await self.index.close()
        self.registry.dispose()

    async def count(self, query: str) -> int:
        """How many logs match."""
        return (await self.index.search(SearchRequest(parse(query), limit=0, counts=False))).total

    async def pages(self) -> AsyncIterator[list[TaggedLog]]:
        """All logs, as a bare loop reads them."""
        page: list[TaggedLog] = []
        async for log in self._scan():
            page.append(log)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    async def write(self, logs: Sequence[TaggedLog]) -> None:
        """Put these in place of what is there, as a bare loop does."""
        if self._raw is None:
            found = (await self.index.stored(log_ids=[log.log.log_id for log in logs], trace_ids=[])).logs
            await self.index.replace([StoredLog(log, found[log.log.log_id].version) for log in logs])
        else:
            alias = mapping.alias(self.project)
            actions = [
                {"_index": alias, "_id": log.log.log_id, "_source": msgspec.to_builtins(to_document(log))}
                for log in logs
            ]
            await async_bulk(self._raw, actions, chunk_size=PAGE)

    async def _scan(self) -> AsyncIterator[TaggedLog]:
        if self._raw is None:
            async for log in self.index.scan(parse(""), limit=None):
                yield log
        else:
            alias = mapping.alias(self.project)
            async for hit in async_scan(self._raw, index=alias, size=PAGE, _source=["record"]):
                yield msgspec.convert(hit["_source"]["record"], TaggedLog)
