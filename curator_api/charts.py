"""Numbers become places in a drawing; the templates write them as SVG. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 640, 180  # of the line chart, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 60, 8, 10, 24  # room for the axes' labels


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
