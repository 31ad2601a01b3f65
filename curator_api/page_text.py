"""How values read on a page: times, sizes, numbers, and the search text behind a facet's link. Pure."""

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

DASH = "–"  # where there is no value
_BARE_VALUE = re.compile(r'[^\s()"*<>\[\]{}]+')
_SHORT = {"language": "lang"}  # fields that people call by a shorter name


def moment(ms: int | None) -> str:
    """Milliseconds since the epoch as `2026-05-01 08:00:05`, UTC."""
    return DASH if ms is None else _utc(ms).strftime("%Y-%m-%d %H:%M:%S")


def iso(ms: int | None) -> str:
    """The same as a machine reads it, for `<time datetime>`."""
    return "" if ms is None else _utc(ms).isoformat(timespec="seconds")


def _utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def amount(value: Any) -> str:
    """A number for a person: thousands apart, four significant digits of a fraction; a dash for None."""
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) or (value.is_integer() and abs(value) >= 1000) else f"{value:.4g}"


def pretty(value: Any) -> str:
    """JSON with indentation. Text that is JSON itself (a tool call's arguments) is laid out too; text that is not stays as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)
    return json.dumps(value, ensure_ascii=False, indent=2)


def term(field: str, value: str) -> str:
    """The search term for a field's value, such as `tag:topic:math`."""
    if not _BARE_VALUE.fullmatch(value):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        value = f'"{escaped}"'
    return f"{_SHORT.get(field, field)}:{value}"


def has_term(query: str, wanted: str) -> bool:
    """Whether the search text holds this term as a word of its own."""
    return f" {wanted} " in f" {query} "


def toggled(query: str, wanted: str) -> str:
    """The search text with the term added, or without it where it was there."""
    if has_term(query, wanted):
        return " ".join(f" {query} ".replace(f" {wanted} ", " ", 1).split())
    # AND binds closer than OR: what stood alone is kept together.
    kept = f"({query})" if re.search(r"\sOR\s", query) else query
    return f"{kept} {wanted}".strip()


def address(path: str, **parameters: str | None) -> str:
    """A link with those of the parameters that have a value."""
    given = {name: value for name, value in parameters.items() if value}
    return f"{path}?{urlencode(given)}" if given else path
