"""Query tree -> tantivy query. Only words count towards the score; everything else filters."""

from typing import Any

from tantivy import FieldType, Occur
from tantivy import Query as TantivyQuery

from tunemill.indexer.analysis import folded, is_cjk_run, stems_shorter_than, terms
from tunemill.indexer.ast import And, Between, Everything, Is, Not, Or, Query, StartsWith, WordPrefix, Words
from tunemill.indexer.fields import METADATA, PARTS, WHOLE_NUMBERS, metadata_term
from tunemill.indexer.ranges import float_order, whole_bounds

EVERYTHING = TantivyQuery.const_score_query(TantivyQuery.all_query(), 0.0)


def to_tantivy(query: Query, schema: Any) -> Any:
    """The query for a tantivy searcher."""
    match query:
        case Everything():
            found = EVERYTHING
        case Words(text, part):
            found = _words(terms(text), part, schema)
        case WordPrefix(text, part):
            found = _word_prefix(text, part, schema)
        case Is() | StartsWith() | Between():
            found = TantivyQuery.const_score_query(_filter(query, schema), 0.0)
        case Not(item):
            found = TantivyQuery.boolean_query([(Occur.Must, EVERYTHING), (Occur.MustNot, to_tantivy(item, schema))])
        case And(items):
            found = TantivyQuery.boolean_query([(Occur.Must, to_tantivy(item, schema)) for item in items])
        case Or(items):
            found = _either([to_tantivy(item, schema) for item in items])
    return found


def _named(part: str | None) -> tuple[str, ...]:
    return PARTS if part is None else (part,)


def _either(ways: list[Any]) -> Any:
    return ways[0] if len(ways) == 1 else TantivyQuery.boolean_query([(Occur.Should, way) for way in ways])


def _words(words: list[str], part: str | None, schema: Any) -> Any:
    if not words:
        return TantivyQuery.empty_query()
    if len(words) == 1:
        return _either([TantivyQuery.term_query(schema, name, words[0]) for name in _named(part)])
    return _either([TantivyQuery.phrase_query(schema, name, list(words)) for name in _named(part)])


def _word_prefix(text: str, part: str | None, schema: Any) -> Any:
    if is_cjk_run(text):
        return _words(terms(text), part, schema)
    prefix = folded(text)
    ways = [_prefix(name, prefix, schema) for name in _named(part)]
    for stem in sorted(stems_shorter_than(prefix)):
        ways += [TantivyQuery.term_query(schema, name, stem) for name in _named(part)]
    return TantivyQuery.const_score_query(_either(ways), 1.0)


def _filter(query: Is | StartsWith | Between, schema: Any) -> Any:
    match query:
        case Is(field, value) if field.startswith(METADATA):
            found = TantivyQuery.term_query(schema, "metadata", metadata_term(field[len(METADATA) :], value), "basic")
        case Is(field, value):
            found = TantivyQuery.term_query(schema, field, value, "basic")
        case StartsWith(field, prefix) if field.startswith(METADATA):
            found = _prefix("metadata", metadata_term(field[len(METADATA) :], prefix), schema)
        case StartsWith(field, ""):
            found = TantivyQuery.exists_query(field)
        case StartsWith(field, prefix):
            found = _prefix(field, prefix, schema)
        case Between():
            found = _range(query, schema)
    return found


def _prefix(field: str, prefix: str, schema: Any) -> Any:
    """tantivy has no query for a prefix alone; the fuzzy one that allows no difference is one."""
    return TantivyQuery.fuzzy_term_query(schema, field, prefix, distance=0, prefix=True)


def _range(between: Between, schema: Any) -> Any:
    if between.low is None and between.high is None:
        return TantivyQuery.exists_query(between.field)
    if between.field in WHOLE_NUMBERS:
        low, high = whole_bounds(between)
        return TantivyQuery.range_query(schema, between.field, FieldType.Integer, low, high)
    return TantivyQuery.range_query(
        schema,
        between.field,
        FieldType.Integer,
        None if between.low is None else float_order(between.low),
        None if between.high is None else float_order(between.high),
        include_lower=between.low is None or between.low_included,  # tantivy refuses to leave out what is no bound
        include_upper=between.high is None or between.high_included,
    )
