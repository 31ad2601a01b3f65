"""Logs in several indices of Elasticsearch, by when they came: each is one log whatever is under way, and old indices go whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from elasticsearch import AsyncElasticsearch
from engines.own_index import opened
from fakes.search_memory import MemorySearch

from tunemill.indexer import elastic, elastic_copies, elastic_shelves, mapping
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.elastic_indices import indices_of
from tunemill.indexer.elastic_write import send_all
from tunemill.indexer.errors import CursorInvalid, IndexUnavailable, SearchIndexError
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex, SearchRequest, Shelf
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Feedback, LogRecord, Message, Tag, TaggedLog
from tunemill.schemas.stored import StoredLog, StoredNote
from tunemill.schemas.trace import TraceNote


def log(log_id: str, text: str = "some words", **fields: Any) -> TaggedLog:
    record = LogRecord(log_id=log_id, messages=(Message(role="user", content=text),), **{"ts_ms": 1000, **fields})
    return TaggedLog(log=record, content_digest=text)


@pytest.fixture
async def index(elasticsearch_url: str) -> AsyncIterator[ElasticIndex]:
    async with opened(elasticsearch_url) as found:
        assert isinstance(found, ElasticIndex)
        yield found


@pytest.fixture
async def other(index: ElasticIndex, elasticsearch_url: str) -> AsyncIterator[ElasticIndex]:
    """The same project's, of another process."""
    found = ElasticIndex(elasticsearch_url, project=index.alias.removeprefix("logs-"))
    yield found
    await found.close()


@pytest.fixture
async def raw(elasticsearch_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=elasticsearch_url, timeout=30) as client:
        yield client


def outcomes(written: Sequence[Written]) -> list[str]:
    return [item.outcome.value for item in written]


async def where(index: ElasticIndex, raw: httpx.AsyncClient, log_id: str) -> list[str]:
    """The numbers of the indices that hold this log."""
    await index.refresh()
    found = await raw.post(f"/{index.alias}/_search", json={"query": {"ids": {"values": [log_id]}}})
    return sorted(hit["_index"].removeprefix(f"{index.alias}-") for hit in found.json()["hits"]["hits"])


async def names(index: ElasticIndex, raw: httpx.AsyncClient) -> dict[str, bool]:
    """The numbers of the indices behind the alias, and whether each is written to."""
    found = (await raw.get(f"/_alias/{index.alias}")).json()
    prefix = f"{index.alias}-"
    return {name.removeprefix(prefix): found[name]["aliases"][index.alias]["is_write_index"] for name in sorted(found)}


async def copy_left(index: ElasticIndex, raw: httpx.AsyncClient, log_id: str) -> None:
    """Lay a second copy where new logs go, as a writer does that is killed before it has looked for others."""
    (first,) = await where(index, raw, log_id)
    source = (await raw.get(f"/{index.alias}-{first}/_doc/{log_id}")).json()["_source"]
    (await raw.put(f"/{index.alias}/_create/{log_id}", json=source)).raise_for_status()


async def tag(index: SearchIndex, log_id: str, name: str) -> None:
    read = (await index.stored(log_ids=[log_id], trace_ids=[])).logs[log_id]
    tagged = msgspec.structs.replace(read.tagged, tags=(Tag(name, "person:ann"),))
    (end,) = await index.replace([StoredLog(tagged, read.version)])
    assert end is not None


async def as_they_are(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
    return logs


async def unmoved(_logs: int) -> None:
    return None


def before_deletions(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
    """Have something done once between the reading of copies and the deletion of the later ones."""
    waiting = [act]

    async def after(*arguments: Any, **options: Any) -> Any:
        while waiting:
            await waiting.pop()()
        return await send_all(*arguments, **options)

    monkeypatch.setattr(elastic_copies, "send_all", after)


@pytest.mark.live
async def test_a_replay_finds_the_log_in_an_older_index(
    index: ElasticIndex, other: ElasticIndex, raw: httpx.AsyncClient
) -> None:
    assert outcomes(await index.write([log("a"), log("b")])) == ["indexed", "indexed"]
    await tag(index, "a", "team:x")
    for _ in range(2):
        await other.roll_over()
        assert outcomes(await index.write([log("a"), log("b"), log("b")])) == ["duplicate"] * 3
    assert outcomes(await index.write([log("c"), log("c"), log("a")])) == ["indexed", "duplicate", "duplicate"]
    assert [await where(index, raw, name) for name in "abc"] == [["000001"], ["000001"], ["000003"]]
    for reader in (index, other):
        found = await reader.get("a")
        assert found is not None and found.tags == (Tag("team:x", "person:ann"),)
        assert set((await reader.stored(log_ids=list("abcd"), trace_ids=["t"])).logs) == {"a", "b", "c"}
        assert (await reader.search(SearchRequest(parse("")))).total == 3


@pytest.mark.live
async def test_two_who_write_the_same_around_a_rollover_write_each_log_once(
    index: ElasticIndex, other: ElasticIndex, raw: httpx.AsyncClient
) -> None:
    over = asyncio.Event()

    async def roll() -> None:
        for _ in range(10):
            await other.roll_over()
        over.set()

    async def write(writer: ElasticIndex) -> list[list[str]]:
        """The outcomes, by batch, of the same batches in the same order for as long as indices are begun, and once more."""
        ends = []
        while not over.is_set() or len(ends) < 5:
            start = len(ends) * 20
            ends.append(outcomes(await writer.write([log(f"l{start + at:05}") for at in range(200)])))
        return ends

    (first, second, _) = await asyncio.gather(write(index), write(other), roll())
    assert {len(ends) for ends in first + second} == {200}
    assert {end for ends in first + second for end in ends} == {"indexed", "duplicate"}
    await index.refresh()
    ids = [tagged.log.log_id async for tagged in index.scan(parse(""), limit=None)]
    most = max(len(first), len(second))
    assert ids == [f"l{at:05}" for at in range((most - 1) * 20 + 200)]
    assert len(await names(index, raw)) == 11


@pytest.mark.live
async def test_what_was_killed_before_it_looked_for_copies_leaves_one_when_it_comes_again(
    index: ElasticIndex, raw: httpx.AsyncClient
) -> None:
    await index.write([log("a")])
    await index.roll_over()
    await copy_left(index, raw, "a")
    await tag(index, "a", "team:x")  # meanwhile all who read it take the first
    assert outcomes(await index.write([log("a")])) == ["duplicate"]
    assert await where(index, raw, "a") == ["000001"]
    found = await index.get("a")
    assert found is not None and found.tags


@pytest.mark.live
async def test_a_later_copy_that_changes_while_it_is_looked_at_goes_all_the_same(
    index: ElasticIndex, raw: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await index.write([log("a")])
    await index.roll_over()

    async def change() -> None:
        (await raw.put(f"/{index.alias}-000002/_doc/a", json={"id": "a", "ts": 5})).raise_for_status()

    before_deletions(monkeypatch, change)
    assert outcomes(await index.write([log("a")])) == ["duplicate"]
    assert await where(index, raw, "a") == ["000001"]


@pytest.mark.live
async def test_a_log_of_which_others_took_the_first_copy_is_written_again(
    index: ElasticIndex, raw: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where two who have different lists of the indices each take the other's copy for the later one."""
    await index.write([log("a"), log("b")])
    await index.roll_over()

    async def take() -> None:
        (await raw.delete(f"/{index.alias}-000001/_doc/a")).raise_for_status()

    before_deletions(monkeypatch, take)
    assert outcomes(await index.write([log("a"), log("b"), log("c")])) == ["indexed", "duplicate", "indexed"]
    assert [await where(index, raw, name) for name in "abc"] == [["000002"], ["000001"], ["000002"]]


@pytest.mark.live
@pytest.mark.parametrize(("said", "end"), [("the other half", "rejected"), ("some words", "indexed")])
async def test_who_finds_only_what_another_wrote_does_not_say_that_theirs_is_there(
    said: str,
    end: str,
    index: ElasticIndex,
    other: ElasticIndex,
    raw: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a part of a call would be lost, which its worker joins to what is there when it learns of it."""

    async def write_first(*arguments: Any, **options: Any) -> elastic_copies.Settled:
        monkeypatch.undo()
        source = (await raw.get(f"/{index.alias}-000002/_doc/a")).json()["_source"] | {"content_digest": "some words"}
        (await raw.put(f"/{index.alias}-000001/_create/a", json=source)).raise_for_status()  # one that was on its way
        assert outcomes(await other.write([log("a")])) == ["duplicate"]
        return await elastic_copies.settle(*arguments, **options)

    await index.roll_over()
    monkeypatch.setattr(elastic, "settle", write_first)
    assert outcomes(await index.write([log("a", said), log("b")])) == [end, "indexed"]
    assert [await where(index, raw, name) for name in "ab"] == [["000001"], ["000002"]]


@pytest.mark.live
async def test_what_is_written_to_is_later_than_any_other_index_whatever_it_is_called(
    index: ElasticIndex, raw: httpx.AsyncClient
) -> None:
    await index.write([log("a")])
    await tag(index, "a", "team:x")
    await index.roll_over()
    source = (await raw.get(f"/{index.alias}-000001/_doc/a")).json()["_source"]
    await raw.put(f"/{index.alias}-000009")
    (await raw.put(f"/{index.alias}-000009/_doc/a", json=source)).raise_for_status()
    actions = [
        {"add": {"index": f"{index.alias}-000009", "alias": index.alias, "is_write_index": False}},
        {"remove_index": {"index": f"{index.alias}-000001"}},
    ]
    (await raw.post("/_aliases", json={"actions": actions})).raise_for_status()
    assert outcomes(await index.write([log("a")])) == ["duplicate"]
    assert await where(index, raw, "a") == ["000009"]
    found = await index.get("a")
    assert found is not None and found.tags


@pytest.mark.live
async def test_an_erased_log_is_gone_from_every_index_at_once(index: ElasticIndex, raw: httpx.AsyncClient) -> None:
    await index.write([log("a"), log("b"), log("c")])
    await index.roll_over()
    await index.write([log("d")])
    await copy_left(index, raw, "b")
    await index.delete(["a", "b", "d", "nobody"])
    assert (await index.search(SearchRequest(parse("")))).total == 1
    assert [await index.get(name) for name in "abd"] == [None] * 3
    assert [await where(index, raw, name) for name in "abcd"] == [[], [], ["000001"], []]


@pytest.mark.live
async def test_an_erased_log_is_gone_from_what_a_rebuild_left_half_made(
    index: ElasticIndex, raw: httpx.AsyncClient
) -> None:
    await index.write([log("a"), log("b")])
    source = (await raw.get(f"/{index.alias}-000001/_doc/a")).json()["_source"]
    half_made = f"/{index.alias}-000001.2"
    await raw.put(half_made, json={"aliases": {f"{index.alias}.filling-1": {"is_hidden": True}}})
    (await raw.put(f"{half_made}/_doc/a", json=source)).raise_for_status()
    await index.delete(["a"])
    assert (await raw.get(f"{half_made}/_doc/a")).status_code == 404
    assert [await index.get(name) for name in "ab"] == [None, log("b")]


@pytest.mark.live
async def test_who_listed_the_indices_before_one_was_rebuilt_lists_them_again(
    index: ElasticIndex, other: ElasticIndex, raw: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await index.write([log("a"), log("b")])
    await index.roll_over()
    before = await indices_of(index._client, index.alias)
    await other.rebuild(as_they_are, progress=unmoved)
    lists = []

    async def listed(client: AsyncElasticsearch, alias: str) -> dict[str, bool]:
        return lists.pop() if lists else await indices_of(client, alias)

    monkeypatch.setattr(elastic_copies, "indices_of", listed)
    lists += [before]
    assert await index.get("a") == log("a")
    lists += [before]
    assert set((await index.stored(log_ids=["a", "b", "c"], trace_ids=[])).logs) == {"a", "b"}
    lists += [before, before]
    assert outcomes(await index.write([log("a"), log("c")])) == ["duplicate", "indexed"]
    monkeypatch.setattr(elastic_shelves, "indices_of", listed)
    lists += [before]
    with pytest.raises(IndexUnavailable):
        await index.shelves()
    lists += [before]
    await elastic_copies.delete_copies(index._client, index.alias, ["a", "c"], make_index=index.setup)
    assert not lists
    assert [await where(index, raw, name) for name in "abc"] == [[], ["000001.2"], []]


@pytest.mark.live
async def test_an_index_that_is_rebuilt_keeps_its_place_among_the_others(
    index: ElasticIndex, other: ElasticIndex, raw: httpx.AsyncClient
) -> None:
    for number in range(3):
        await index.write([log(f"l{number}")])
        await index.roll_over()
    await tag(index, "l0", "team:x")
    left = []

    async def fail(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
        left.extend(logs)
        if len(left) == 2:
            raise LookupError
        return logs

    with pytest.raises(LookupError):
        await index.rebuild(fail, progress=unmoved)
    assert await names(index, raw) == {"000001.2": False, "000002": False, "000003": False, "000004": True}
    assert outcomes(await other.write([log("l0"), log("l2"), log("l3")])) == ["duplicate", "duplicate", "indexed"]
    await index.rebuild(as_they_are, progress=unmoved)
    assert await names(index, raw) == {"000001.3": False, "000002.2": False, "000003.2": False, "000004.2": True}
    await index.roll_over()
    assert outcomes(await other.write([log("l0"), log("l3"), log("l4")])) == ["duplicate", "duplicate", "indexed"]
    assert [await where(index, raw, name) for name in ("l0", "l3", "l4")] == [["000001.3"], ["000004.2"], ["000005"]]
    found = await index.get("l0")
    assert found is not None and found.tags


@pytest.mark.live
async def test_logs_rank_alike_in_one_index_and_in_several(index: ElasticIndex, elasticsearch_url: str) -> None:
    logs = [log(f"l{at}", "tax " * (at % 3 + 1) + "and other words " * at + "refund" * (at > 3)) for at in range(9)]
    async with opened(elasticsearch_url) as alone:
        for one in (index, alone):
            for start in (0, 4, 8):
                await one.write(logs[start : start + 4])
                if one is index:
                    await index.roll_over()
            await one.refresh()
        for text in ("tax", "tax OR refund", "other words -refund"):
            request = SearchRequest(parse(text))
            pages = [await one.search(request) for one in (index, alone)]
            spread, together = ([(hit.log.log.log_id, hit.score) for hit in page.hits] for page in pages)
            assert spread == together and len(spread) > 2


@pytest.mark.live
async def test_no_search_fails_while_another_index_is_begun(index: ElasticIndex, other: ElasticIndex) -> None:
    await index.write([log("a")])
    await index.refresh()
    over = asyncio.Event()

    async def look() -> set[int]:
        totals = set()
        while not over.is_set():
            await index.refresh()
            totals.add((await index.search(SearchRequest(parse("words"), limit=3))).total)
            totals.add((await index.search(SearchRequest(parse(""), limit=0))).total)
        return totals

    looking = asyncio.create_task(look())
    for _ in range(4):
        await other.roll_over()
    over.set()
    assert await looking == {1}


@pytest.mark.live
async def test_a_rollover_that_was_killed_half_way_is_forgotten_by_the_next(
    index: ElasticIndex, raw: httpx.AsyncClient
) -> None:
    await raw.put(f"/{index.alias}-000002", json={"aliases": {f"{index.alias}.filling-1": {}}})
    await index.roll_over()
    assert await names(index, raw) == {"000001": False, "000002": True}
    assert list((await raw.get(f"/{index.alias}-*")).json()) == [f"{index.alias}-000001", f"{index.alias}-000002"]


@pytest.mark.live
async def test_an_index_that_no_node_has_room_for_does_not_take_the_place_of_one_that_is_there(
    index: ElasticIndex, raw: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elastic_shelves, "START_S", 1)
    await index.write([log("a")])
    template = mapping.templates(index.alias.removeprefix("logs-"))[index.alias]
    settings = template["template"]["settings"] | {"index.routing.allocation.require._name": "nobody"}
    body = template | {"template": {**template["template"], "settings": settings}}
    (await raw.put(f"/_index_template/{index.alias}", json=body)).raise_for_status()
    assert not await index.roll_over()
    assert outcomes(await index.write([log("b")])) == ["indexed"]
    await index.refresh()
    assert (await index.search(SearchRequest(parse("")))).total == 2
    assert list((await raw.get(f"/{index.alias}-*")).json()) == [f"{index.alias}-000001"]
    await index.setup()
    assert await index.roll_over()


async def forgotten(_log_ids: Sequence[str]) -> None:
    return None


@pytest.mark.live
async def test_a_shelf_is_dropped_with_what_was_said_of_its_logs_and_nothing_else(
    index: ElasticIndex, raw: httpx.AsyncClient
) -> None:
    await index.write([log("a", response_id="r", trace_id="t"), log("b", trace_id="t" * 2000), log("c", ts_ms=3000)])
    await index.roll_over()
    await index.write([log("d", trace_id="t", ts_ms=2000), log("e", ts_ms=500)])
    await index.roll_over()
    await index.put_notes(
        [
            StoredNote(TraceNote(trace_id="t", user_id="u", log_ids=("a", "d"))),
            StoredNote(TraceNote(trace_id="t" * 2000, user_id="u", log_ids=("b",))),
        ]
    )
    said = [("l", {"log_id": "a"}), ("r", {"response_id": "r"}), ("t", {"trace_id": "t"}), ("d", {"log_id": "d"})]
    await index.add_feedback([Feedback(feedback_id=name, ts_ms=1, name="ok", **about) for name, about in said])
    await index.refresh()
    cursor = (await index.search(SearchRequest(parse("words"), limit=1))).cursor
    second, first, filling = await index.shelves()
    assert [shelf[:5:3] for shelf in (first, second)] == [
        (f"{index.alias}-000001", 3000),
        (f"{index.alias}-000002", 2000),
    ]
    assert filling._replace(begun_ms=0, bytes=0) == Shelf(f"{index.alias}-000003", 0, 0, None, 0, is_filled=False)
    assert first.is_filled and first.logs == 3 and first.bytes > 0 and 0 < first.begun_ms < filling.begun_ms
    told: list[str] = []

    async def before(log_ids: Sequence[str]) -> None:
        assert await index.get("a") is not None
        told.extend(log_ids)

    assert await index.drop_shelf(first.name, before=before) == 3
    assert sorted(told) == ["a", "b", "c"]
    assert [shelf.name for shelf in await index.shelves()] == [second.name, filling.name]
    assert [await index.get(name) for name in "abc"] == [None] * 3
    assert (await index.search(SearchRequest(parse("")))).total == 2
    await index.refresh()
    d = log("d", trace_id="t").log
    assert [item.feedback_id for item in await index.feedback_of(d)] == ["d", "t"]
    assert list(await index.feedback_of(log("a", response_id="r").log)) == []
    notes = (await index.stored(log_ids=[], trace_ids=["t", "t" * 2000])).notes
    assert notes["t"].note == TraceNote(trace_id="t", user_id="u", log_ids=("d",))
    assert notes["t" * 2000].note == TraceNote(trace_id="t" * 2000)
    with pytest.raises(CursorInvalid):
        await index.search(SearchRequest(parse("words"), limit=1, cursor=cursor))
    assert outcomes(await index.write([log("a"), log("d")])) == ["indexed", "duplicate"]
    assert len(await names(index, raw)) == 2


@pytest.mark.live
async def test_a_drop_that_fails_leaves_the_shelf_and_is_done_again(index: ElasticIndex) -> None:
    await index.write([log(f"l{at}") for at in range(300)])
    await index.roll_over()
    filled, filling = await index.shelves()

    async def fail(_log_ids: Sequence[str]) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await index.drop_shelf(filled.name, before=fail)
    assert await index.get("l0") is not None
    for name in (filling.name, f"{index.alias}-000007", "logs-of-others-000001"):
        with pytest.raises(SearchIndexError):
            await index.drop_shelf(name, before=forgotten)
    assert await index.drop_shelf(filled.name, before=forgotten) == 300
    assert await index.shelves() == [filling]


@pytest.mark.parametrize("engine", ["memory", "embedded"])
async def test_where_logs_lie_in_one_place_there_are_no_shelves(engine: str, tmp_path: Path) -> None:
    async with opened(f"local:{tmp_path}") as embedded:
        index = MemorySearch() if engine == "memory" else embedded
        assert outcomes(await index.write([log("a")])) == [Outcome.INDEXED.value]
        assert (list(await index.shelves()), await index.roll_over()) == ([], False)
        assert await index.drop_shelf("any", before=forgotten) == 0
        assert await index.get("a") is not None
