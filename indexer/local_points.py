"""Points in time of the embedded search: those that cursors name are kept for a while, so that all pages are of one."""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from tantivy import FieldType, Occur
from tantivy import Query as TantivyQuery

from tunemill.indexer.ast import Query
from tunemill.indexer.histogram import Span
from tunemill.indexer.local_query import EVERYTHING
from tunemill.indexer.search import FacetCount, Histogram

MOST_POINTS = 32  # kept at once; each keeps files on the disk that are not searched otherwise any more
KEPT_S = 300.0  # after its last page
MOST_COUNTED = 64  # searches whose counts are kept with a point


@dataclass(frozen=True, slots=True)
class Counts:
    """What all matches of a search are counted by."""

    total: int
    facets: dict[str, tuple[FacetCount, ...]]
    histogram: Histogram | None


@dataclass(slots=True)
class Point:
    """A searcher, which sees one point in time for as long as it lives, and what was counted in it already."""

    name: str
    searcher: Any
    schema: Any
    former_span: Span | None = None  # of a point before it
    counted: dict[tuple[Query, bool], Counts] = field(default_factory=dict)  # by query, and whether with facets
    _span: tuple[Span | None] | None = None

    def span(self) -> Span | None:
        """When the first and the last log were made; None: there is none."""
        if self._span is None:
            self._span = (self._span_by_ends() or span(self.searcher, EVERYTHING),)
        return self._span[0]

    def next(self, name: str, searcher: Any) -> "Point":
        """The point that follows."""
        return Point(name, searcher, self.schema, self._span[0] if self._span else self.former_span)

    def _span_by_ends(self) -> Span | None:
        """The span, if there still are logs at both ends of the former one: a fifth of the time."""
        if self.former_span is None:
            return None
        first, last = self.former_span
        ends = [
            (Occur.Should, TantivyQuery.range_query(self.schema, "ts", FieldType.Integer, *bounds))
            for bounds in ((None, first), (last, None))
        ]
        found = span(self.searcher, TantivyQuery.boolean_query(ends))
        return found if found and found[0] <= first and found[1] >= last else None

    def remember(self, search: tuple[Query, bool], counts: Counts) -> None:
        """Keep the counts of a search: its next pages have the same."""
        while len(self.counted) >= MOST_COUNTED:
            del self.counted[next(iter(self.counted))]
        self.counted[search] = counts


class Points:
    """The current point, and those that cursors name. `move_on` belongs to the writing thread, everything else to the event loop."""

    def __init__(self, searcher: Any, schema: Any) -> None:
        self._start = secrets.token_hex(4)  # a cursor from before a restart names none of ours
        self._number = 0
        self._kept: OrderedDict[str, tuple[float, Point]] = (
            OrderedDict()
        )  # when it was used last; the longest ago first
        self.now = Point(f"{self._start}.0", searcher, schema)

    def move_on(self, searcher: Any) -> None:
        """From now on searches begin here."""
        self._number += 1
        self.now = self.now.next(f"{self._start}.{self._number}", searcher)

    def keep(self, point: Point) -> None:
        """A cursor names this point."""
        self._kept[point.name] = (time.monotonic(), point)
        self._kept.move_to_end(point.name)
        while len(self._kept) > MOST_POINTS or next(iter(self._kept.values()))[0] < time.monotonic() - KEPT_S:
            self._kept.popitem(last=False)

    def named(self, name: str) -> Point | None:
        """The point that a cursor names; None: it is over."""
        if name == self.now.name:
            return self.now
        used, point = self._kept.get(name, (0.0, None))
        return point if used >= time.monotonic() - KEPT_S else None


def span(searcher: Any, logs: Any) -> Span | None:
    """When the first and the last of these logs were made; None: there is none.

    A quarter of what it takes to ask for the one and for the other. They come as floats, which hold any such time.
    """
    found = searcher.aggregate(logs, {"ts": {"stats": {"field": "ts"}}})["ts"]
    return (int(found["min"]), int(found["max"])) if found["count"] else None
