"""Numbers and dates in a search -> bounds."""

import math
import re
import struct

from tunemill.indexer.ast import Between, Query
from tunemill.indexer.dates import span_ms
from tunemill.indexer.errors import QueryError
from tunemill.indexer.fields import LARGEST_WHOLE

_NUMBER = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_COMPARISON = re.compile(r"([<>]=?)(.*)", re.DOTALL)
_FLOAT, _WHOLE = struct.Struct("<d"), struct.Struct("<q")
_DATE = "a date such as 2026-01-31 or 2026-01-31T10:00:00Z"

Span = tuple[float, float]  # the first and the last point that a written value stands for


def number_is(field: str, text: str, *, column: int) -> Query:
    """`latency_ms:200`; `ts:2026-01-31` is the whole day."""
    low, high = _span(field, text, column)
    return Between(field, low, high)


def comparison(field: str, text: str, *, column: int) -> Query:
    """`latency_ms:>200`; `ts:>2026-01-31` begins the day after, `ts:<=2026-01-31` ends with that day."""
    match = _COMPARISON.fullmatch(text)
    operator, value = match.group(1, 2) if match else (">", text)
    low, high = _span(field, value, column + len(operator))
    match operator:
        case ">":
            return Between(field, high, None, low_included=False)
        case ">=":
            return Between(field, low, None)
        case "<":
            return Between(field, None, low, high_included=False)
        case _:
            return Between(field, None, high)


def range_between(field: str, parts: tuple[str | None, ...], *, column: int) -> Query:
    """`[low TO high]`: both days of a range of dates belong to it, unless a brace leaves one out."""
    opening, low_text, high_text, closing = (part or "" for part in parts)
    low_included, high_included = opening == "[", closing == "]"
    low = None if low_text == "*" else _span(field, low_text, column)[0 if low_included else 1]
    high = None if high_text == "*" else _span(field, high_text, column)[1 if high_included else 0]
    if low is not None and high is not None and low > high:
        raise QueryError(column, f"{low_text} after {high_text}", "the smaller bound first")
    return Between(field, low, high, low_included, high_included)


def _span(field: str, text: str, column: int) -> Span:
    if field == "ts":
        span = span_ms(text)
        if span is None:
            raise QueryError(column, repr(text[:40]), _DATE)
        return span
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise QueryError(column, repr(text[:40]), "a number")
    return (number, number)


def whole_bounds(between: Between) -> tuple[int, int]:
    """Bounds of a field of whole numbers, both included and within what the engines hold; low > high: nothing fits."""
    low = -LARGEST_WHOLE if between.low is None else math.ceil(between.low)
    high = LARGEST_WHOLE if between.high is None else math.floor(between.high)
    if low == between.low and not between.low_included:
        low += 1
    if high == between.high and not between.high_included:
        high -= 1
    return (
        (1, 0) if low > LARGEST_WHOLE or high < -LARGEST_WHOLE else (max(low, -LARGEST_WHOLE), min(high, LARGEST_WHOLE))
    )


def float_order(number: float) -> int:
    """A whole number for each number, in the same order, for an engine that keeps whole numbers more exactly."""
    bits: int = _WHOLE.unpack(_FLOAT.pack(number + 0.0))[0]  # plus 0.0, for there are two zeros
    return bits if bits >= 0 else bits ^ LARGEST_WHOLE
