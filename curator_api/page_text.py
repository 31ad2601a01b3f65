"""How values read on a page: times, sizes, numbers, and the addresses and search texts behind its links. Pure."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

from tunemill.indexer import dates

DASH = "–"  # where there is no value
MAX_LAID_OUT = 1_000_000  # characters
_INDENTED = json.JSONEncoder(ensure_ascii=False, indent=2)
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
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def dollars(value: float) -> str:
    """An amount of money as `$0.0000123`: three significant digits of less than a dollar, never an exponent."""
    return f"${value:,.2f}" if abs(value) >= 1 or not value else f"${Decimal(f'{value:.3g}'):f}"


def pretty(value: Any) -> str:
    """JSON with indentation. Text that is JSON itself (a tool call's arguments) is laid out too; text that is not stays as it is."""
    if not isinstance(value, str):
        return _laid_out(value) or json.dumps(value, ensure_ascii=False)
    try:
        return _laid_out(json.loads(value)) or value
    except (ValueError, RecursionError):
        return value


def _laid_out(value: Any) -> str | None:
    """JSON with indentation; None where that would be huge: deep lists grow with the square of their length."""
    chunks: list[str] = []
    room = MAX_LAID_OUT
    for chunk in _INDENTED.iterencode(value):
        room -= len(chunk)
        if room < 0:
            return None
        chunks.append(chunk)
    text = "".join(chunks)
    text.encode()  # half a surrogate pair, written as an escape, is no text: UnicodeEncodeError is a ValueError
    return text


def term(field: str, value: str) -> str:
    """The search term for a field's value, such as `tag:topic:math`."""
    if not _BARE_VALUE.fullmatch(value):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        value = f'"{escaped}"'
    return f"{_SHORT.get(field, field)}:{value}"


def time_term(start_ms: int, end_ms: int) -> str:
    """The search term for what was made from one moment on and before another."""
    return f"ts:[{dates.iso(start_ms)} TO {dates.iso(min(end_ms, dates.LATEST_MS))}}}"


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


def log_path(log_id: str) -> str:
    """The path of a log's page. A slash is quoted: with an id of `../runs` a browser would go elsewhere."""
    return f"/logs/{quote(log_id, safe='')}"
