"""A page of search from Elasticsearch: one request, and the answer as the port has it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from elasticsearch import AsyncElasticsearch

from tunemill.indexer.cursor import Place, decode, encode, search_key
from tunemill.indexer.document import texts
from tunemill.indexer.elastic_client import translated
from tunemill.indexer.elastic_query import to_dsl
from tunemill.indexer.elastic_stored import record_of
from tunemill.indexer.errors import IndexUnavailable
from tunemill.indexer.highlight import highlight
from tunemill.indexer.search import FACET_VALUES, FACETS, FacetCount, Hit, SearchPage, SearchRequest

SEARCH_TIMEOUT = "10s"  # Elasticsearch stops a search that takes longer

_AGGREGATIONS = {name: {"terms": {"field": name, "size": FACET_VALUES}} for name in FACETS}


async def search(client: AsyncElasticsearch, alias: str, request: SearchRequest) -> SearchPage:
    """One page of the logs behind an alias that match."""
    place = decode(request)
    with translated():
        answer = await client.search(**_search_body(alias, request, place))
    if answer["timed_out"]:
        raise IndexUnavailable(f"the search took longer than {SEARCH_TIMEOUT}: make it narrower")
    found = answer["hits"]["hits"]
    shown = found[: request.limit]
    return SearchPage(
        total=answer["hits"]["total"]["value"],
        hits=await asyncio.to_thread(_hits, request, shown),  # long texts take a while to mark
        facets=_facets(answer["aggregations"]),
        cursor=_next_cursor(request, place, shown) if shown and len(found) > len(shown) else None,
    )


def _search_body(alias: str, request: SearchRequest, place: Place | None) -> dict[str, Any]:
    keys = [{"ts": "desc"}, {"id": "desc"}]
    after = None if place is None else [place.ts_ms, place.log_id]
    if request.by_score:
        keys = [{"_score": "desc"}, *keys]
        after = None if place is None or after is None else [place.score, *after]
    body: dict[str, Any] = {
        "index": alias,
        "query": to_dsl(request.query),
        "size": request.limit + 1,  # one more, to know whether there is a next page
        "sort": keys,
        "aggs": _AGGREGATIONS,
        "source_includes": ["record"],
        "track_total_hits": True,
        "timeout": SEARCH_TIMEOUT,
        "allow_partial_search_results": False,
    }
    return body if after is None else body | {"search_after": after}


def _hits(request: SearchRequest, found: Sequence[Mapping[str, Any]]) -> tuple[Hit, ...]:
    return tuple(_hit(request, hit) for hit in found)


def _hit(request: SearchRequest, hit: Mapping[str, Any]) -> Hit:
    tagged = record_of(hit)
    return Hit(tagged, hit["sort"][0] if request.by_score else None, highlight(request.query, texts(tagged)))


def _next_cursor(request: SearchRequest, place: Place | None, shown: Sequence[Mapping[str, Any]]) -> str:
    score, ts_ms, log_id = ([] if request.by_score else [0.0]) + shown[-1]["sort"]
    seen = len(shown) + (place.seen if place else 0)
    return encode(Place(search_key(request.query, request.sort), seen, score, ts_ms, log_id))


def _facets(aggregations: Mapping[str, Any]) -> dict[str, tuple[FacetCount, ...]]:
    return {
        name: tuple(FacetCount(bucket["key"], bucket["doc_count"]) for bucket in aggregations[name]["buckets"])
        for name in FACETS
    }
