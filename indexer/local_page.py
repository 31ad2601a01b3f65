"""One page of hits from tantivy in an order that has no ties: by a key, those without one last, then (ts, log_id), the largest first.

tantivy orders by one key and leaves ties in any order. Some ties of a score are fetched whole and ordered here; many, and those
of a field, are asked for by time, a value at a time, so that a page costs as much where a million logs have the same value.
By time, the first hits are looked for in a small part of it before in all, because tantivy looks at every hit for the first one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tantivy import FieldType, Occur
from tantivy import Order as Direction
from tantivy import Query as TantivyQuery

from tunemill.indexer.analysis import is_cjk_run, terms
from tunemill.indexer.ast import And, Or, Query, WordPrefix, Words, has_words
from tunemill.indexer.cursor import Place
from tunemill.indexer.histogram import Span
from tunemill.indexer.local_facets import total
from tunemill.indexer.local_query import to_tantivy
from tunemill.indexer.search import NEWEST, Order, SearchRequest

IdsOf = Callable[[Sequence[int]], dict[int, str]]
Key = int | float | None

FEW_TIES = 100  # of a score: looked at first, because tantivy passes over the fewer logs, the more hits it is asked for
MANY_TIES = 1_000  # of a score: from here on they are asked for by time
PARTS_OF_TIME = (1_024, 32)  # in such a part of the index's time the first hits are looked for, the smallest first


@dataclass(frozen=True, slots=True)
class View:
    """One point in time: a searcher, when its first and last log were made, and what knows the ids of the logs by their numbers."""

    searcher: Any
    schema: Any
    span: Callable[[], Span | None]
    ids_of: IdsOf


class Found(NamedTuple):
    """A hit and its sort keys."""

    key: Key
    ts_ms: int
    log_id: str
    seq: int


class _Candidate(NamedTuple):
    rank: tuple[float, ...]  # the smallest comes first; of equal ones the larger log_id
    key: Key
    ts_ms: int
    seq: int


class _Start(NamedTuple):
    """Where the last page ended, in a stretch of the order."""

    rank: tuple[float, ...]
    log_id: str


class _Stretch(NamedTuple):
    """A part of the order that tantivy sorts by one key."""

    how: dict[str, Any]  # tantivy's arguments for its sort; none: by score
    candidate: Callable[[Any, int, int], _Candidate]  # of its key, ts and seq
    starts: Sequence[Any] = ()  # queries for what it begins with, the least first
    ties: int = 1  # of the last hit: so many are asked for with the first hits


def page(view: View, request: SearchRequest, place: Place | None) -> tuple[list[Found], bool]:
    """The hits after a place, at most `request.limit`, and whether more follow."""
    if request.limit == 0:
        return [], False
    wanted, query = request.limit + 1, to_tantivy(request.query, view.schema)
    if request.by_score and not _scores_alike(request.query):
        found = _by_score(view, query, place, wanted, MANY_TIES if _has_phrase(request.query) else FEW_TIES)
    elif request.by_score:
        found = _by_time(view, query, place, wanted, key=1.0)
    elif request.order.field == "ts":
        found = _by_time(view, query, place, wanted, order=request.order)
    else:
        found = _by_field(view, query, request.order, place, wanted)
    return found[: request.limit], len(found) > request.limit


def _scores_alike(query: Query) -> bool:
    """Whether all hits have the same score: nothing counts but the beginning of one word."""
    items = query.items if isinstance(query, And) else (query,)
    counting = [item for item in items if has_words(item)]
    return len(counting) == 1 and isinstance(counting[0], WordPrefix) and not is_cjk_run(counting[0].text)


def _has_phrase(query: Query) -> bool:
    """Whether words must stand side by side: tantivy looks at all that have them, however few hits it is asked for."""
    match query:
        case Words(text):
            return len(terms(text)) > 1
        case And(items) | Or(items):
            return any(_has_phrase(item) for item in items)
        case _:
            return False


def _by_score(view: View, query: Any, place: Place | None, wanted: int, ties: int) -> list[Found]:
    start = _Start((-(place.key or 0.0), -place.ts_ms), place.log_id) if place else None
    stretch = _Stretch({}, lambda score, ts, seq: _Candidate((-score, -ts), score, ts, seq), ties=ties)
    return _first(view, query, stretch, start, (wanted, wanted + (place.seen if place else 0)))


def _by_time(
    view: View, query: Any, place: Place | None, wanted: int, *, order: Order = NEWEST, key: Key = None
) -> list[Found]:
    """By time, and by log_id at one time; a later page need not look at what comes before its place.

    Args:
        key: what all of them have; None and sorted by nothing else: their time.
    """
    sign = -1 if order.descending else 1
    start = None
    if place:
        start = _Start((sign * place.ts_ms,), place.log_id)
        bounds = (None, place.ts_ms) if order.descending else (place.ts_ms, None)
        query = _both(query, _range(view, "ts", *bounds))
    stretch = _Stretch(
        _by_ts(order), lambda ts, _, seq: _Candidate((sign * ts,), key, ts, seq), _starts(view, order, place)
    )
    return _first(view, query, stretch, start, (wanted, wanted))


def _by_field(view: View, query: Any, order: Order, place: Place | None, wanted: int) -> list[Found]:
    """1. the rest of those that have the place's value; 2. value by value what comes after; 3. those without a value."""
    found: list[Found] = []
    value = None if place is None or place.key is None else int(place.key)
    if value is not None:
        found = _by_time(view, _both(query, _range(view, order.field, value, value)), place, wanted, key=value)
    if place is None or value is not None:
        while len(found) < wanted:
            more, value = _next_values(view, query, order, value, wanted - len(found))
            if value is None:
                break
            found += more
        place = None
    if len(found) < wanted:
        none = TantivyQuery.boolean_query(
            [(Occur.Must, query), (Occur.MustNot, TantivyQuery.exists_query(order.field))]
        )
        found += _by_time(view, none, place, wanted - len(found))
    return found


def _next_values(
    view: View, query: Any, order: Order, value: int | None, wanted: int
) -> tuple[list[Found], int | None]:
    """The hits with the values that come after this one, and the last of these values; None: there are none."""
    sign = -1 if order.descending else 1
    hits = view.searcher.search(
        _both(query, _beyond(view, order, value)),
        limit=min(wanted, max(1, view.searcher.num_docs)),
        count=False,
        order_by_field=order.field,
        order=Direction.Desc if order.descending else Direction.Asc,
    ).hits
    if not hits:
        return [], None
    last = hits[-1][0]
    whole = [hit for hit in hits if hit[0] != last]
    stretch = _Stretch({}, lambda key, ts, seq: _Candidate((sign * key, -ts), key, ts, seq))
    found = _named(_candidates(view, stretch, whole), view.ids_of)
    same = _both(query, _range(view, order.field, last, last))
    return found + _by_time(view, same, None, wanted - len(found), key=last), last


def _first(view: View, query: Any, stretch: _Stretch, start: _Start | None, many: tuple[int, int]) -> list[Found]:
    """The first hits of a stretch that come after its start.

    Args:
        many: how many hits, and how many of the best to look at first.
    """
    wanted, reach = many
    while True:
        candidates, exhausted = _top(view, query, stretch, reach)
        hits = _after(start, candidates, wanted, view.ids_of)
        if len(hits) >= wanted or exhausted:
            return hits
        reach *= 2


def _top(view: View, query: Any, stretch: _Stretch, reach: int) -> tuple[list[_Candidate], bool]:
    """At least `reach` best candidates in order, no group of ties cut in two; and whether that is all there are."""
    # tantivy takes memory for as many hits as it is asked for, and cursors can be forged
    reach = min(reach, max(1, view.searcher.num_docs))
    count = reach + stretch.ties
    while True:
        hits = _hits(view, query, stretch.how, count, stretch.starts)
        if not hits:
            return [], True
        last = hits[min(reach, len(hits)) - 1][0]
        better = [hit for hit in hits[:reach] if hit[0] != last]
        ties = [hit for hit in hits[len(better) :] if hit[0] == last]
        looked_at = len(better) + len(ties)
        if looked_at < len(hits) or len(hits) < count:
            return _candidates(view, stretch, better + ties), looked_at == len(hits)
        if not stretch.how and count >= reach + MANY_TIES:
            return _candidates(view, stretch, better + _newest(view, query, last, reach - len(better))), False
        count = 4 * count if stretch.how else reach + MANY_TIES


def _hits(view: View, query: Any, how: dict[str, Any], count: int, starts: Sequence[Any]) -> list[tuple[Any, Any]]:
    """The first hits in an order of tantivy's, all of them from the shortest start of the order that has so many."""
    for start in starts:
        hits: list[tuple[Any, Any]] = view.searcher.search(_both(query, start), limit=count, count=False, **how).hits
        if len(hits) == count:
            return hits
    return list(view.searcher.search(query, limit=count, count=False, **how).hits)


def _by_ts(order: Order) -> dict[str, Any]:
    return {"order_by_field": "ts", "order": Direction.Desc if order.descending else Direction.Asc}


def _starts(view: View, order: Order, place: Place | None) -> list[Any]:
    """The parts of time with which an order by time begins, after a place."""
    span = view.span()
    if span is None:
        return []
    first, last = span
    lengths = [(last - first) // part for part in PARTS_OF_TIME]
    if order.descending:
        end = min(max(place.ts_ms, first), last) if place else last  # a forged cursor's may be any
        return [_range(view, "ts", end - length, None) for length in lengths]
    begin = min(max(place.ts_ms, first), last) if place else first
    return [_range(view, "ts", None, begin + length) for length in lengths]


def _newest(view: View, query: Any, score: float, wanted: int) -> list[tuple[Any, Any]]:
    """At least so many of the hits with this score, the newest of them, none of one time left out."""
    most = max(1, view.searcher.num_docs)
    look = wanted
    while True:
        look = min(4 * look, most)
        newest = _hits(view, query, _by_ts(NEWEST), look, _starts(view, NEWEST, None))
        since = newest[-1][0] if len(newest) == look < most else None
        some = query if since is None else _both(query, _range(view, "ts", since, None))
        hits = view.searcher.search(some, limit=max(1, total(view.searcher, some)), count=False).hits
        found = [hit for hit in hits if hit[0] == score]
        if len(found) >= wanted or since is None:
            return found


def _candidates(view: View, stretch: _Stretch, hits: Sequence[tuple[Any, Any]]) -> list[_Candidate]:
    addresses = [address for _, address in hits]
    seqs = view.searcher.fast_field_values("seq", addresses)
    times = view.searcher.fast_field_values("ts", addresses)
    found = [stretch.candidate(key, ts, seq) for (key, _), ts, seq in zip(hits, times, seqs, strict=True)]
    return sorted(found, key=lambda candidate: candidate.rank)


def _after(start: _Start | None, candidates: Sequence[_Candidate], wanted: int, ids_of: IdsOf) -> list[Found]:
    """The first `wanted` candidates that come after the start; ids are looked up only for as many as it takes."""
    pool = [candidate for candidate in candidates if start is None or candidate.rank >= start.rank]
    at_start = {candidate.seq for candidate in pool if start and candidate.rank == start.rank}
    found: list[Found] = []
    end = 0
    while end < len(pool) and len(found) < wanted:
        begin, end = end, end + wanted
        while end < len(pool) and pool[end].rank == pool[end - 1].rank:
            end += 1
        named = _named(pool[begin:end], ids_of)
        found += [hit for hit in named if start is None or hit.seq not in at_start or hit.log_id < start.log_id]
    return found[:wanted]


def _named(candidates: Iterable[_Candidate], ids_of: IdsOf) -> list[Found]:
    """The candidates that are still there, in order."""
    kept = list(candidates)
    ids = ids_of([candidate.seq for candidate in kept])
    named = [(item, ids[item.seq]) for item in kept if item.seq in ids]
    named.sort(key=lambda pair: pair[1], reverse=True)
    named.sort(key=lambda pair: pair[0].rank)
    return [Found(item.key, item.ts_ms, log_id, item.seq) for item, log_id in named]


def _both(query: Any, other: Any) -> Any:
    return TantivyQuery.boolean_query([(Occur.Must, query), (Occur.Must, TantivyQuery.const_score_query(other, 0.0))])


def _beyond(view: View, order: Order, value: int | None) -> Any:
    """Those that have a value; of these, those that come after one."""
    if value is None:
        return TantivyQuery.exists_query(order.field)
    if order.descending:
        return TantivyQuery.range_query(view.schema, order.field, FieldType.Integer, None, value, include_upper=False)
    return TantivyQuery.range_query(view.schema, order.field, FieldType.Integer, value, None, include_lower=False)


def _range(view: View, field: str, low: int | None, high: int | None) -> Any:
    return TantivyQuery.range_query(view.schema, field, FieldType.Integer, low, high)
