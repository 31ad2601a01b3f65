"""An index that is made anew from its own logs, on both engines, while it is searched and written."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx
import msgspec
import pytest
from engines.own_index import ENGINES, RollingIndex, opened, opened_for
from fakes.search_memory import MemorySearch

from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.open import open_index
from tunemill.indexer.projection import Projection
from tunemill.indexer.query import parse
from tunemill.indexer.search import Rebuilt, SearchIndex, SearchRequest
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog
from tunemill.schemas.stored import StoredLog, StoredNote
from tunemill.schemas.trace import TraceNote

LOGS = 2300  # more than two pages of either engine


def log(number: int, text: str = "all of them") -> TaggedLog:
    record = LogRecord(log_id=f"l{number:05}", ts_ms=number, messages=(Message(role="user", content=text),))
    return TaggedLog(log=record, content_digest="d")


@pytest.fixture(params=("memory", *ENGINES))
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    if request.param == "memory":
        yield MemorySearch()
        return
    async with opened_for(request, tmp_path) as found:
        yield found


async def filled(index: SearchIndex, logs: int = LOGS) -> None:
    written = await index.write([log(number) for number in range(logs)])
    assert {item.outcome for item in written} == {Outcome.INDEXED}
    await index.refresh()


async def everything(index: SearchIndex) -> list[bytes]:
    await index.refresh()
    return [msgspec.json.encode(tagged) async for tagged in index.scan(parse(""), limit=None)]


async def as_they_are(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
    return logs


async def unmoved(_logs: int) -> None:
    return None


def never(*_arguments: object) -> None:
    raise AssertionError


def first_time(act: Callable[[], Awaitable[None]]) -> Callable[[int], Awaitable[None]]:
    """Progress that does something once, while the rebuild is under way."""
    calls = count()

    async def progress(_logs: int) -> None:
        if next(calls) == 0:
            await act()

    return progress


async def test_nothing_is_other_than_it_was(index: SearchIndex) -> None:
    await filled(index)
    before = await everything(index)
    seen: list[int] = []

    async def progress(logs: int) -> None:
        seen.append(logs)

    assert await index.rebuild(as_they_are, progress=progress) == Rebuilt(LOGS, 0, 0)
    assert sum(seen) == LOGS
    assert await everything(index) == before
    assert {end.outcome for end in await index.write([log(0), log(LOGS - 1)])} == {Outcome.DUPLICATE}
    assert not await index.is_outdated()
    await index.refresh()
    assert (await index.size()).logs == LOGS


async def test_logs_are_changed_and_left_out(index: SearchIndex) -> None:
    await filled(index, 30)

    async def change(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
        tags = (Tag("seen:twice", "person:ann"),)
        kept = [tagged for tagged in logs if tagged.log.log_id != "l00007"]
        return [msgspec.structs.replace(one, tags=tags) if one.log.log_id == "l00003" else one for one in kept]

    assert await index.rebuild(change, progress=unmoved) == Rebuilt(29, 1, 1)
    await index.refresh()
    page = await index.search(SearchRequest(parse("tag:seen:twice")))
    assert [hit.log.log.log_id for hit in page.hits] == ["l00003"]
    assert (await index.search(SearchRequest(parse("")))).total == 29
    assert await index.get("l00007") is None


@pytest.mark.parametrize("index", ENGINES, indirect=True)  # the one in memory does it in one step
async def test_what_is_done_meanwhile_is_not_lost(index: SearchIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Projection, "_rebuild", never)  # what was missed would be made up for, while all others wait
    await filled(index)
    late = [log(number, "late") for number in range(LOGS, LOGS + 300)]

    async def others() -> None:
        await index.delete(["l00001", f"l{LOGS - 2:05}"])
        stored = (await index.stored(log_ids=["l00000", f"l{LOGS - 1:05}"], trace_ids=[])).logs
        await index.replace([StoredLog(log(int(name[1:]), "replaced"), one.version) for name, one in stored.items()])
        await index.write(late)

    done = await index.rebuild(as_they_are, progress=first_time(others))
    replaced = {0: log(0, "replaced"), LOGS - 1: log(LOGS - 1, "replaced")}
    wanted = [replaced.get(number, log(number)) for number in range(LOGS) if number not in (1, LOGS - 2)]
    assert await everything(index) == [msgspec.json.encode(one) for one in [*wanted, *late]]
    assert done.changed == done.left_out == 0
    for query, total in (("replaced", 2), ("late", 300), ("", LOGS + 298)):
        assert (await index.search(SearchRequest(parse(query)))).total == total


@pytest.mark.parametrize("index", ENGINES, indirect=True)  # the one in memory does it in one step
async def test_who_writes_all_the_time_meets_each_log_once(index: SearchIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Projection, "_rebuild", never)
    await filled(index)
    over = asyncio.Event()
    totals: list[int] = []

    async def write() -> int:
        for start in count(LOGS, 50):
            if over.is_set():
                return start
            ends = await index.write([log(number) for number in range(start - 50, start + 50)])  # half of them again
            assert [end.outcome for end in ends].count(Outcome.INDEXED) == 50
            await asyncio.sleep(0)
        raise AssertionError

    async def look() -> None:
        while not over.is_set():
            await index.refresh()
            page = await index.search(SearchRequest(parse(""), limit=0))
            totals.append(page.total)

    writing, looking = asyncio.create_task(write()), asyncio.create_task(look())
    await index.rebuild(as_they_are, progress=unmoved)
    over.set()
    last = await writing
    await looking
    if not isinstance(index, RollingIndex):  # in several indices one that comes again is found twice until a refresh
        assert totals == sorted(totals)
    found = await everything(index)
    assert len(found) == len(set(found)) == last


async def test_a_state_that_was_read_before_is_gone(index: SearchIndex) -> None:
    await filled(index, 3)
    stored = (await index.stored(log_ids=["l00001"], trace_ids=[])).logs["l00001"]

    async def change(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
        return [log(int(one.log.log_id[1:]), "new") for one in logs]

    await index.rebuild(change, progress=unmoved)
    assert list(await index.replace([StoredLog(log(1, "stale"), stored.version)])) == [None]
    assert await index.get("l00001") == log(1, "new")
    again = (await index.stored(log_ids=["l00001"], trace_ids=[])).logs["l00001"]
    (end,) = await index.replace([StoredLog(log(1, "newer"), again.version)])
    assert end is not None
    assert end.outcome is Outcome.MERGED


async def test_notes_and_feedback_stay(index: SearchIndex) -> None:
    await filled(index, 3)
    await index.put_notes([StoredNote(TraceNote(trace_id="t", user_id="u"))])
    before = (await index.stored(log_ids=[], trace_ids=["t"])).notes["t"]
    await index.rebuild(as_they_are, progress=unmoved)
    assert list(await index.put_notes([StoredNote(TraceNote(trace_id="t", user_id="v"), before.version)])) == [True]


@pytest.mark.parametrize("index", ENGINES, indirect=True)  # the one in memory does it in one step
async def test_one_that_fails_leaves_everything_as_it_was(index: SearchIndex) -> None:
    await filled(index)
    before = await everything(index)

    async def fail() -> None:
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            await index.rebuild(as_they_are, progress=first_time(fail))
    assert await everything(index) == before
    (end,) = await index.write([log(LOGS)])
    assert end.outcome is Outcome.INDEXED
    await index.rebuild(as_they_are, progress=unmoved)
    assert len(await everything(index)) == LOGS + 1


async def test_pages_go_on_or_have_to_be_asked_for_again(index: SearchIndex) -> None:
    await filled(index, 50)
    by_time, by_score = SearchRequest(parse(""), limit=10, sort="newest"), SearchRequest(parse("all"), limit=10)
    newest, best = await index.search(by_time), await index.search(by_score)
    await index.rebuild(as_they_are, progress=unmoved)
    page = await index.search(replace(by_time, cursor=newest.cursor))
    assert [hit.log.log.log_id for hit in page.hits] == [f"l{number:05}" for number in range(39, 29, -1)]
    with suppress(CursorInvalid):  # where its point in time is gone
        assert (await index.search(replace(by_score, cursor=best.cursor))).total == 50


@pytest.mark.live
async def test_another_process_searches_on(elasticsearch_url: str) -> None:
    async with opened(elasticsearch_url) as index:
        assert isinstance(index, ElasticIndex)
        await filled(index, 3)
        other = ElasticIndex(elasticsearch_url, project=index.alias.removeprefix("logs-"))
        try:
            assert (await other.search(SearchRequest(parse("")))).total == 3
            stored = (await other.stored(log_ids=["l00002"], trace_ids=[])).logs["l00002"]
            await index.rebuild(as_they_are, progress=unmoved)
            assert (await other.search(SearchRequest(parse("")))).total == 3
            (end,) = await other.write([log(1)])
            assert end.outcome is Outcome.DUPLICATE
            assert list(await other.replace([stored])) == [None]
            async with httpx.AsyncClient(base_url=elasticsearch_url) as client:
                assert len((await client.get(f"/{index.alias}-*")).json()) == 1  # the old one did not come back
        finally:
            await other.close()


async def test_a_crash_between_the_two_searches_heals(tmp_path: Path) -> None:
    async with opened(f"local:{tmp_path}") as index:
        await filled(index, 30)
        before = await everything(index)
    (in_use,) = tmp_path.glob("*/search")
    in_use.rename(in_use.with_name("search.new"))  # whole, or not: nobody can know
    project = in_use.parent.name.removeprefix("logs-")
    again = open_index(f"local:{tmp_path}", project=project)
    try:
        assert await everything(again) == before
        assert await again.rebuild(as_they_are, progress=unmoved) == Rebuilt(30, 0, 0)
        assert await everything(again) == before
    finally:
        await again.close()


@pytest.mark.live
async def test_what_a_crash_left_is_tidied_up_by_the_next(elasticsearch_url: str) -> None:
    async with opened(elasticsearch_url) as index, httpx.AsyncClient(base_url=elasticsearch_url) as client:
        assert isinstance(index, ElasticIndex)
        await filled(index, 3)
        alias = index.alias
        left = f"{alias}-000001.2"
        await client.put(f"/{left}", json={"aliases": {f"{alias}.filling-1": {}}})
        await client.put(f"/{alias}-000001/_block/write")
        await index.rebuild(as_they_are, progress=unmoved)
        assert list((await client.get(f"/{alias}-*")).json()) == [left]  # the name was free again
        (end,) = await index.write([log(3)])
        assert end.outcome is Outcome.INDEXED


@pytest.mark.live
async def test_an_index_of_another_layout_is_said_to_be_one(elasticsearch_url: str) -> None:
    async with opened(elasticsearch_url) as index, httpx.AsyncClient(base_url=elasticsearch_url) as client:
        assert isinstance(index, ElasticIndex)
        await client.put(f"/{index.alias}/_mapping", json={"_meta": {"layout": "0"}})
        assert await index.is_outdated()
        await index.rebuild(as_they_are, progress=unmoved)
        assert not await index.is_outdated()
