"""Rules applied to history: what that does, what it leaves to people, and that no crash and no rival changes the outcome."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import job_and_die
from fakes.job_and_die import opened
from fakes.search_memory import MemorySearch
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from tunemill.curator_api import job_runner, job_work, rules_job
from tunemill.curator_api import job_store as store
from tunemill.curator_api.errors import Finished, NotFound, UnderWay
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_store import Job, LeaseLost
from tunemill.curator_api.job_work import Jobs
from tunemill.curator_api.tag_changes import TagChange, change, then, undone
from tunemill.indexer.errors import IndexUnavailable
from tunemill.indexer.search import SearchIndex
from tunemill.registry import rule_sets
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import audit, now_ms
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog
from tunemill.schemas.stored import Stored, StoredLog
from tunemill.streams.tagging import StreamTagging

REFUNDS = """\
rules:
  - {name: refunds, version: 2, tag: "topic:refund", any: [{in: user, literal: refund}]}
"""
ANN = "person:ann"


LONG = (
    "Please tell me in a few words how the long bridge over the wide river was built, by whom, and what it is made of."
)


def log(n: int, text: str | None = None, *, removed: Sequence[str] = (), **by_tag: str) -> TaggedLog:
    """Every third asks for a refund; all have a tag of a rule that is not there any more."""
    asked = text or (
        "I want a refund, please" if n % 3 == 0 else LONG if n in (2, 17) else "What a fine day it is today"
    )
    record = LogRecord(log_id=f"l{n:02}", ts_ms=1_000 + n // 4, messages=(Message(role="user", content=asked),))
    tags = tuple(Tag(name.replace("_", ":"), by) for name, by in {"old_rule": "gone@1", **by_tag}.items())
    return TaggedLog(log=record, content_digest="d", tags=tags, language="en", removed=tuple(removed))


LOGS = [log(n) for n in range(20)]


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Jobs]:
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(registry)
    rule_sets.put(registry, "default", by=ANN, document=REFUNDS)
    yield Jobs(index=MemorySearch(*LOGS), registry=registry, tagging=StreamTagging(), project="default")
    registry.dispose()


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_work, "PAGE", 7)
    monkeypatch.setattr(rules_job, "SETTLE_S", 0.0)


def start(on: Jobs, query: str = "") -> Job:
    return store.start(on.registry, on.project, kind="rules", query=query, revision=1, total=20, by=ANN)


def found(on: Jobs, begun: Job) -> Job:
    return store.find(on.registry, on.project, begun.job_id)


async def work(on: Jobs, owner: str = "me") -> bool:
    return await do_next(on, owner, asyncio.Event())


async def tags_of(index: SearchIndex, *log_ids: str) -> dict[str, dict[str, str]]:
    logs = (await index.stored(log_ids=log_ids or [one.log.log_id for one in LOGS], trace_ids=[])).logs
    return {log_id: {tag.tag: tag.by for tag in logged.tagged.tags} for log_id, logged in logs.items()}


def expected(n: int) -> dict[str, str]:
    """By the new rules, and by what earlier logs say."""
    found = {"topic:refund": "refunds@2"} if n % 3 == 0 else {}
    return found | ({"quality:near-duplicate": "near@1"} if n == 17 else {})


def without_language(by_tag: dict[str, str]) -> dict[str, str]:
    return {tag: by for tag, by in by_tag.items() if not tag.startswith("lang:")}


async def test_history_gets_its_tags_by_the_rules_and_has_them_taken_back(on: Jobs) -> None:
    before = await tags_of(on.index)
    begun = start(on)
    assert await work(on)
    after = await tags_of(on.index)
    assert {log_id: without_language(tags) for log_id, tags in after.items()} == {
        f"l{n:02}": expected(n) for n in range(20)
    }
    done = found(on, begun)
    assert (done.status, done.seen, done.changed, done.lease_owner) == ("done", 20, 20, None)
    store.undo(on.registry, on.project, begun.job_id, by=ANN)
    assert await work(on)
    assert await tags_of(on.index) == before
    assert found(on, begun).status == "undone"
    assert store.count_undone(on.registry, found(on, begun)) == 20
    assert not await work(on)


async def test_only_logs_that_match_are_looked_at_and_only_those_that_change_are_written(on: Jobs) -> None:
    written: list[str] = []

    class Watched(MemorySearch):
        async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
            written.extend(stored.tagged.log.log_id for stored in changed)
            return await super().replace(changed)

    index = Watched(*LOGS)
    watched = Jobs(index=index, registry=on.registry, tagging=on.tagging, project=on.project)
    first = start(watched, "refund")
    await work(watched)
    assert (found(on, first).seen, found(on, first).changed, len(written)) == (7, 7, 7)
    second = start(watched, "refund")
    await work(watched)
    assert (found(on, second).seen, found(on, second).changed, len(written)) == (7, 0, 7)


async def test_some_logs_alone_keep_their_tags_of_near_duplicates(on: Jobs) -> None:
    start(on)
    await work(on)
    assert (await tags_of(on.index, "l17"))["l17"]["quality:near-duplicate"] == "near@1"
    start(on, "id:l17")
    await work(on)
    assert (await tags_of(on.index, "l17"))["l17"]["quality:near-duplicate"] == "near@1"


async def test_what_people_and_callers_set_stays_and_what_people_took_off_stays_off(on: Jobs) -> None:
    index = MemorySearch(
        log(0, team_x=ANN, topic_refund=ANN),
        log(3, removed=["topic:refund"]),
        log(6, app_y="caller", secret_jwt="secrets@1"),
    )
    theirs = Jobs(index=index, registry=on.registry, tagging=on.tagging, project=on.project)
    start(theirs)
    await work(theirs)
    tags = {log_id: without_language(by_tag) for log_id, by_tag in (await tags_of(index, *index.logs)).items()}
    assert tags == {
        "l00": {"team:x": ANN, "topic:refund": ANN},
        "l03": {},
        "l06": {"app:y": "caller", "secret:jwt": "secrets@1", "topic:refund": "refunds@2"},
    }


async def test_what_somebody_changed_since_is_not_taken_back(on: Jobs) -> None:
    begun = start(on)
    await work(on)
    index: Any = on.index

    def edit(n: int, tags: Sequence[Tag], removed: Sequence[str] = ()) -> None:
        name = f"l{n:02}"
        index.logs[name] = msgspec.structs.replace(index.logs[name], tags=tuple(tags), removed=tuple(removed))

    edit(0, [Tag("topic:refund", ANN)])  # kept by a person
    edit(3, [], ["topic:refund", "old:rule"])  # taken off by a person
    edit(6, [Tag("topic:refund", "refunds@3"), Tag("old:rule", "back@1")])  # set anew by later rules
    del index.logs["l09"]  # forgotten
    store.undo(on.registry, on.project, begun.job_id, by=ANN)
    await work(on)
    tags = {log_id: without_language(by_tag) for log_id, by_tag in (await tags_of(on.index)).items()}
    assert tags["l00"] == {"topic:refund": ANN, "old:rule": "gone@1"}
    assert tags["l03"] == {}
    assert tags["l06"] == {"topic:refund": "refunds@3", "old:rule": "back@1"}
    assert tags["l12"] == {"old:rule": "gone@1"}
    assert "l09" not in tags


async def test_a_change_that_comes_between_is_read_again_and_not_lost(on: Jobs) -> None:
    class Busy(MemorySearch):
        """Somebody tags each log just before it is replaced for the first time, and one is forgotten."""

        touched: frozenset[str] = frozenset()

        async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
            for stored in changed:
                log_id = stored.tagged.log.log_id
                if log_id not in self.touched:
                    self.touched |= {log_id}
                    both = (*self.logs[log_id].tags, Tag("team:x", ANN))
                    self.logs[log_id] = msgspec.structs.replace(self.logs[log_id], tags=both)
            self.logs.pop("l01", None)
            return await super().replace(changed)

    index = Busy(*LOGS)
    theirs = Jobs(index=index, registry=on.registry, tagging=on.tagging, project=on.project)
    begun = start(theirs)
    await work(theirs)
    tags = {log_id: without_language(by_tag) for log_id, by_tag in (await tags_of(index)).items()}
    assert tags == {f"l{n:02}": {**expected(n), "team:x": ANN} for n in range(20) if n != 1}
    store.undo(on.registry, on.project, begun.job_id, by=ANN)
    index.touched = frozenset()
    index.logs = {
        name: msgspec.structs.replace(one, tags=tuple(tag for tag in one.tags if tag.tag != "team:x"))
        for name, one in index.logs.items()
    }
    await work(theirs)
    tags = {log_id: without_language(by_tag) for log_id, by_tag in (await tags_of(index)).items()}
    assert tags == {f"l{n:02}": {"old:rule": "gone@1", "team:x": ANN} for n in range(20) if n != 1}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", ["apply", "undo"])
async def test_killed_at_any_step_the_tags_end_the_same(tmp_path: Path, way: str, when: str) -> None:
    (tmp_path / "begun").mkdir()
    async with opened(tmp_path / "begun") as on:
        await on.index.write(LOGS)
        before = await tags_of(on.index)
        rule_sets.put(on.registry, "default", by=ANN, document=REFUNDS)
        begun = start(on)
        if way == "undo":
            await work(on)
            store.undo(on.registry, on.project, begun.job_id, by=ANN)
    for call in job_and_die.STEPS[way]:
        shutil.copytree(tmp_path / "begun", tmp_path / call)
    killing = [sys.executable, job_and_die.__file__, str(tmp_path), way, when]
    environment = {**os.environ, "PYTHONPATH": str(Path(job_and_die.__file__).parents[1])}
    await asyncio.to_thread(subprocess.run, killing, env=environment, check=True)
    await asyncio.sleep(0.1)  # longer than the lease of the dead
    for call in job_and_die.STEPS[way]:
        async with opened(tmp_path / call) as on:
            assert await work(on) or (when, call) == ("after", "finish")
            ended = found(on, begun)
            tags = await tags_of(on.index)
            if way == "undo":
                assert (ended.status, tags) == ("undone", before), call
                continue
            named = {log_id: without_language(by_tag) for log_id, by_tag in tags.items()}
            assert named == {f"l{n:02}": expected(n) for n in range(20)}, call
            assert (ended.status, ended.seen, ended.changed) == ("done", 20, 20), call
            store.undo(on.registry, on.project, begun.job_id, by=ANN)
            await work(on)
            assert await tags_of(on.index) == before, call


async def test_one_worker_at_a_time_the_oldest_first(on: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = start(on), start(on)
    claimed = store.claim(on.registry, on.project, "a")
    assert claimed
    assert claimed.job_id == first.job_id
    assert store.claim(on.registry, on.project, "b") is None
    assert store.claim(on.registry, "other", "b") is None
    store.finish(on.registry, claimed, "done")
    after = store.claim(on.registry, on.project, "b")
    assert after
    assert after.job_id == second.job_id


async def test_who_lost_the_lease_notes_nothing_and_writes_nothing(on: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LEASE_MS", 1)
    begun = start(on)
    slow = store.claim(on.registry, on.project, "slow")
    assert slow
    await asyncio.sleep(0.01)
    fast = store.claim(on.registry, on.project, "fast")
    assert fast
    steps: list[Callable[[], None]] = [
        lambda: store.note_changes(on.registry, slow, {"l00": TagChange(added=(Tag("a:b", "c@1"),))}),
        lambda: store.advance(on.registry, slow, [1, "l00"], seen=1),
        lambda: store.renew(on.registry, slow),
        lambda: store.finish(on.registry, slow, "done"),
    ]
    for step in steps:
        with pytest.raises(LeaseLost):
            step()
    store.let_go(on.registry, slow)
    store.renew(on.registry, fast)
    assert store.changes_after(on.registry, begun.job_id, "", limit=9) == {}
    assert (found(on, begun).seen, found(on, begun).changed) == (0, 0)


async def test_what_is_noted_twice_of_a_log_is_taken_back_whole(on: Jobs) -> None:
    """The process died after the first was done; somebody changed the log before the second."""
    start(on)
    mine = store.claim(on.registry, on.project, "me")
    assert mine
    first = TagChange(added=(Tag("a:b", "r@1"),), taken=(Tag("c:d", "r@1"),))
    second = TagChange(added=(Tag("e:f", "r@1"),))
    for done in (first, second):
        store.note_changes(on.registry, mine, {"l00": done})
    noted = store.changes_after(on.registry, mine.job_id, "", limit=9)
    assert noted == {"l00": TagChange(added=(*first.added, *second.added), taken=first.taken)}
    assert store.count_noted(on.registry, mine.job_id, ["l00", "l01"]) == 1


async def test_a_backfill_waits_for_workers_to_take_up_the_rules(on: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_job, "SETTLE_S", 60.0)
    begun, stop = start(on), asyncio.Event()
    running = asyncio.create_task(job_runner.work_until(stop, on))
    await asyncio.sleep(0.3)
    assert found(on, begun).lease_owner is not None
    stop.set()
    await running
    assert (found(on, begun).status, found(on, begun).seen, found(on, begun).lease_owner) == ("running", 0, None)


async def test_a_clock_that_is_ahead_makes_nobody_wait_longer(on: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_sets, "now_ms", lambda: now_ms() + 3_600_000)
    made = rule_sets.put(on.registry, on.project, by=ANN, document=None)
    begun = store.start(on.registry, on.project, kind="rules", query="", revision=made.revision, total=20, by=ANN)
    assert await asyncio.wait_for(work(on), 30)
    assert found(on, begun).status == "done"


async def test_no_more_logs_are_changed_than_were_seen_at_any_moment(on: Jobs) -> None:
    class Watched(MemorySearch):
        async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
            told.append((found(on, begun).seen, found(on, begun).changed))
            if len(told) == 3:
                store.cancel(on.registry, on.project, begun.job_id, by=ANN)
            return await super().replace(changed)

    told: list[tuple[int, int]] = []
    index = Watched(*LOGS)
    theirs = Jobs(index=index, registry=on.registry, tagging=on.tagging, project=on.project)
    begun = start(theirs)
    await work(theirs)
    assert told == [(0, 0), (7, 7), (14, 14)]
    over = found(on, begun)
    assert (over.status, over.seen, over.changed) == ("cancelled", 20, 20)  # the page in hand was written
    assert len(store.changes_after(on.registry, begun.job_id, "", limit=99)) == 20


async def test_a_cancelled_backfill_stops_and_what_it_did_can_be_taken_back(on: Jobs) -> None:
    class Cancelling(MemorySearch):
        replaced = 0

        async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
            self.replaced += 1
            if self.replaced == 2:
                store.cancel(on.registry, on.project, begun.job_id, by=ANN)
                assert store.claim(on.registry, on.project, "another") is None, "while this one is still writing"
                store.undo(on.registry, on.project, begun.job_id, by=ANN)
                assert store.claim(on.registry, on.project, "another") is None, "while this one is still writing"
            return await super().replace(changed)

    index = Cancelling(*LOGS)
    before = await tags_of(index)
    theirs = Jobs(index=index, registry=on.registry, tagging=on.tagging, project=on.project)
    begun = start(theirs)
    await work(theirs)
    assert index.replaced == 2
    assert await tags_of(index) != before
    assert found(on, begun).status == "undoing"
    await work(theirs, "another")
    assert await tags_of(index) == before


async def test_undoing_that_is_cancelled_writes_nothing_more_and_can_be_begun_again(on: Jobs) -> None:
    class Cancelling(MemorySearch):
        asked = 0

        async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
            self.asked += 1
            if self.asked == 5:  # three pages of the backfill, then the second of its undoing
                store.cancel(on.registry, on.project, begun.job_id, by=ANN)
            return await super().stored(log_ids=log_ids, trace_ids=trace_ids)

    index = Cancelling(*LOGS)
    theirs = Jobs(index=index, registry=on.registry, tagging=on.tagging, project=on.project)
    begun = start(theirs)
    await work(theirs)
    store.undo(on.registry, on.project, begun.job_id, by=ANN)
    await work(theirs)
    assert found(on, begun).status == "cancelled"
    back = [log_id for log_id, by_tag in (await tags_of(index)).items() if "old:rule" in by_tag]
    assert back == [f"l{n:02}" for n in range(7)]
    store.undo(on.registry, on.project, begun.job_id, by=ANN)
    await work(theirs)
    assert all("old:rule" in by_tag for by_tag in (await tags_of(index)).values())


async def test_only_what_can_be_done_is_done(on: Jobs) -> None:
    begun = start(on)
    with pytest.raises(UnderWay):
        store.undo(on.registry, on.project, begun.job_id, by=ANN)
    await work(on)
    with pytest.raises(Finished):
        store.cancel(on.registry, on.project, begun.job_id, by=ANN)
    store.undo(on.registry, on.project, begun.job_id, by=ANN)
    await work(on)
    with pytest.raises(Finished):
        store.undo(on.registry, on.project, begun.job_id, by=ANN)
    with pytest.raises(NotFound):
        store.undo(on.registry, "other", begun.job_id, by=ANN)
    with on.registry.connect() as connection:
        acts = connection.execute(select(audit.c.action).order_by(audit.c.seq)).scalars().all()
    assert acts == ["rules.put", "job.start", "job.undo"]


async def test_an_index_that_is_away_is_waited_for_and_one_that_refuses_a_log_ends_it(on: Jobs) -> None:
    index: Any = on.index
    begun = start(on)
    index.away = True
    with pytest.raises(IndexUnavailable):
        await work(on)
    assert (found(on, begun).status, found(on, begun).lease_owner) == ("running", None)
    index.away = False

    class Refusing(MemorySearch):
        async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
            return [Written(stored.tagged.log.log_id, Outcome.REJECTED, "mapping", "") for stored in changed]

    theirs = Jobs(index=Refusing(*LOGS), registry=on.registry, tagging=on.tagging, project=on.project)
    assert await work(theirs)
    ended = found(on, begun)
    assert ended.status == "failed"
    assert ended.error
    assert "7 of its logs" in ended.error["message"]


async def test_a_runner_that_is_told_to_stop_leaves_the_rest_to_the_next(on: Jobs) -> None:
    stop = asyncio.Event()

    class Stopping(MemorySearch):
        async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
            stop.set()
            return await super().replace(changed)

    theirs = Jobs(index=Stopping(*LOGS), registry=on.registry, tagging=on.tagging, project=on.project)
    begun = start(theirs)
    await asyncio.wait_for(job_runner.work_until(stop, theirs), 10)
    left = found(on, begun)
    assert (left.status, left.seen, left.lease_owner) == ("running", 7, None)
    await work(theirs)
    assert (found(on, begun).status, found(on, begun).seen) == ("done", 20)


some_tags = st.lists(
    st.builds(Tag, st.sampled_from(["a:a", "b:b", "c:c"]), st.sampled_from(["r@1", "r@2", ANN])),
    unique_by=lambda tag: tag.tag,
).map(tuple)


def with_tags(tags: tuple[Tag, ...]) -> TaggedLog:
    return msgspec.structs.replace(LOGS[0], tags=tags)


@given(some_tags, some_tags, some_tags)
def test_what_was_done_in_one_or_two_steps_is_taken_back_whole(
    first: tuple[Tag, ...], second: tuple[Tag, ...], third: tuple[Tag, ...]
) -> None:
    one, two, three = with_tags(first), with_tags(second), with_tags(third)
    assert set(undone(two, change(one, two)).tags) == set(first)
    both = then(change(one, two), change(two, three))
    assert set(undone(three, both).tags) == set(first)
    assert then(change(one, two), change(two, one)) == TagChange()
    assert then(change(one, two), change(one, two)) == change(one, two), "noted, killed before it was done, noted again"
