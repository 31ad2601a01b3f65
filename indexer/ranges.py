"""Numbers and dates in a search -> bounds."""

import math
import re
import struct
from dataclasses import dataclass
from decimal import Decimal

from tunemill.indexer.ast import Between, Query
from tunemill.indexer.dates import relative_ms, span_ms
from tunemill.indexer.errors import QueryError
from tunemill.indexer.fields import LARGEST_WHOLE

_NUMBER = re.compile(r"(-?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3})?)([A-Za-z]*)", re.ASCII)
_COMPARISON = re.compile(r"([<>]=?)(.*)", re.DOTALL)
_FLOAT, _WHOLE = struct.Struct("<d"), struct.Struct("<q")
_MOMENT = "a date such as 2026-01-31 or 2026-01-31T10:00:00Z, or now-7d behind a comparison or in a range"
_UNITS_MS = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}  # of durations

Span = tuple[float, float]  # the first and the last point that a written value stands for


@dataclass(frozen=True, slots=True)
class WrittenNumber:
    """A number or date as it is written after a field.

    Attributes:
        column: where it begins.
        now_ms: what `now` stands for.
    """

    field: str
    text: str
    column: int
    now_ms: int

    def points(self) -> Query:
        """`latency_ms:200`; `ts:2026-01-31` is the whole day."""
        if self.field == "ts" and relative_ms(self.text, now_ms=self.now_ms) is not None:
            raise QueryError(self.column, repr(self.text[:40]), f"a comparison: ts:>{self.text}")
        low, high = self._span(self.text, self.column)
        return Between(self.field, low, high)

    def comparison(self) -> Query:
        """`latency_ms:>200`; `ts:>2026-01-31` begins the day after, `ts:<=2026-01-31` ends with that day."""
        match = _COMPARISON.fullmatch(self.text)
        operator, value = match.group(1, 2) if match else (">", self.text)
        low, high = self._span(value, self.column + len(operator))
        match operator:
            case ">":
                return Between(self.field, high, None, low_included=False)
            case ">=":
                return Between(self.field, low, None)
            case "<":
                return Between(self.field, None, low, high_included=False)
            case _:
                return Between(self.field, None, high)

    def between(self, parts: tuple[str, str, str, str]) -> Query:
        """`[low TO high]`: both days of a range of dates belong to it, unless a brace leaves one out."""
        opening, low_text, high_text, closing = parts
        low_included, high_included = opening == "[", closing == "]"
        low = None if low_text == "*" else self._span(low_text, self.column)[0 if low_included else 1]
        high = None if high_text == "*" else self._span(high_text, self.column)[1 if high_included else 0]
        if low is not None and high is not None and low > high:
            raise QueryError(self.column, f"{low_text} after {high_text}", "the smaller bound first")
        return Between(self.field, low, high, low_included, high_included)

    def _span(self, text: str, column: int) -> Span:
        if self.field == "ts":
            moment = relative_ms(text, now_ms=self.now_ms)
            span = span_ms(text) if moment is None else (moment, moment)
            if span is None:
                raise QueryError(column, repr(text[:40]), _MOMENT)
            return span
        units = _UNITS_MS if self.field == "latency_ms" else {"": 1}
        match = _NUMBER.fullmatch(text)
        unit = units.get(match[2]) if match else None
        number = float(Decimal(match[1]) * unit) if match and unit else math.nan
        if not math.isfinite(number):
            expected = "a number, with ms, s, m or h behind it if you like" if len(units) > 1 else "a number"
            raise QueryError(column, repr(text[:40]), expected)
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
