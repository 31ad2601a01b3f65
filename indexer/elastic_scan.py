"""All hits of a query from Elasticsearch, in order, as they were at one point in time."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from elasticsearch import AsyncElasticsearch

from tunemill.indexer.elastic_client import translated
from tunemill.indexer.elastic_query import to_dsl
from tunemill.indexer.elastic_stored import record_of
from tunemill.indexer.query import Query
from tunemill.schemas.records import TaggedLog

SCAN_PAGE = 500  # hits; a few MiB
SCAN_KEEP_ALIVE = "5m"  # between two pages of a scan


async def scan(client: AsyncElasticsearch, alias: str, query: Query, *, limit: int | None) -> AsyncIterator[TaggedLog]:
    """All logs behind an alias that match, ordered by (ts_ms, log_id), at most `limit` of them."""
    with translated():
        opened = await client.open_point_in_time(index=alias, keep_alive=SCAN_KEEP_ALIVE)
    point = opened["id"]
    try:
        async for hit in _scan_hits(client, query, point, limit):
            yield record_of(hit)
    finally:
        with translated():
            await client.close_point_in_time(id=point)


async def _scan_hits(
    client: AsyncElasticsearch, query: Query, point: str, limit: int | None
) -> AsyncIterator[Mapping[str, Any]]:
    after: list[Any] | None = None
    left = limit
    while left is None or left > 0:
        with translated():
            answer = await client.search(
                query=to_dsl(query),
                pit={"id": point, "keep_alive": SCAN_KEEP_ALIVE},
                size=SCAN_PAGE if left is None else min(SCAN_PAGE, left),
                sort=[{"ts": "asc"}, {"id": "asc"}],
                source_includes=["record"],
                track_total_hits=False,
                allow_partial_search_results=False,  # a dataset may not lack the logs of a shard that is away
                search_after=after,
            )
        hits = answer["hits"]["hits"]
        for hit in hits:
            yield hit
        if not hits:
            return
        after = hits[-1]["sort"]
        left = None if left is None else left - len(hits)
