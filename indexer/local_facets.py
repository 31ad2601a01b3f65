"""How many matching logs have which values, from tantivy.

To count a field takes tantivy a look into it for each log, and ten times as long where some logs have no value or several.
So beside the facets' fields there are two in which every log has one text, all its values in some of them: logs with the same
text are counted at once. What else is counted is counted below a field of which every log has one of few values, too: that
takes half the time of a histogram alone, or of counting hits one by one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from tunemill.indexer.fields import SEVERAL_VALUES
from tunemill.indexer.search import FACET_VALUES, FACETS, FacetCount

COMBINED = {
    "combined_call": tuple(name for name in FACETS if name not in SEVERAL_VALUES),
    "combined_labels": SEVERAL_VALUES,  # apart: with these one text would have too many values
}
ONE_OF_FEW = {"terms": {"field": "tagging"}}  # every log has one of two values
MOST_TEXTS = 2_000  # different ones among the hits; with more of them each field is counted by itself
LONGEST_TEXT = 10_000  # bytes; tantivy cuts off what is behind 65,530

Aggregations = dict[str, dict[str, Any]]
Values = str | tuple[str, ...] | None

_TOO_LONG = "null"  # in the place of a text
# More than are shown, because among equal counts tantivy takes any and we the first by name.
_EACH: Aggregations = {name: {"terms": {"field": name, "size": 20 * FACET_VALUES}} for name in FACETS}
_decode = msgspec.json.Decoder(tuple[tuple[str, ...], ...]).decode


@lru_cache(1_024)  # most logs have the same as others
def combined(values: tuple[Values, ...]) -> str:
    """The values of one log in some fields as one text; the same for the same values."""
    encoded = msgspec.json.encode([_sorted(some) for some in values])
    return encoded.decode() if len(encoded) <= LONGEST_TEXT else _TOO_LONG


def total(searcher: Any, matching: Any) -> int:
    """How many logs match a tantivy query."""
    found = searcher.aggregate(matching, {"logs": ONE_OF_FEW})
    return sum(bucket["doc_count"] for bucket in found["logs"]["buckets"])


def facets(searcher: Any, matching: Any, *, bucket_ms: int) -> tuple[dict[str, tuple[FacetCount, ...]], dict[int, int]]:
    """The most frequent values of each facet among the logs that match a tantivy query, and how many were made when."""
    texts: Aggregations = {field: {"terms": {"field": field, "size": MOST_TEXTS}} for field in COMBINED}
    found = searcher.aggregate(matching, {**texts, **_logs_by_time(bucket_ms)})
    counted: dict[str, Mapping[str, int]] = {}
    for field, names in COMBINED.items():
        if _is_whole(found[field]):
            counted |= _by_text(names, found[field]["buckets"])
        else:
            each = searcher.aggregate(matching, {name: _EACH[name] for name in names})
            counted |= {name: {item["key"]: item["doc_count"] for item in each[name]["buckets"]} for name in names}
    return {name: _most_frequent(counted[name]) for name in FACETS}, _by_time(found["logs"]["buckets"])


def over_time(searcher: Any, matching: Any, *, bucket_ms: int) -> dict[int, int]:
    """How many logs that match a tantivy query were made when: where each bucket that holds some begins, the oldest first."""
    return _by_time(searcher.aggregate(matching, _logs_by_time(bucket_ms))["logs"]["buckets"])


def _logs_by_time(bucket_ms: int) -> Aggregations:
    in_buckets = {"histogram": {"field": "ts", "interval": float(bucket_ms), "min_doc_count": 1}}
    return {"logs": ONE_OF_FEW | {"aggs": {"ts": in_buckets}}}


def _sorted(values: Values) -> list[str]:
    if values is None:
        return []
    return [values] if isinstance(values, str) else sorted(set(values))


def _by_time(either: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """How many logs each bucket of time holds, the oldest first."""
    counted: Counter[int] = Counter()
    for logs in either:
        counted.update({int(bucket["key"]): bucket["doc_count"] for bucket in logs["ts"]["buckets"]})
    return dict(sorted(counted.items()))


def _is_whole(terms: Mapping[str, Any]) -> bool:
    return terms["sum_other_doc_count"] == 0 and all(bucket["key"] != _TOO_LONG for bucket in terms["buckets"])


def _by_text(names: Sequence[str], buckets: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """Of each field, how many logs have each value."""
    counted: dict[str, Counter[str]] = {name: Counter() for name in names}
    for bucket in buckets:
        for name, values in zip(names, _decode(bucket["key"]), strict=True):
            for value in values:
                counted[name][value] += bucket["doc_count"]
    return counted


def _most_frequent(logs_by_value: Mapping[str, int]) -> tuple[FacetCount, ...]:
    ranked = sorted(logs_by_value.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(FacetCount(value, count) for value, count in ranked[:FACET_VALUES])
