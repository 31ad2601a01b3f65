"""What people do to logs, on both engines and the fake, and on both registries."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from engines.own_index import ENGINES, opened_for
from engines.postgres import empty_database, postgres
from fakes.curator_api import tagged
from fakes.search_memory import MemorySearch
from sqlalchemy import Engine, insert, select, text

from tunemill.curator_api import edit_store, ledger, retention_store
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.edits import bring_back, change, change_many
from tunemill.curator_api.errors import EditedMeanwhile, NotFound
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex, SearchRequest
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import edits
from tunemill.schemas.records import Edit, LogRecord, Message, Tag
from tunemill.streams.assemble import assemble
from tunemill.streams.formats.shape import Piece
from tunemill.streams.mask import MaskedPiece
from tunemill.streams.rules import load_rules

ANSWER = {"messages": [{"role": "user", "content": "2+2?"}], "output": [{"role": "assistant", "content": "fourteen"}]}


@dataclass(frozen=True)
class Places:
    index: SearchIndex
    registry: Engine
    project: str = "default"


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        yield from _migrated(f"sqlite:///{tmp_path / 'registry.db'}")
        return
    with empty_database(request.getfixturevalue("postgres_server")) as url:
        yield from _migrated(url)


def _migrated(url: str) -> Iterator[Engine]:
    made = open_registry(url)
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture(params=("memory", *ENGINES))
async def on(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Places]:
    """Each index with a registry on SQLite."""
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(registry)
    if request.param == "memory":
        yield Places(MemorySearch(), registry)
    else:
        async with opened_for(request, tmp_path) as index:
            yield Places(index, registry)
    registry.dispose()


async def found(on: Places, query: str) -> set[str]:
    await on.index.refresh()
    page = await on.index.search(SearchRequest(parse(query)))
    return {hit.log.log.log_id for hit in page.hits}


async def test_what_people_did_is_what_searches_find(on: Places) -> None:
    await on.index.write([tagged("a", "2+2?", "four"), tagged("b", "2+2?", "four")])
    acts = [
        Act("messages", value=ANSWER),
        Act("untag", "topic:math"),
        Act("tag", "team:x"),
        Act("consent", value="none"),
    ]
    changed = await change(on, "a", acts, by="person:ann", why="it was wrong")
    assert await on.index.get("a") == changed and changed.revision == 4
    assert changed.log == tagged("a", "2+2?", "four").log
    queries = ("fourteen", "four", "tag:team:x", "tag:topic:math", "consent:none", "consent:train", "has:edit")
    assert [await found(on, query) for query in queries] == [{"a"}, {"b"}, {"a"}, {"b"}, {"a"}, {"b"}, {"a"}]
    await change(on, "a", [Act("messages"), Act("consent")], by="person:ann")
    assert await found(on, "four") == {"a", "b"} and await found(on, "has:edit OR consent:none") == set()


async def test_of_many_who_edit_at_once_each_is_kept_and_all_see_the_same_log(on: Places) -> None:
    await on.index.write([tagged("a")])

    async def one(number: int) -> None:
        other = {**ANSWER, "output": [{"role": "assistant", "content": f"it is {number}"}]}
        await change(on, "a", [Act("messages", value=other), Act("tag", f"n:{number}")], by=f"person:{number}")

    await asyncio.gather(*(one(number) for number in range(20)))
    rows = (await asyncio.to_thread(edit_store.edits_of, on.registry, "default", ["a"]))["a"]
    assert [row.revision for row in rows] == list(range(1, 41)) and len({row.by for row in rows}) == 20
    log = await on.index.get("a")
    assert log is not None and log.revision == 40
    assert [tag for tag in log.tags if tag.tag.startswith("n:")] == [Tag(row.tag or "", row.by) for row in rows[1::2]]
    assert log.edit == msgspec.convert(rows[-2].value, Edit)
    assert edit_store.pending(on.registry, "default", before_ms=2**60, limit=9) is None


async def test_a_log_that_was_dropped_and_comes_again_gets_back_what_was_done_but_no_text(on: Places) -> None:
    await on.index.write([tagged("a"), tagged("b"), tagged("c"), tagged("d")])
    acts = [Act("untag", "topic:math"), Act("messages", value=ANSWER), Act("consent", value="none")]
    await change_many(on, dict.fromkeys(("a", "b", "c"), acts), by="person:ann")
    await asyncio.to_thread(retention_store.forget_texts, on.registry, on.project, ["a"])
    await asyncio.to_thread(ledger.erase, on.registry, on.project, "c", by="person:ann")
    await on.index.delete(["a", "c"])
    assert await bring_back(on) == 0  # of logs that are not there
    await on.index.write([tagged("a"), tagged("c")])
    assert await bring_back(on) == 1
    found = (await on.index.stored(log_ids=["a", "b", "c", "d"], trace_ids=[])).logs
    back, kept = found["a"].tagged, found["b"].tagged
    assert (back.tags, back.removed, back.consent, back.revision) == ((), ("topic:math",), "none", 3)
    assert back.edit is None and kept.edit == msgspec.convert(ANSWER, Edit)
    assert found["c"].tagged == tagged("c") and found["d"].tagged == tagged("d")
    assert await bring_back(on) == 0
    assert (await on.index.stored(log_ids=["a"], trace_ids=[])).logs["a"].tagged == back


def test_a_history_has_no_texts_and_says_what_gave_back_what_came(registry: Engine) -> None:
    acts = [Act("messages", value=ANSWER), Act("messages"), Act("consent", value="none"), Act("consent")]
    acts += [Act("tag", "team:x", value="caller"), Act("untag", "team:x"), Act("messages", value=ANSWER)]
    edit_store.record(registry, "default", {"a": acts, "b": acts[:1]}, by="person:ann")
    told = edit_store.history(registry, "default", "a", upto=6, limit=9)
    assert [row.revision for row in told.rows] == [1, 2, 3, 4, 5, 6] and told.as_it_came == {2, 4}
    assert [row.value for row in told.rows] == [None, None, "none", None, "caller", None]
    assert [row.revision for row in edit_store.history(registry, "default", "a", upto=7, limit=2).rows] == [6, 7]
    listed = edit_store.edits_of(registry, "default", ["a", "b"], texts=False)
    assert [row.value for row in listed["a"]] == [None, None, "none", None, "caller", None, None]
    assert [row.value for row in listed["b"]] == [None]
    at = [edit_store.messages_at(registry, "default", "a", revision) for revision in (0, 1, 2, 6, 7)]
    assert at == [None, ANSWER, None, None, ANSWER]
    retention_store.forget_texts(registry, "default", ["a"])
    assert edit_store.history(registry, "default", "a", upto=9, limit=9).as_it_came == {1, 2, 4, 7}
    assert edit_store.messages_at(registry, "default", "a", 7) is None


def test_logs_that_the_index_had_edits_of_are_gone_through_page_by_page(registry: Engine) -> None:
    for number in range(3):
        said = {log_id: [Act("tag", "team:x")] for log_id in ("a", "b", "c", "d")[number:]}
        edit_store.record(registry, "default", said, by="person:ann")
        edit_store.record(registry, "other", said, by="person:ann")
    edit_store.applied(registry, "default", {"a": 1, "b": 1, "d": 3})
    ledger.erase(registry, "default", "b", by="person:ann")
    assert edit_store.last_applied(registry, "default", after="", limit=9) == {"a": 1, "d": 3}
    assert edit_store.last_applied(registry, "default", after="", limit=1) == {"a": 1}
    assert edit_store.last_applied(registry, "default", after="a", limit=1) == {"d": 3}
    assert edit_store.last_applied(registry, "default", after="d", limit=1) == {}


async def test_of_many_who_saw_the_same_revision_one_edits(on: Places) -> None:
    await on.index.write([tagged("a")])
    tries = [change(on, "a", [Act("tag", f"n:{number}")], by="person:ann", expected=0) for number in range(9)]
    ends = await asyncio.gather(*tries, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, EditedMeanwhile)]
    assert len(refused) == 8 and all(end.more == {"revision": 1} for end in refused)
    log = await on.index.get("a")
    assert log is not None and log.revision == 1


async def test_one_refusal_of_many_changes_nothing(on: Places) -> None:
    await on.index.write([tagged("a"), tagged("b")])
    await change(on, "b", [Act("tag", "team:x")], by="person:bob")
    with pytest.raises(EditedMeanwhile):
        acts = {log_id: [Act("consent", value="none")] for log_id in ("a", "b")}
        await change_many(on, acts, by="person:ann", expected={"a": 0, "b": 0})
    assert await found(on, "consent:train") == {"a", "b"}


async def test_later_parts_and_replays_are_joined_beneath_an_edit(on: Places) -> None:
    rules = load_rules()
    asked = LogRecord(log_id="t-a", ts_ms=1000, trace_id="t", messages=(Message(role="user", content="one and one"),))
    answered = LogRecord(
        log_id="t-a", ts_ms=1000, trace_id="t", messages=(), output=(Message(role="assistant", content="eleven"),)
    )
    parts = [MaskedPiece(Piece(asked, 0, (1,)), ()), MaskedPiece(Piece(answered, 1), ())]
    await assemble(parts[:1], on.index, rules)
    edited = await change(on, "t-a", [Act("messages", value=ANSWER)], by="person:ann")
    await assemble(parts, on.index, rules)
    now = await on.index.get("t-a")
    assert now is not None and (now.revision, now.edit) == (1, edited.edit)
    assert [message.content for message in (*now.log.messages, *now.log.output)] == ["one and one", "eleven"]
    assert (await found(on, "fourteen"), await found(on, "eleven")) == ({"t-a"}, set())
    await change(on, "t-a", [Act("messages")], by="person:ann")
    assert (await found(on, "fourteen"), await found(on, "eleven")) == (set(), {"t-a"})


async def test_an_erased_log_takes_no_edit(on: Places) -> None:
    await on.index.write([tagged("a")])
    await asyncio.to_thread(ledger.erase, on.registry, "default", "a", by="person:bob")
    with pytest.raises(NotFound):
        await change(on, "a", [Act("messages", value=ANSWER)], by="person:ann")


def test_numbers_go_up_one_by_one_whoever_records(registry: Engine) -> None:
    def record(number: int) -> dict[str, int]:
        acts = {log_id: [Act("tag", f"n:{number}")] for log_id in ("a", "b")}
        return edit_store.record(registry, "default", acts, by=f"person:{number}")

    with ThreadPoolExecutor(8) as threads:
        last = list(threads.map(record, range(24)))
    assert sorted(one["a"] for one in last) == sorted(one["b"] for one in last) == list(range(1, 25))
    rows = edit_store.edits_of(registry, "default", ["a", "b"], after={"a": 20})
    assert [len(rows["a"]), len(rows["b"])] == [4, 24]


def test_what_is_pending_is_what_was_not_noted_as_applied(registry: Engine) -> None:
    for number in range(3):
        acts = {log_id: [Act("consent", value="none")] for log_id in ("a", "b")}
        edit_store.record(registry, "default", acts, by="person:ann", job_id="j" if number else None)
    edit_store.applied(registry, "default", {"a": 3, "b": 2})
    waiting = edit_store.pending(registry, "default", before_ms=2**60, limit=9)
    assert waiting is not None and waiting.log_ids == ["b"]
    assert edit_store.pending(registry, "default", before_ms=2**60, after_seq=waiting.seq, limit=9) is None
    assert edit_store.pending(registry, "other", before_ms=2**60, limit=9) is None
    first = edit_store.of_job(registry, "j", after_seq=0, limit=3)
    rest = edit_store.of_job(registry, "j", after_seq=first[-1].seq, limit=3)
    assert [(row.log_id, row.revision) for row in (*first, *rest)] == [("a", 2), ("b", 2), ("a", 3), ("b", 3)]


def test_an_erasure_forgets_an_edit_that_is_being_recorded(registry: Engine) -> None:
    """On PostgreSQL neither sees the other's row before it is committed. SQLite lets only one of them begin."""
    row = {"project": "default", "log_id": "a", "revision": 1, "kind": "messages", "by": "x", "ts_ms": 1}
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with ThreadPoolExecutor() as threads:
        with registry.begin() as editing:
            editing.execute(insert(edits).values(**row, value=ANSWER))
            erasing = threads.submit(ledger.erase, registry, "default", "a", by="person:bob")
            while registry.dialect.name == "postgresql" and not erasing.done():
                with registry.connect() as watching:
                    if watching.execute(waiting).scalar_one():
                        break
        erasing.result(timeout=60)
    with registry.connect() as connection:
        assert connection.execute(select(edits.c.kind, edits.c.value)).all() == [("erase", None)] * 2


def test_an_edit_finds_the_erasure_that_is_under_way(registry: Engine) -> None:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    acts = {"a": [Act("messages", value=ANSWER)]}
    with ThreadPoolExecutor() as threads:
        with registry.begin() as erasing:
            ledger.erase_many(erasing, "default", ["a"], by="person:bob")
            editing = threads.submit(edit_store.record, registry, "default", acts, by="person:ann")
            while registry.dialect.name == "postgresql" and not editing.done():
                with registry.connect() as watching:
                    if watching.execute(waiting).scalar_one():
                        break
        assert editing.result(timeout=60) == {}
    with registry.connect() as connection:
        assert connection.execute(select(edits.c.kind)).scalars().all() == ["erase"]


def test_many_who_erase_and_edit_at_once_leave_nothing(registry: Engine) -> None:
    ids = [f"log-{number}" for number in range(6)]
    start = threading.Barrier(6)

    def act(number: int) -> None:
        start.wait()
        if number % 2:
            ledger.erase_page(registry, "default", ids[::-1], by="person:bob")
        for _ in range(4):
            edit_store.record(registry, "default", {log_id: [Act("tag", "team:x")] for log_id in ids}, by="person:ann")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(act, range(6)))
    with registry.connect() as connection:
        kinds = connection.execute(select(edits.c.log_id, edits.c.kind)).all()
    assert {kind for _, kind in kinds} == {"erase"}
    assert {log_id for log_id, _ in kinds} == set(ids)
