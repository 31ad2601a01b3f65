"""How wide the buckets of a histogram over time are: a width that people think in, and not too many of them. Pure."""

from collections.abc import Collection

from tunemill.indexer.ast import And, Between, Query
from tunemill.indexer.ranges import whole_bounds

MOST_BUCKETS = 60
_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
WIDTHS_MS = (
    *(_SECOND, 5 * _SECOND, 30 * _SECOND),
    *(_MINUTE, 5 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 3 * _HOUR, 12 * _HOUR),
    *(_DAY, 7 * _DAY, 30 * _DAY, 365 * _DAY),
)

Span = tuple[int, int]  # the first and the last millisecond


def width_ms(span: Span) -> int:
    """The narrowest width of which not too many buckets hold all that lies between the ends of this span."""
    first, last = span
    fits = (width for width in WIDTHS_MS if last // width - first // width < MOST_BUCKETS)
    return next(fits, WIDTHS_MS[-1])


def widest_ms(query: Query, index: Span | None) -> int:
    """The width if logs match from one end to the other of the span that an index and a query have; None: it is empty."""
    if index is None:
        return WIDTHS_MS[0]
    first, last = index
    for between in _times(query):
        low, high = whole_bounds(between)
        first, last = max(first, low), min(last, high)
    return width_ms((first, last))


def is_right(bucket_ms: int, starts: Collection[int]) -> bool:
    """Whether the logs in the buckets of this width that begin so have no other width, wherever in them they lie."""
    if not starts:
        return True
    return width_ms((min(starts) + bucket_ms - 1, max(starts))) == bucket_ms


def _times(query: Query) -> list[Between]:
    """The bounds on time that hold for every log that matches."""
    items = query.items if isinstance(query, And) else (query,)
    return [item for item in items if isinstance(item, Between) and item.field == "ts"]
