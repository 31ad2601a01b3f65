"""The point in time that searches of one process begin in: cursors name it, so that all pages are of one moment."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from elasticsearch import AsyncElasticsearch

from tunemill.indexer.elastic_client import translated
from tunemill.indexer.errors import SearchIndexError
from tunemill.indexer.histogram import Span

KEEP_ALIVE = "5m"  # from its last page on
CLOSING_S = 2.0  # waited for at most
NEWEST_FOR_S = 0.2  # so long several searches begin in one: what is written is found so much later
SPAN_KNOWN_FOR_S = 10.0


@dataclass(slots=True)
class _Point:
    name: str
    begun_s: float
    renewed: int
    pages: int = 0  # being made in it
    is_kept: bool = False  # a cursor names it


class CurrentPoint:
    """The newest point in time of the logs behind an alias, and when its first and its last log were made."""

    def __init__(self, client: AsyncElasticsearch, alias: str) -> None:
        self._client = client
        self._alias = alias
        self._opening = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._renewed = 0
        self._newest: _Point | None = None
        self._open: dict[str, _Point] = {}  # the newest, and those before it in which pages are being made
        self._closing: set[asyncio.Task[None]] = set()
        self._span: tuple[Span | None, float, int] | None = None

    def renew(self) -> None:
        """What was found before may be another now: begin anew."""
        self._renewed += 1

    async def name(self) -> str:
        """The point's id."""
        async with self._opening:
            if self._newest is None or not self._is_fresh(self._newest.begun_s, self._newest.renewed, NEWEST_FOR_S):
                begun = time.monotonic(), self._renewed
                with translated():
                    opened = await self._client.open_point_in_time(index=self._alias, keep_alive=KEEP_ALIVE)
                self._newest = self._open[opened["id"]] = _Point(opened["id"], *begun)
                self._close_soon()
            return self._newest.name

    @contextmanager
    def used(self, name: str) -> Iterator[None]:
        """A page is being made in this point, which stays open meanwhile."""
        point = self._open.get(name)
        if point is None:  # a cursor named it, or another process opened it: it ends after KEEP_ALIVE
            yield
            return
        point.pages += 1
        try:
            yield
        finally:
            point.pages -= 1
            self._close_soon()

    def keep(self, name: str) -> None:
        """A cursor names this point."""
        if (point := self._open.get(name)) is not None:
            point.is_kept = True

    async def close(self) -> None:
        """Close what no cursor names."""
        self._newest = None
        self._close_soon()
        await asyncio.gather(*self._closing)

    def _close_soon(self) -> None:
        """Close what is not needed any more: not at once, because a search for some of the words may go on in it just now."""
        if any(self._is_over(point) for point in self._open.values()):
            closing = asyncio.create_task(self._close_unused())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close_unused(self) -> None:
        over = [point for point in self._open.values() if self._is_over(point)]
        for point in over:
            del self._open[point.name]
        for point in over:
            if not point.is_kept:
                await let_go(self._client, point.name)

    def _is_over(self, point: _Point) -> bool:
        return point is not self._newest and not point.pages

    async def span(self) -> Span | None:
        """When the first and the last log were made, some seconds ago; None: there was none."""
        async with self._asking:
            # Of an empty index nothing is known: the first logs may be of any time, and many.
            if self._span is None or self._span[0] is None or not self._is_fresh(*self._span[1:], SPAN_KNOWN_FOR_S):
                begun = time.monotonic(), self._renewed
                ends = {name: {name: {"field": "ts"}} for name in ("min", "max")}
                with translated():
                    answer = await self._client.search(index=self._alias, size=0, aggs=ends, track_total_hits=False)
                first, last = (answer["aggregations"][name]["value"] for name in ("min", "max"))
                self._span = (None if first is None else (int(first), int(last)), *begun)
            return self._span[0]

    def _is_fresh(self, begun_s: float, renewed: int, for_s: float) -> bool:
        return renewed == self._renewed and time.monotonic() - begun_s < for_s


async def let_go(client: AsyncElasticsearch, point: str) -> None:
    """Close a point in time; where that does not succeed, it ends by itself after KEEP_ALIVE."""
    with suppress(SearchIndexError), translated():
        await client.options(request_timeout=CLOSING_S).close_point_in_time(id=point)
