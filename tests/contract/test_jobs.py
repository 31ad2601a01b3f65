"""What the rows of jobs promise, on both databases, and what jobs do to logs, on both indexes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engines.own_index import ENGINES, opened_for
from engines.postgres import empty_database, postgres
from fakes.curator_api import tagged
from sqlalchemy import Engine

from tunemill.curator_api import edit_store, job_work
from tunemill.curator_api import job_store as store
from tunemill.curator_api.errors import Unprocessable
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_store import Job, LeaseLost, Request
from tunemill.curator_api.job_work import Jobs
from tunemill.curator_api.tag_changes import TagChange
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.records import Tag
from tunemill.streams.tagging import StreamTagging

ADDED = TagChange(added=(Tag("topic:refund", "refunds@1"),))
TAKEN = TagChange(taken=(Tag("topic:old", "old@1"), Tag("topic:older", "old@1")))


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        yield from _opened(f"sqlite:///{tmp_path / 'registry.db'}")
        return
    with empty_database(request.getfixturevalue("postgres_server")) as url:
        yield from _opened(url)


def _opened(url: str) -> Iterator[Engine]:
    made = open_registry(url)
    migrate(made)
    yield made
    made.dispose()


def start(engine: Engine) -> Job:
    return store.start(engine, "default", kind="rules", query="a", revision=1, total=9, by="person:ann")


def test_one_goes_from_start_to_undone(engine: Engine) -> None:
    begun = start(engine)
    mine = store.claim(engine, "default", "me")
    assert mine
    assert (mine.job_id, mine.status, mine.place) == (begun.job_id, "running", None)
    store.note_changes(engine, mine, {"b": ADDED, "A": TAKEN})
    store.advance(engine, mine, [5, "b"], seen=3)
    store.note_changes(engine, mine, {"b": TAKEN, "ä/1": ADDED})
    store.finish(engine, mine, "done")
    done = store.find(engine, "default", begun.job_id)
    assert (done.status, done.seen, done.changed, done.place, done.lease_owner) == ("done", 3, 3, [5, "b"], None)
    store.undo(engine, "default", begun.job_id, by="person:bob")
    again = store.claim(engine, "default", "other")
    assert again
    assert (again.status, again.place) == ("undoing", None)
    taken_back, place, counts = {}, "", []
    while page := store.changes_after(engine, begun.job_id, place, limit=1):
        taken_back |= page
        (place,) = page
        store.advance(engine, again, [place], seen=0)
        counts.append(store.count_undone(engine, store.find(engine, "default", begun.job_id)))
    assert taken_back == {"A": TAKEN, "b": TagChange(ADDED.added, TAKEN.taken), "ä/1": ADDED}
    assert counts == [1, 2, 3]
    store.finish(engine, again, "undone", error=None)
    assert store.claim(engine, "default", "me") is None
    assert [one.job_id for one in store.find_all(engine, "default", limit=9)] == [begun.job_id]


def test_of_many_who_ask_at_the_same_time_one_gets_it(engine: Engine) -> None:
    start(engine)
    start(engine)
    got: list[Job] = []

    def ask(number: int) -> None:
        found = store.claim(engine, "default", f"owner-{number}")
        if found is not None:
            got.append(found)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    store.renew(engine, got[0])


ONCE = Request("a key", "a digest")


def start_once(engine: Engine, project: str = "default", request: Request = ONCE) -> Job:
    return store.start(engine, project, kind="tags", query="a", total=9, by="person:ann", request=request)


def test_what_is_asked_for_twice_by_one_key_is_one_job_also_when_it_is_undone(engine: Engine) -> None:
    assert store.find_begun(engine, "default", ONCE) is None
    begun = start_once(engine)
    assert start_once(engine) == store.find_begun(engine, "default", ONCE) == begun
    claimed = store.claim(engine, "default", "me")
    assert claimed
    store.finish(engine, claimed, "done")
    store.undo(engine, "default", begun.job_id, by="person:ann")
    again = start_once(engine)
    assert (again.job_id, again.status) == (begun.job_id, "undoing")
    for ask in (store.find_begun, lambda *_: start_once(engine, request=Request(ONCE.key, "another"))):
        with pytest.raises(Unprocessable, match="something else"):
            ask(engine, "default", Request(ONCE.key, "another"))
    others = [start_once(engine, "other"), start_once(engine, request=Request("b", ONCE.digest)), start(engine)]
    assert len({begun.job_id, start(engine).job_id, *(other.job_id for other in others)}) == 5


def test_of_those_who_ask_at_once_by_one_key_all_get_the_same_job(engine: Engine) -> None:
    together = threading.Barrier(6)

    def ask(_number: int) -> Job:
        together.wait()
        return start_once(engine)

    with ThreadPoolExecutor(6) as threads:
        begun = list(threads.map(ask, range(6)))
    assert len({job.job_id for job in begun}) == len(store.find_all(engine, "default", limit=9)) == 1


def test_a_lease_that_ended_is_taken_over_and_its_owner_is_kept_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(engine)
    monkeypatch.setattr(store, "LEASE_MS", -1)
    dead = store.claim(engine, "default", "dead")
    monkeypatch.setattr(store, "LEASE_MS", 60_000)
    alive = store.claim(engine, "default", "alive")
    assert dead
    assert alive
    with pytest.raises(LeaseLost):
        store.note_changes(engine, dead, {"a": ADDED})
    assert store.changes_after(engine, alive.job_id, "", limit=9) == {}


@pytest.fixture(params=ENGINES)
async def on(
    request: pytest.FixtureRequest, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Jobs]:
    """Each index that holds 50 logs, every other one about a refund, with each registry."""
    monkeypatch.setattr(job_work, "PAGE", 20)
    async with opened_for(request, tmp_path) as index:
        await index.write(
            [tagged(f"l{n:02}", "a refund" if n % 2 else "a poem", tags=("topic:x",), ts_ms=n // 4) for n in range(50)]
        )
        yield Jobs(index=index, registry=engine, tagging=StreamTagging(), project="default")


async def done(on: Jobs, kind: str, query: str, **work: Any) -> Job:
    begun = store.start(on.registry, on.project, kind=kind, query=query, total=25, by="person:ann", work=work)
    return await worked_on(on, begun)


async def worked_on(on: Jobs, begun: Job) -> Job:
    assert await do_next(on, "me", asyncio.Event())
    return store.find(on.registry, on.project, begun.job_id)


async def count(on: Jobs, query: str) -> int:
    return (await on.index.search(SearchRequest(parse(query), limit=0))).total


async def test_jobs_do_what_they_say_to_all_that_match_and_take_it_back(on: Jobs) -> None:
    first = await done(on, "tags", "refund -tag:team:x", add=["team:x"], remove=["topic:x"])
    assert (first.status, first.seen, first.changed) == ("done", 25, 25)
    assert [await count(on, query) for query in ("tag:team:x", "tag:topic:x", "tag:team:x poem")] == [25, 25, 0]
    second = await done(on, "consent", "tag:team:x", consent="none")
    assert (second.changed, await count(on, "consent:none"), await count(on, "consent:train")) == (25, 25, 25)
    for begun in (second, first):
        store.undo(on.registry, on.project, begun.job_id, by="person:bob")
        assert (await worked_on(on, begun)).status == "undone"
    queries = ("consent:train", "tag:topic:x", "tag:team:x")
    assert [await count(on, query) for query in queries] == [50, 50, 0]
    deleted = await done(on, "delete", "refund")
    assert (deleted.status, deleted.seen, deleted.changed) == ("done", 25, 25)
    await on.index.refresh()
    assert [await count(on, query) for query in ("", "refund")] == [25, 0]
    left = await asyncio.to_thread(edit_store.pending, on.registry, on.project, before_ms=2**60, limit=9)
    assert left is None
