"""Numbers become places in a drawing; the templates write them as SVG. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 640, 180  # of the line chart, in SVG units
COLUMNS_HEIGHT, LEAST_HEIGHT = 48, 2  # of a histogram
COLUMN_SHARE = 0.9  # of a column's place
LEFT, RIGHT, TOP, BOTTOM = 60, 8, 10, 24  # room for the axes' labels


class Column(NamedTuple):
    """One column of a histogram, ready to draw."""

    x: float
    width: float
    height: float
    start_ms: int
    end_ms: int
    logs: int


class Line(NamedTuple):
    """One line over steps, ready to draw."""

    points: str  # for <polyline points>
    low: float
    high: float
    first_step: float
    last_step: float
    last: tuple[float, float]  # where the line ends


def bar(value: float | None, largest: float, length: float = 100.0) -> float:
    """How long a value's bar is, where `largest` is `length` long."""
    if value is None or largest <= 0:
        return 0.0
    return round(length * max(0.0, min(value / largest, 1.0)), 2)


def columns(bucket_ms: int, buckets: Sequence[tuple[int, int]]) -> list[Column]:
    """A column for each bucket of a histogram that holds something, the first at the left edge and the last at the right."""
    if not buckets:
        return []
    first, largest = buckets[0][0], max(count for _, count in buckets)
    slots = (buckets[-1][0] - first) // bucket_ms + 1
    width = WIDTH / slots
    return [
        Column(
            x=round((start - first) // bucket_ms * width, 2),
            width=round(max(width * COLUMN_SHARE, 1.0), 2),
            height=max(bar(count, largest, COLUMNS_HEIGHT), LEAST_HEIGHT),
            start_ms=start,
            end_ms=start + bucket_ms,
            logs=count,
        )
        for start, count in buckets
    ]


def line(values: Sequence[tuple[float, float]]) -> Line | None:
    """A line through (step, value) pairs; None when there are fewer than two."""
    if len(values) < 2:
        return None
    steps, heights = [step for step, _ in values], [height for _, height in values]
    low, high = min(heights), max(heights)
    places = [
        (
            LEFT + (WIDTH - LEFT - RIGHT) * _share(step, steps[0], steps[-1]),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(height, low, high),
        )
        for step, height in values
    ]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Line(points, low, high, steps[0], steps[-1], places[-1])


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, 0 to 1; in the middle when they are equal."""
    return 0.5 if high <= low else (value - low) / (high - low)
