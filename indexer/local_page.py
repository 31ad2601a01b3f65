"""One page of hits from tantivy in an order that has no ties: (score, ts, log_id), the largest first.

tantivy orders by one key and leaves ties in any order, so each page fetches whole groups of ties and orders them itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunemill.indexer.ast import And, Between, Query
from tunemill.indexer.cursor import Place
from tunemill.indexer.local_query import to_tantivy
from tunemill.indexer.search import SearchRequest

IdsOf = Callable[[Sequence[int]], dict[int, str]]


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A hit and its sort keys; the score is 0 when not sorted by it."""

    score: float
    ts_ms: int
    log_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class _Candidate:
    key: tuple[float, int]  # score, ts
    seq: int


def page(
    searcher: Any, schema: Any, request: SearchRequest, place: Place | None, ids_of: IdsOf
) -> tuple[list[Found], bool]:
    """The hits after a place, at most `request.limit`, and whether more follow."""
    wanted = request.limit + 1
    reach = wanted + (place.seen if place and request.by_score else 0)
    while True:
        candidates, exhausted = _top(searcher, schema, request, place, reach)
        hits = _after(place, candidates, wanted, ids_of)
        if len(hits) >= wanted or exhausted:
            return hits[: request.limit], len(hits) > request.limit
        reach *= 2


def _top(
    searcher: Any, schema: Any, request: SearchRequest, place: Place | None, reach: int
) -> tuple[list[_Candidate], bool]:
    """At least `reach` best candidates in order, no group of ties cut in two; and whether that is all there are."""
    query = to_tantivy(_from_place(request, place), schema)
    order = {} if request.by_score else {"order_by_field": "ts"}
    reach = min(
        reach, searcher.num_docs
    )  # tantivy takes memory for as many hits as it is asked for, and cursors can be forged
    count = reach + 1
    while True:
        hits = searcher.search(query, limit=count, count=False, **order).hits
        if len(hits) < count:
            return _candidates(searcher, request, hits), True
        if hits[-1][0] < hits[reach - 1][0]:
            return _candidates(searcher, request, [hit for hit in hits if hit[0] > hits[-1][0]]), False
        count *= 4


def _from_place(request: SearchRequest, place: Place | None) -> Query:
    """Sorted by time, a later page need not look at what is newer than its place."""
    if place is None or request.by_score:
        return request.query
    return And((request.query, Between("ts", None, place.ts_ms)))


def _candidates(searcher: Any, request: SearchRequest, hits: Sequence[tuple[float, Any]]) -> list[_Candidate]:
    addresses = [address for _, address in hits]
    seqs = searcher.fast_field_values("seq", addresses)
    times = searcher.fast_field_values("ts", addresses)
    scores = [score if request.by_score else 0.0 for score, _ in hits]
    found = [_Candidate((score, ts), seq) for score, ts, seq in zip(scores, times, seqs, strict=True)]
    return sorted(found, key=lambda candidate: candidate.key, reverse=True)


def _after(place: Place | None, candidates: Sequence[_Candidate], wanted: int, ids_of: IdsOf) -> list[Found]:
    """The first `wanted` candidates that come after the place; ids are looked up only for those that may be among them."""
    start = (place.score, place.ts_ms) if place else None
    pool = [candidate for candidate in candidates if start is None or candidate.key <= start]
    end = wanted + sum(candidate.key == start for candidate in pool)
    while end < len(pool) and pool[end].key == pool[end - 1].key:
        end += 1
    ids = ids_of([candidate.seq for candidate in pool[:end]])
    found = [Found(*item.key, ids[item.seq], item.seq) for item in pool[:end] if item.seq in ids]
    last = (place.score, place.ts_ms, place.log_id) if place else None
    return sorted((hit for hit in found if last is None or (hit.score, hit.ts_ms, hit.log_id) < last), reverse=True)[
        :wanted
    ]
