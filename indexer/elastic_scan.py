"""All hits of a query from Elasticsearch, as they were at one point in time: logs in order, or their JSON as fast as can be."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from elasticsearch import AsyncElasticsearch

from tunemill.indexer.elastic_client import answers_as, translated
from tunemill.indexer.elastic_point import KEEP_ALIVE, let_go
from tunemill.indexer.elastic_query import to_dsl
from tunemill.indexer.errors import SearchIndexError
from tunemill.indexer.query import Query
from tunemill.indexer.search import Dumped
from tunemill.schemas.records import TaggedLog

FIRST_PAGE = 100  # hits, which may be large; the size of later ones is by their bytes
PAGE_BYTES = 4 * 2**20  # of records; an answer has their texts a second time, as they were indexed
MOST_HITS = 10_000  # that Elasticsearch gives at once
SLICES = 4  # of a dump, read at the same time


# Python's collector looks at none of these, nor at what is dumped: it would take a quarter of the reader's time.
class _Source(msgspec.Struct, gc=False):
    record: msgspec.Raw


class _Hit(msgspec.Struct, rename={"id": "_id", "source": "_source"}, gc=False):
    id: str
    source: _Source
    sort: msgspec.Raw


class _Hits(msgspec.Struct):
    hits: list[_Hit]


class _Page(msgspec.Struct):
    hits: _Hits


_PAGE = msgspec.json.Decoder(_Page)
_LOG = msgspec.json.Decoder(TaggedLog)


async def scan(client: AsyncElasticsearch, alias: str, query: Query, *, limit: int | None) -> AsyncIterator[TaggedLog]:
    """All logs behind an alias that match, ordered by (ts_ms, log_id), at most `limit` of them."""
    async with _point(client, alias) as point:
        order = {"query": to_dsl(query), "pit": point, "sort": [{"ts": "asc"}, {"id": "asc"}]}
        after: list[Any] | None = None
        size, left = FIRST_PAGE, limit
        while left is None or left > 0:
            hits = await _page(client, order, after, size if left is None else min(size, left))
            for hit in hits:
                yield _LOG.decode(hit.source.record)
            if not hits:
                return
            after, size = _place(hits), _next_size(hits)
            left = None if left is None else left - len(hits)


async def dump(client: AsyncElasticsearch, alias: str, query: Query) -> AsyncIterator[Sequence[Dumped]]:
    """All logs behind an alias that match, in no order: of each slice one page at most is ready, or under way."""
    async with _point(client, alias) as point:
        order = {"query": to_dsl(query), "pit": point, "sort": [{"_shard_doc": "asc"}]}
        slices = [order | {"slice": {"id": number, "max": SLICES}} for number in range(SLICES)]
        under_way = {asyncio.create_task(_page(client, some, None, FIRST_PAGE)): some for some in slices}
        try:
            while under_way:
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    hits, some = task.result(), under_way.pop(task)
                    if hits:
                        following = _page(client, some, _place(hits), _next_size(hits))
                        under_way[asyncio.create_task(following)] = some
                        yield [Dumped(hit.id, bytes(hit.source.record)) for hit in hits]
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


@asynccontextmanager
async def _point(client: AsyncElasticsearch, alias: str) -> AsyncIterator[Mapping[str, str]]:
    """What a request says to search this moment, until the block ends."""
    with translated():
        opened = await client.open_point_in_time(index=alias, keep_alive=KEEP_ALIVE)
    try:
        yield {"id": opened["id"], "keep_alive": KEEP_ALIVE}
    finally:  # to its end, also when the reader was cancelled
        await asyncio.shield(asyncio.create_task(let_go(client, opened["id"])))


async def _page(client: AsyncElasticsearch, order: Mapping[str, Any], after: list[Any] | None, size: int) -> list[_Hit]:
    # Whole sources: to take the record out of each costs Elasticsearch more than all the rest.
    with translated(), answers_as(_PAGE):
        answer = await client.search(
            **order,
            size=size,
            track_total_hits=False,
            allow_partial_search_results=False,  # a dataset may not lack the logs of a shard that is away
            search_after=after,
        )
    if not isinstance(answer.body, _Page):
        raise SearchIndexError("Elasticsearch answered a search without its hits")
    return answer.body.hits.hits


def _place(hits: Sequence[_Hit]) -> list[Any]:
    """Behind the last of them."""
    return msgspec.json.decode(hits[-1].sort, type=list[Any])


def _next_size(hits: Sequence[_Hit]) -> int:
    mean_bytes = sum(len(memoryview(hit.source.record)) for hit in hits) / len(hits)
    return min(MOST_HITS, int(PAGE_BYTES / mean_bytes) + 1)
