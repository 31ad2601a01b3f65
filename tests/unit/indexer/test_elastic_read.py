"""Reading from Elasticsearch: what a scan asks for, and where the work on hits is done. A stub answers."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from tunemill.indexer import elastic_search
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.histogram import WIDTHS_MS
from tunemill.indexer.query import parse
from tunemill.indexer.search import FACETS, SearchRequest
from tunemill.schemas.records import LogRecord, Message, TaggedLog

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
LOG = TaggedLog(
    log=LogRecord(log_id="a", ts_ms=1, messages=(Message(role="user", content="a word"),)), content_digest="d"
)
HIT = {"_id": "a", "_source": {"record": msgspec.to_builtins(LOG)}, "sort": [1.0, 1, "a"]}


class Stub:
    """`_search` and points in time; every first page has one hit, every later one none."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []  # the parameters of each search
        self.bodies: list[dict[str, Any]] = []  # of each search
        self.span: tuple[float | None, float | None] = (1.0, 1.0)  # when the first and the last log were made
        self.closed = 0  # points in time

    async def search(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        body = await request.json()
        self.bodies.append(body)
        counts = {name: {"buckets": []} for name in (*FACETS, "ts")} | {
            name: {"value": at} for name, at in zip(("min", "max"), self.span, strict=True)
        }
        hits = [] if body.get("search_after") else [HIT]
        answer: dict[str, Any] = {
            "timed_out": False,
            "hits": {"total": {"value": 1}, "hits": hits},
            "aggregations": counts,
        }
        return web.json_response(answer, headers=PRODUCT)

    async def close(self, request: web.Request) -> web.Response:
        self.closed += 1
        return await self.point(request)

    async def point(self, _request: web.Request) -> web.Response:
        return web.json_response({"id": "p", "succeeded": True, "num_freed": 1}, headers=PRODUCT)


@asynccontextmanager
async def reading_from(stub: Stub) -> AsyncIterator[ElasticIndex]:
    app = web.Application()
    app.router.add_post("/_search", stub.search)
    app.router.add_post("/logs-default/_search", stub.search)
    app.router.add_post("/logs-default/_pit", stub.point)
    app.router.add_delete("/_pit", stub.close)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    index = ElasticIndex(f"http://127.0.0.1:{runner.addresses[0][1]}", project="default")
    try:
        yield index
    finally:
        await index.close()
        await runner.cleanup()


async def test_the_first_logs_of_an_index_widen_the_histogram_at_once() -> None:
    stub = Stub()
    async with reading_from(stub) as index:
        widths = []
        for stub.span in ((None, None), (0.0, 1e12)):
            await index.search(SearchRequest(parse("")))
            widths.append(stub.bodies[-1]["aggs"]["ts"]["date_histogram"]["fixed_interval"])
    assert widths == [f"{WIDTHS_MS[0]}ms", f"{WIDTHS_MS[-1]}ms"]


async def test_a_scan_fails_rather_than_leave_out_the_logs_of_a_shard_that_is_away() -> None:
    stub = Stub()
    async with reading_from(stub) as index:
        assert [log async for log in index.scan(parse("word"), limit=None)] == [LOG]
    assert len(stub.asked) == 2
    assert {asked.get("allow_partial_search_results") for asked in stub.asked} == {"false"}


async def test_what_reads_all_logs_lets_go_of_its_point_in_time_when_it_is_left() -> None:
    stub = Stub()
    async with reading_from(stub) as index:
        for reading in (index.scan(parse("word"), limit=None), index.dump(parse("word"))):
            await anext(reading)
            await reading.aclose()  # type: ignore[attr-defined]
    assert stub.closed == 2


async def test_hits_are_marked_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of long logs takes seconds to mark; the health endpoints must answer meanwhile."""
    threads: list[int] = []

    def watched(*_: object) -> Iterator[object]:
        threads.append(threading.get_ident())
        return iter(())

    monkeypatch.setattr(elastic_search, "highlight", watched)
    async with reading_from(Stub()) as index:
        page = await index.search(SearchRequest(parse("word")))
    assert len(page.hits) == len(threads) == 1
    assert threading.get_ident() not in threads
