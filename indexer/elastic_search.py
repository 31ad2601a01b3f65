"""A page of search from Elasticsearch: one request, and the answer as the port has it."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from elasticsearch import ApiError, AsyncElasticsearch

from tunemill.indexer.ast import Query, has_words
from tunemill.indexer.cursor import Place, decode, next_cursor
from tunemill.indexer.document import texts
from tunemill.indexer.elastic_client import answers_as, translated
from tunemill.indexer.elastic_point import KEEP_ALIVE, CurrentPoint
from tunemill.indexer.elastic_query import Dsl, to_dsl
from tunemill.indexer.errors import CursorInvalid, SearchIndexError, SearchTooSlow
from tunemill.indexer.fields import LARGEST_WHOLE, WHOLE_NUMBERS
from tunemill.indexer.highlight import highlight_each, wanted
from tunemill.indexer.histogram import is_right, widest_ms, width_ms
from tunemill.indexer.search import (
    FACET_VALUES,
    FACETS,
    SEARCH_TIMEOUT_S,
    SIMILAR_CHARACTERS,
    SIMILAR_PARTS,
    SIMILAR_SHARE,
    SIMILAR_WORDS,
    FacetCount,
    Fragment,
    Histogram,
    Hit,
    Order,
    SearchPage,
    SearchRequest,
)
from tunemill.schemas.records import TaggedLog

_SHARD_VALUES = 2_000  # of each shard, so that counts over several indices are exact for all but odd data
_FACETS = {name: {"terms": {"field": name, "size": FACET_VALUES, "shard_size": _SHARD_VALUES}} for name in FACETS}
_LIMITS: dict[str, Any] = {"timeout": f"{SEARCH_TIMEOUT_S}s", "allow_partial_search_results": False}
_BY_ALL_SHARDS = "dfs_query_then_fetch"  # scores by how frequent a word is in all indices, not in each
_MARKED_AT_ONCE = 50_000  # characters of a page, some milliseconds: a thread costs as much as to mark some thousands
_NOT_ASCII = 20  # times as long as ASCII at most
_SOUGHT_AT_ONCE = 100  # characters of a query's words: with hundreds of words such a page takes most of a second
_POINT_IS_OVER = {
    "search_context_missing_exception",  # too old
    "no_shard_available_action_exception",  # an index that it saw is gone
    "index_not_found_exception",
    "illegal_argument_exception",  # not an id that Elasticsearch gave
    "x_content_parse_exception",
}
_TOO_SLOW = {"search_timeout_exception"}  # it answers so, with 429, where no part of a result is wanted


class _Source(msgspec.Struct):
    record: TaggedLog


class _Found(msgspec.Struct, rename={"source": "_source", "score": "_score"}):
    source: _Source
    score: float | None = None
    sort: list[Any] = []


class _Total(msgspec.Struct):
    value: int


class _Hits(msgspec.Struct):
    hits: list[_Found]
    total: _Total


class _Answer(msgspec.Struct):
    timed_out: bool
    hits: _Hits
    aggregations: dict[str, Any] = {}


_ANSWER = msgspec.json.Decoder(_Answer)


class ElasticSearch:
    """Searches of the logs behind an alias."""

    def __init__(self, client: AsyncElasticsearch, alias: str) -> None:
        self._client = client
        self._alias = alias
        self._point = CurrentPoint(client, alias)

    def renew(self) -> None:
        """What is searched has changed by our own doing: the next search sees it."""
        self._point.renew()

    async def page(self, request: SearchRequest) -> SearchPage:
        """One page of the logs that match."""
        place = decode(request)
        try:
            return await self._page(request, place, await self._begin(request) if place is None else place.point)
        except CursorInvalid:
            if place is not None and not request.by_time:
                raise
            self._point.renew()
            return await self._page(request, place, await self._begin(request) if place is None else "")

    async def close(self) -> None:
        """Let go of the points in time that no cursor names."""
        await self._point.close()

    async def _page(self, request: SearchRequest, place: Place | None, point: str) -> SearchPage:
        with self._point.used(point):
            bucket_ms = widest_ms(request.query, await self._point.span()) if request.counts else None
            body = _body(request, place, bucket_ms)
            if place is not None and point:  # whoever made the cursor may have named a point of another project's logs
                body["query"] = {"bool": {"must": body["query"], "filter": {"term": {"_index": self._alias}}}}
            answer = await self._ask(body, point)
            histogram = None
            if bucket_ms is not None:
                histogram = _of_whole_page(request, answer) or await self._fitting(
                    _histogram(answer.aggregations, bucket_ms), body["query"], point
                )
            page = await _as_page(request, place, answer, point, histogram)
            if page.cursor is not None or (place is not None and not request.limit):  # counted now, to be gone on with
                self._point.keep(point)
            return page

    async def _fitting(self, found: Histogram, query: Dsl, point: str) -> Histogram:
        """The histogram of the matches by the width that their own first and last time ask for."""
        if is_right(found.bucket_ms, [start for start, _ in found.buckets]):
            return found
        counts = {"query": query, "size": 0, "track_total_hits": True, **_LIMITS}
        ends = await self._ask(counts | {"aggs": {name: {name: {"field": "ts"}} for name in ("min", "max")}}, point)
        first, last = (ends.aggregations[name]["value"] for name in ("min", "max"))
        if first is None:  # gone since, for without a point each request sees another moment
            return found
        bucket_ms = width_ms((int(first), int(last)))
        answer = await self._ask(counts | {"aggs": {"ts": _over_time(bucket_ms)}}, point)
        return _histogram(answer.aggregations, bucket_ms)

    async def similar(self, text: str, *, limit: int) -> tuple[Hit, ...]:
        """The logs whose prompts and answers share most of the words that are telling in this text."""
        alike = {
            "fields": SIMILAR_PARTS,
            "like": text[:SIMILAR_CHARACTERS],
            "min_term_freq": 1,
            "min_doc_freq": 1,
            "max_query_terms": SIMILAR_WORDS,
            "minimum_should_match": f"{SIMILAR_SHARE}%",
        }
        body = {
            "query": {"more_like_this": alike},
            "size": limit,
            "source_includes": ["record"],
            "search_type": _BY_ALL_SHARDS,
            **_LIMITS,
        }
        answer = await self._ask(body, "")
        return tuple(Hit(hit.source.record, hit.score, ()) for hit in answer.hits.hits)

    async def _begin(self, request: SearchRequest) -> str:
        """The point that a first page is of; none where no page can follow."""
        return await self._point.name() if request.limit else ""

    async def _ask(self, body: Mapping[str, Any], point: str) -> _Answer:
        """The answer to a search in a point in time, or without one in the index as it is.

        Raises:
            CursorInvalid: the point is over.
            SearchTooSlow: it took too long.
        """
        where: dict[str, Any] = {"pit": {"id": point, "keep_alive": KEEP_ALIVE}} if point else {"index": self._alias}
        try:
            with translated(), answers_as(_ANSWER):
                answer = (await self._client.search(**where, **body)).body
        except SearchIndexError as error:
            causes = _root_causes(error)
            if causes & _TOO_SLOW:
                raise SearchTooSlow(SEARCH_TIMEOUT_S) from error
            if point and causes & _POINT_IS_OVER:
                raise CursorInvalid("the point in time that this cursor is of is over: search again") from error
            raise
        if not isinstance(answer, _Answer):
            raise SearchIndexError("Elasticsearch answered a search without its hits")
        if answer.timed_out:
            raise SearchTooSlow(SEARCH_TIMEOUT_S)
        return answer


def _root_causes(error: SearchIndexError) -> set[str]:
    """The kinds of error that an answer names as what lies behind it."""
    cause = error.__cause__
    body = cause.body if isinstance(cause, ApiError) else None
    details = body.get("error") if isinstance(body, dict) else None
    roots = details.get("root_cause", ()) if isinstance(details, dict) else ()
    return {root.get("type") for root in roots}


def _body(request: SearchRequest, place: Place | None, bucket_ms: int | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "query": to_dsl(request.query),
        "size": request.limit + 1 if request.limit else 0,  # one more, to know whether there is a next page
        "sort": _sort(request),
        "source_includes": ["record"],
        "track_total_hits": True,
        **_LIMITS,
    }
    if bucket_ms is not None:
        body["aggs"] = {**_FACETS, "ts": _over_time(bucket_ms)}
    if request.by_score:
        body["search_type"] = _BY_ALL_SHARDS
    if place is not None and request.limit:
        body["search_after"] = _after(request, place)
    return body


def _of_whole_page(request: SearchRequest, answer: _Answer) -> Histogram | None:
    """The histogram of matches that are all on this page, which needs no further request; None: they are not."""
    times = [_keys(request, hit)[1] for hit in answer.hits.hits]
    if not times or len(times) != answer.hits.total.value:
        return None
    bucket_ms = width_ms((min(times), max(times)))
    counts = Counter(time - time % bucket_ms for time in times)
    return Histogram(bucket_ms, tuple(sorted(counts.items())))


def _over_time(bucket_ms: int) -> Dsl:
    return {"date_histogram": {"field": "ts", "fixed_interval": f"{bucket_ms}ms", "min_doc_count": 1}}


def _sort(request: SearchRequest) -> list[dict[str, Any]]:
    ties = [{"ts": "desc"}, {"id": "desc"}]
    if request.by_score:
        return [{"_score": "desc"}, *ties]
    field, direction = request.order.field, "desc" if request.order.descending else "asc"
    if field == "ts":
        return [{"ts": direction}, {"id": "desc"}]
    # An index that was made before there was such a field has no values of it.
    return [{field: {"order": direction, "missing": "_last", "unmapped_type": _type(field)}}, *ties]


def _type(field: str) -> str:
    return "long" if field in WHOLE_NUMBERS else "double"


def _after(request: SearchRequest, place: Place) -> list[Any]:
    if request.by_time:
        return [place.ts_ms, place.log_id]
    key = _missing(request.order) if place.key is None and not request.by_score else place.key
    return [key, place.ts_ms, place.log_id]


def _missing(order: Order) -> int | str:
    """What Elasticsearch sorts a log by that has no value."""
    if order.field in WHOLE_NUMBERS:
        return -LARGEST_WHOLE - 1 if order.descending else LARGEST_WHOLE
    return "-Infinity" if order.descending else "Infinity"


def _keys(request: SearchRequest, hit: _Found) -> tuple[int | float | None, int, str]:
    keys = hit.sort  # in a point in time there is one more behind them
    if request.by_time:
        return keys[0], keys[0], keys[1]
    key = None if not request.by_score and keys[0] == _missing(request.order) else keys[0]
    return key, keys[1], keys[2]


async def _as_page(
    request: SearchRequest, place: Place | None, answer: _Answer, point: str, histogram: Histogram | None
) -> SearchPage:
    shown = answer.hits.hits[: request.limit]
    more = shown and len(answer.hits.hits) > len(shown)
    return SearchPage(
        total=answer.hits.total.value,
        hits=await _marked(request, shown),
        facets={} if histogram is None else _facets(answer.aggregations),
        histogram=histogram,
        cursor=next_cursor(request, place, len(shown), _keys(request, shown[-1]), point) if more else None,
        point=point,
    )


async def _marked(request: SearchRequest, found: Sequence[_Found]) -> tuple[Hit, ...]:
    """The hits with what matched in them. Long texts take a while to mark: not on the event loop."""
    if not has_words(request.query):
        return tuple(Hit(hit.source.record, None, ()) for hit in found)
    shown = [texts(hit.source.record) for hit in found]

    def marked() -> tuple[Hit, ...]:
        return tuple(map(partial(_hit, request), found, highlight_each(request.query, shown)))

    return await asyncio.to_thread(marked) if _takes_long(request.query, shown) else marked()


def _takes_long(query: Query, shown: Iterable[Mapping[str, Sequence[str]]]) -> bool:
    if sum(len(item.text) for item in wanted(query)) > _SOUGHT_AT_ONCE:
        return True
    sizes = (
        len(text) * (1 if text.isascii() else _NOT_ASCII) for log in shown for some in log.values() for text in some
    )
    return sum(sizes) > _MARKED_AT_ONCE


def _hit(request: SearchRequest, hit: _Found, marked: tuple[Fragment, ...] | None) -> Hit:
    score = hit.sort[0] if request.by_score else None
    return Hit(hit.source.record, score, marked or (), is_marked=marked is not None)


def _facets(aggregations: Mapping[str, Any]) -> dict[str, tuple[FacetCount, ...]]:
    return {
        name: tuple(FacetCount(bucket["key"], bucket["doc_count"]) for bucket in aggregations[name]["buckets"])
        for name in FACETS
    }


def _histogram(aggregations: Mapping[str, Any], bucket_ms: int) -> Histogram:
    buckets = aggregations["ts"]["buckets"]
    return Histogram(bucket_ms, tuple((bucket["key"], bucket["doc_count"]) for bucket in buckets))
