"""Query tree -> Elasticsearch's query DSL. Only words count towards the score; everything else filters."""

from typing import Any

from tunemill.indexer.analysis import folded, is_cjk_run, stems_shorter_than
from tunemill.indexer.ast import And, Between, Everything, Is, Not, Or, Query, StartsWith, WordPrefix, Words
from tunemill.indexer.fields import PARTS, WHOLE_NUMBERS
from tunemill.indexer.ranges import whole_bounds

Dsl = dict[str, Any]
NOTHING: Dsl = {"match_none": {}}


def to_dsl(query: Query) -> Dsl:
    """The query as a request's `query`."""
    match query:
        case Everything():
            clause: Dsl = {"match_all": {"boost": 0.0}}
        case Words(text, part):
            clause = _either([{"match_phrase": {name: text}} for name in _named(part)])
        case WordPrefix(text, part):
            clause = _word_prefix(text, part)
        case Is() | StartsWith() | Between():
            clause = {"bool": {"filter": [_filter(query)]}}
        case Not(item):
            clause = {"bool": {"must_not": [to_dsl(item)]}}
        case And(items):
            clause = {"bool": {"must": [to_dsl(item) for item in items]}}
        case Or(items):
            clause = _either([to_dsl(item) for item in items])
    return clause


def _named(part: str | None) -> tuple[str, ...]:
    return PARTS if part is None else (part,)


def _either(ways: list[Dsl]) -> Dsl:
    return ways[0] if len(ways) == 1 else {"bool": {"should": ways, "minimum_should_match": 1}}


def _word_prefix(text: str, part: str | None) -> Dsl:
    if is_cjk_run(text):
        return to_dsl(Words(text, part))
    prefix = folded(text)
    stems = sorted(stems_shorter_than(prefix))
    ways: list[Dsl] = [{"prefix": {name: prefix}} for name in _named(part)]
    ways += [{"terms": {name: stems}} for name in _named(part) if stems]
    return {"constant_score": {"filter": _either(ways)}}


def _filter(query: Is | StartsWith | Between) -> Dsl:
    match query:
        case Is(field, value):
            return {"term": {field: value}}
        case StartsWith(field, ""):
            return {"exists": {"field": field}}
        case StartsWith(field, prefix):
            return {"prefix": {field: prefix}}
        case Between():
            return _range(query)


def _range(between: Between) -> Dsl:
    if between.low is None and between.high is None:
        return {"exists": {"field": between.field}}
    if between.field in WHOLE_NUMBERS:
        low, high = whole_bounds(between)
        if low > high:
            return NOTHING
        return {"range": {between.field: {"gte": low, "lte": high}}}
    bounds = {"gte" if between.low_included else "gt": between.low}
    bounds |= {"lte" if between.high_included else "lt": between.high}
    return {"range": {between.field: {name: bound for name, bound in bounds.items() if bound is not None}}}
