"""Query tree -> search text that parses to the same tree."""

import re

from tunemill.indexer.ast import And, Between, Everything, Is, Not, Or, Query, StartsWith, WordPrefix, Words
from tunemill.indexer.dates import iso

_PLAIN = re.compile(r'(?!-)[^\s()"*:]+')
_OPERATORS = {"AND", "OR", "NOT"}


def to_text(query: Query) -> str:
    """A search text that `query.parse` reads as this tree."""
    match query:
        case Not(item):
            text = f"NOT {_grouped(item)}"
        case And(items):
            text = " ".join(_grouped(item) for item in items)
        case Or(items):
            text = " OR ".join(_grouped(item) if isinstance(item, Or) else to_text(item) for item in items)
        case _:
            text = _term(query)
    return text


def _term(query: Everything | Words | WordPrefix | Is | StartsWith | Between) -> str:
    match query:
        case Everything():
            text = ""
        case Words(words, None):
            text = words if _PLAIN.fullmatch(words) and words not in _OPERATORS else quoted(words)
        case Words(words, part):
            text = f"{part}:{quoted(words)}"
        case WordPrefix(beginning, part):
            text = f"{part}:{beginning}*" if part else f"{beginning}*"
        case Is(name, value):
            text = f"{name}:{quoted(value)}"
        case StartsWith(name, prefix):
            text = f"{name}:{quoted(prefix)}*" if prefix else f"{name}:*"
        case Between():
            text = _range(query)
    return text


def _grouped(query: Query) -> str:
    text = to_text(query)
    return f"({text})" if isinstance(query, And | Or) else text


def quoted(text: str) -> str:
    """The text as a phrase or a value in quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _range(between: Between) -> str:
    low, high = _bound(between.field, between.low), _bound(between.field, between.high)
    opening, closing = "[" if between.low_included else "{", "]" if between.high_included else "}"
    return f"{between.field}:{opening}{low} TO {high}{closing}"


def _bound(field: str, bound: float | None) -> str:
    if bound is None:
        return "*"
    return iso(int(bound)) if field == "ts" else repr(bound)
