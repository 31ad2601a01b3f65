"""The point in time that searches of one process begin in: cursors name it, so that all pages are of one moment."""

import asyncio
import time

from elasticsearch import AsyncElasticsearch

from tunemill.indexer.elastic_client import translated
from tunemill.indexer.histogram import Span

KEEP_ALIVE = "5m"  # from its last page on
NEWEST_FOR_S = 0.2  # so long several searches begin in one: what is written is found so much later
SPAN_KNOWN_FOR_S = 10.0


class CurrentPoint:
    """The newest point in time of the logs behind an alias, and when its first and its last log were made."""

    def __init__(self, client: AsyncElasticsearch, alias: str) -> None:
        self._client = client
        self._alias = alias
        self._opening = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._renewed = 0
        self._point: tuple[str, float, int] | None = None  # its id, when it was opened, and `_renewed` then
        self._span: tuple[Span | None, float, int] | None = None

    def renew(self) -> None:
        """What was found before may be another now: begin anew."""
        self._renewed += 1

    async def name(self) -> str:
        """The point's id."""
        async with self._opening:
            if self._point is None or not self._is_fresh(*self._point[1:], NEWEST_FOR_S):
                begun = time.monotonic(), self._renewed
                with translated():
                    opened = await self._client.open_point_in_time(index=self._alias, keep_alive=KEEP_ALIVE)
                self._point = (opened["id"], *begun)
            return self._point[0]

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
