"""Reading from Elasticsearch: what a scan asks for, where the work on hits is done, which points stay open. A stub answers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from tunemill.indexer import elastic_point, elastic_search, highlight
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.errors import IndexUnavailable, SearchTooSlow
from tunemill.indexer.histogram import WIDTHS_MS
from tunemill.indexer.query import parse
from tunemill.indexer.search import FACETS, Histogram, SearchRequest
from tunemill.indexer.wider import search_wider
from tunemill.schemas.records import LogRecord, Message, TaggedLog

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
TEXT = "a word"


def log(text: str) -> TaggedLog:
    return TaggedLog(
        log=LogRecord(log_id="a", ts_ms=1, messages=(Message(role="user", content=text),)), content_digest="d"
    )


class Stub:
    """`_search` and points in time; every first page has as many hits as are set, every later one none."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []  # the parameters of each search
        self.bodies: list[dict[str, Any]] = []  # of each search
        self.span: tuple[float | None, float | None] = (1.0, 1.0)  # when the first and the last log were made
        self.starts: list[int] = []  # of the buckets of a histogram that hold logs
        self.hits = 1
        self.text = TEXT  # of each hit
        self.opened = 0  # points in time
        self.open: set[str] = set()
        self.lost = 0  # searches in a point that was closed
        self.cause: str | None = None  # of an error that a search is answered with
        self.timed_out = False  # said in the answer, as by older ones

    async def search(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        body = await request.json()
        self.bodies.append(body)
        if self.cause and "query" in body:
            error = {"type": "search_phase_execution_exception", "root_cause": [{"type": self.cause}]}
            return web.json_response({"error": error, "status": 429}, status=429, headers=PRODUCT)
        counts = (
            {name: {"buckets": []} for name in FACETS}
            | {"ts": {"buckets": [{"key": start, "doc_count": 1} for start in self.starts]}}
            | {name: {"value": at} for name, at in zip(("min", "max"), self.span, strict=True)}
        )
        self.lost += "pit" in body and body["pit"]["id"] not in self.open
        hit = {"_id": "a", "_source": {"record": msgspec.to_builtins(log(self.text))}, "sort": [1.0, 1, "a"]}
        hits = [] if body.get("search_after") else [hit] * self.hits
        await asyncio.sleep(0)
        answer: dict[str, Any] = {
            "timed_out": self.timed_out,
            "hits": {"total": {"value": 1}, "hits": hits},
            "aggregations": counts,
        }
        return web.json_response(answer, headers=PRODUCT)

    async def close(self, request: web.Request) -> web.Response:
        self.open.remove((await request.json())["id"])
        return web.json_response({"succeeded": True, "num_freed": 1}, headers=PRODUCT)

    async def point(self, _request: web.Request) -> web.Response:
        self.opened += 1
        self.open.add(f"p{self.opened}")
        return web.json_response({"id": f"p{self.opened}"}, headers=PRODUCT)


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


async def settled(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for lies in a stub
            await asyncio.sleep(0.001)


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
        assert [found async for found in index.scan(parse("word"), limit=None)] == [log(TEXT)]
    assert len(stub.asked) == 2
    assert {asked.get("allow_partial_search_results") for asked in stub.asked} == {"false"}


async def test_what_reads_all_logs_lets_go_of_its_point_in_time_when_it_is_left() -> None:
    stub = Stub()
    async with reading_from(stub) as index:
        for reading in (index.scan(parse("word"), limit=None), index.dump(parse("word"))):
            await anext(reading)
            await reading.aclose()  # type: ignore[attr-defined]
    assert (stub.opened, stub.open) == (2, set())


async def test_searches_leave_no_point_in_time_behind_that_no_cursor_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_point, "NEWEST_FOR_S", 0.0)  # each begins in one of its own
    stub = Stub()
    async with reading_from(stub) as index:
        for text in ("", "word", "two words") * 7:
            await search_wider(index, SearchRequest(parse(text)))
        await settled(lambda: len(stub.open) == 1)
        assert stub.opened == 21
        await asyncio.gather(*(search_wider(index, SearchRequest(parse(text))) for text in ("", "two words") * 20))
        await settled(lambda: len(stub.open) == 1)
        full = await search_wider(index, SearchRequest(parse("two words"), limit=1))  # the others come on the next page
        stub.hits = 2
        more = await index.search(SearchRequest(parse("word"), limit=1))
        await index.search(SearchRequest(parse("")))
    assert full.page.cursor is not None
    assert more.cursor is not None
    assert stub.open == {full.page.point, more.point}
    assert stub.lost == 0


@pytest.mark.parametrize("cause", ["search_timeout_exception", None])
async def test_a_search_over_the_time_limit_is_to_be_made_narrower(cause: str | None) -> None:
    stub = Stub()
    stub.cause, stub.timed_out = cause, cause is None
    async with reading_from(stub) as index:
        with pytest.raises(SearchTooSlow, match="make it narrower"):
            await index.search(SearchRequest(parse("word")))
        stub.cause, stub.timed_out = None, False
        assert (await index.search(SearchRequest(parse("word")))).total == 1


async def test_a_search_that_a_busy_engine_turns_away_may_be_sent_again() -> None:
    stub = Stub()
    stub.cause = "es_rejected_execution_exception"  # with 429, too
    async with reading_from(stub) as index:
        with pytest.raises(IndexUnavailable):
            await index.search(SearchRequest(parse("word")))


async def test_hits_that_there_is_no_time_to_mark_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reading_from(Stub()) as index:
        assert [hit.is_marked for hit in (await index.search(SearchRequest(parse("word")))).hits] == [True]
        monkeypatch.setattr(highlight, "MARKED_WITHIN_S", -1.0)
        (hit,) = (await index.search(SearchRequest(parse("word")))).hits
    assert (hit.is_marked, hit.highlights) == (False, ())


@pytest.mark.parametrize(
    ("text", "query", "is_long"),
    [
        ("a word", "word", False),
        ("a word " * 8_000, "word", True),
        ("\u5b57" * 3_000, "word", True),
        ("a word", " OR ".join("a" * letters + "b*" for letters in range(1, 20)), True),
        ("a word", f'"{"a " * 60}word"', True),
    ],
)
async def test_what_takes_long_is_marked_off_the_event_loop(
    text: str, query: str, is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of long logs, or of hundreds of words, takes seconds to mark; the health endpoints must answer meanwhile."""
    threads: list[int] = []

    def watched(_query: object, logs: Iterable[object]) -> Iterator[tuple[object, ...]]:
        for _ in logs:
            threads.append(threading.get_ident())
            yield ()

    monkeypatch.setattr(elastic_search, "highlight_each", watched)
    stub = Stub()
    stub.text = text
    async with reading_from(stub) as index:
        page = await index.search(SearchRequest(parse(query)))
    assert len(page.hits) == len(threads) == 1
    assert (threading.get_ident() not in threads) == is_long


async def test_matches_of_a_short_time_are_counted_in_narrow_buckets() -> None:
    stub = Stub()
    stub.span, stub.starts, stub.hits = (0.0, 1e12), [0], 2  # of which the stub counts one
    async with reading_from(stub) as index:
        page = await index.search(SearchRequest(parse("word")))
        assert [list(body["aggs"]) for body in stub.bodies[-3:]] == [[*FACETS, "ts"], ["min", "max"], ["ts"]]
        assert len({str(body["pit"]) for body in stub.bodies[-3:]}) == 1
        assert page.histogram is not None
        assert page.histogram.bucket_ms == WIDTHS_MS[-1]  # of the span that the stub says
        stub.starts = [at * WIDTHS_MS[-1] for at in range(31)]
        asked = len(stub.bodies)
        await index.search(SearchRequest(parse("word")))
        assert len(stub.bodies) == asked + 1


async def test_matches_that_are_all_on_the_page_are_counted_without_another_request() -> None:
    stub = Stub()
    stub.span, stub.starts = (0.0, 1e12), [0]
    async with reading_from(stub) as index:
        page = await index.search(SearchRequest(parse("word")))
        asked = [list(body.get("aggs", ())) for body in stub.bodies]
    assert page.histogram == Histogram(WIDTHS_MS[0], ((0, 1),))
    assert asked == [["min", "max"], [*FACETS, "ts"]]  # of all logs, and of those that match
