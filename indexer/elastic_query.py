"""Query tree -> Elasticsearch's query DSL. Only words count towards the score; everything else filters."""

from typing import Any

from tunemill.indexer.analysis import folded, is_cjk_run, stems_shorter_than
from tunemill.indexer.ast import And, Between, Everything, Is, Not, Or, Query, StartsWith, WordPrefix, Words
from tunemill.indexer.fields import WHOLE_NUMBERS
from tunemill.indexer.ranges import whole_bounds

Dsl = dict[str, Any]
NOTHING: Dsl = {"match_none": {}}


def to_dsl(query: Query) -> Dsl:
    """The query as a request's `query`."""
    match query:
        case Everything():
            clause: Dsl = {"match_all": {"boost": 0.0}}
        case Words(text):
            clause = {"match_phrase": {"content": {"query": text}}}
        case WordPrefix(text):
            clause = _word_prefix(text)
        case Is() | StartsWith() | Between():
            clause = {"bool": {"filter": [_filter(query)]}}
        case Not(item):
            clause = {"bool": {"must_not": [to_dsl(item)]}}
        case And(items):
            clause = {"bool": {"must": [to_dsl(item) for item in items]}}
        case Or(items):
            clause = {"bool": {"should": [to_dsl(item) for item in items], "minimum_should_match": 1}}
    return clause


def _word_prefix(text: str) -> Dsl:
    if is_cjk_run(text):
        return to_dsl(Words(text))
    prefix = folded(text)
    starts: list[Dsl] = [{"prefix": {"content": prefix}}]
    starts += [{"term": {"content": stem}} for stem in sorted(stems_shorter_than(prefix))]
    return {"constant_score": {"filter": {"bool": {"should": starts}}}}


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
