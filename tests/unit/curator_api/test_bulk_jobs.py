"""Tags, consent and erasure of all logs that match: what they do and leave alone, and that no crash and no rival changes it."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import job_and_die
from fakes.job_and_die import opened
from fakes.search_memory import MemorySearch
from sqlalchemy import func, select

from tunemill.curator_api import bulk_edits, edit_store, edits, job_work, learned_store, ledger, retention_store
from tunemill.curator_api import job_store as store
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_store import Job
from tunemill.curator_api.job_work import Jobs
from tunemill.indexer.errors import IndexUnavailable
from tunemill.registry import tables
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog
from tunemill.schemas.stored import StoredLog
from tunemill.streams.tagging import StreamTagging

ANN, BOB = "person:ann", "person:bob"
ADD: dict[str, Any] = {"add": ["team:x"]}


def log(n: int, *, removed: Sequence[str] = (), consent: str | None = None, **by_tag: str) -> TaggedLog:
    asked = "a refund, please" if n % 2 else "a fine day"
    record = LogRecord(log_id=f"l{n:02}", ts_ms=1_000 + n // 4, messages=(Message(role="user", content=asked),))
    tags = tuple(Tag(name.replace("_", ":"), by) for name, by in by_tag.items())
    return TaggedLog(log=record, content_digest="d", tags=tags, removed=tuple(removed), consent=consent)


LOGS = [log(n) for n in range(20)]
IDS = [one.log.log_id for one in LOGS]


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Jobs]:
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(registry)
    yield Jobs(index=MemorySearch(*LOGS), registry=registry, tagging=StreamTagging(), project="default")
    registry.dispose()


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_work, "PAGE", 7)


def start(on: Jobs, kind: str = "tags", query: str = "", by: str = ANN, **work: Any) -> Job:
    return store.start(
        on.registry, on.project, kind=kind, query=query, total=20, by=by, work=work or ADD, why="a reason"
    )


def found(on: Jobs, begun: Job) -> Job:
    return store.find(on.registry, on.project, begun.job_id)


def with_index(on: Jobs, index: MemorySearch) -> Jobs:
    return Jobs(index=index, registry=on.registry, tagging=on.tagging, project=on.project)


async def work(on: Jobs) -> bool:
    return await do_next(on, "me", asyncio.Event())


async def undo(on: Jobs, begun: Job, by: str = ANN) -> None:
    store.undo(on.registry, on.project, begun.job_id, by=by)
    assert await work(on)


async def logs_of(on: Jobs) -> dict[str, TaggedLog]:
    stored = (await on.index.stored(log_ids=IDS, trace_ids=[])).logs
    return {log_id: msgspec.structs.replace(one.tagged, revision=0) for log_id, one in stored.items()}


def edit_rows(on: Jobs) -> int:
    with on.registry.connect() as connection:
        return connection.execute(select(func.count()).select_from(tables.edits)).scalar_one()


async def test_all_that_match_are_tagged_as_a_persons_edits_and_it_is_taken_back(on: Jobs) -> None:
    before = await logs_of(on)
    begun = start(on, query="refund")
    assert await work(on)
    done = found(on, begun)
    assert (done.status, done.seen, done.changed, done.lease_owner) == ("done", 10, 10, None)
    after = await logs_of(on)
    assert {log_id for log_id, one in after.items() if Tag("team:x", ANN) in one.tags} == set(IDS[1::2])
    rows = edit_store.edits_of(on.registry, on.project, IDS)
    assert {(row.by, row.why, row.job_id) for some in rows.values() for row in some} == {
        (ANN, "a reason", begun.job_id)
    }
    await undo(on, begun, by=BOB)
    assert await logs_of(on) == before, "nothing is left of it, not even a tag that rules may not set"
    undone = found(on, begun)
    assert (undone.status, undone.changed) == ("undone", 10)
    assert store.count_edits_undone(on.registry, undone) == 10
    back = [row for some in edit_store.edits_of(on.registry, on.project, IDS).values() for row in some[1:]]
    assert {(row.by, row.why, row.job_id) for row in back} == {(BOB, f"undo of {begun.job_id}", None)}
    assert not await work(on)


@pytest.mark.parametrize(
    ("before", "work_", "changes"),
    [
        (log(0), {"add": ["team:x"]}, True),
        (log(0, team_x="rule@1"), {"add": ["team:x"]}, True),
        (log(0, team_x="caller"), {"add": ["team:x"]}, False),
        (log(0, team_x=BOB), {"add": ["team:x"]}, False),
        (log(0, removed=["team:x"]), {"add": ["team:x"]}, True),
        (log(0), {"remove": ["team:x"]}, True),
        (log(0, team_x="caller"), {"remove": ["team:x"]}, True),
        (log(0, removed=["team:x"]), {"remove": ["team:x"]}, False),
        (log(0, team_x="rule@1", team_z="rule@2"), {"add": ["team:y"], "remove": ["team:x", "team:z"]}, True),
        (log(0), {"consent": "train"}, True),
        (log(0, consent="train"), {"consent": "train"}, False),
        (log(0, consent="none"), {"consent": "train"}, True),
    ],
)
async def test_only_what_changes_a_log_is_an_edit_and_the_log_is_given_back_as_it_was(
    on: Jobs, before: TaggedLog, work_: dict[str, Any], *, changes: bool
) -> None:
    said: list[Act] = [Act("untag", name) for name in before.removed]
    said += [Act("tag", tag.tag) for tag in before.tags if tag.by == BOB]
    said += [Act("consent", value=before.consent)] if before.consent else []
    if said:
        edit_store.record(on.registry, on.project, {"l00": said}, by=BOB)
    theirs = with_index(on, MemorySearch(msgspec.structs.replace(before, revision=len(said))))
    begun = start(theirs, "consent" if "consent" in work_ else "tags", **work_)
    await work(theirs)
    after = (await logs_of(theirs))["l00"]
    assert found(on, begun).changed == changes
    assert (after != before) is changes
    assert not (set(work_.get("add", ())) - {tag.tag for tag in after.tags})
    assert not (set(work_.get("remove", ())) & {tag.tag for tag in after.tags})
    assert set(work_.get("remove", ())) <= set(after.removed)
    await undo(theirs, begun)
    back = (await logs_of(theirs))["l00"]
    assert (set(back.tags), back.removed, back.consent) == (set(before.tags), before.removed, before.consent)


async def test_what_somebody_said_since_is_not_taken_back(on: Jobs) -> None:
    begun = start(on, add=["team:x", "team:y"])
    await work(on)
    await edits.change(on, "l00", [Act("untag", "team:x")], by=BOB)
    await edits.change(on, "l01", [Act("tag", "team:x")], by=BOB)
    ledger.erase(on.registry, on.project, "l02", by=BOB)
    await on.index.delete(["l03"])
    await undo(on, begun)
    tags = {log_id: {tag.tag for tag in one.tags} for log_id, one in (await logs_of(on)).items()}
    assert (tags["l00"], tags["l01"], tags["l04"]) == (set(), {"team:x"}, set())
    assert found(on, begun).status == "undone"


async def test_a_log_whose_last_edit_the_retention_forgot_is_given_back_all_the_same(on: Jobs) -> None:
    begun = start(on)
    assert await work(on)
    texts = Act("messages", value={"messages": [{"role": "user", "content": "x"}]})
    await edits.change(on, "l07", [texts], by=BOB)
    retention_store.forget_texts(on.registry, on.project, ["l07"])  # and was killed before it dropped the log
    async with asyncio.timeout(10):
        await undo(on, begun)
    assert found(on, begun).status == "undone"
    assert {one.tags for one in (await logs_of(on)).values()} == {()}


async def test_an_edit_that_comes_between_is_seen_and_not_lost(on: Jobs) -> None:
    class Busy(MemorySearch):
        """Somebody says something of each log just before it is replaced for the first time."""

        touched: frozenset[str] = frozenset()

        async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Any:
            stored = await super().stored(log_ids=log_ids, trace_ids=trace_ids)
            if fresh := set(log_ids) - self.touched:
                self.touched |= fresh
                acts = {log_id: [Act("untag", "team:x"), Act("tag", "team:z")] for log_id in fresh}
                edit_store.record(on.registry, on.project, acts, by=BOB)
            return stored

    theirs = with_index(on, Busy(*LOGS))
    begun = start(theirs)
    await work(theirs)
    assert (found(on, begun).changed, edit_rows(on)) == (20, 60)
    after = await logs_of(theirs)
    assert {one.tags for one in after.values()} == {(Tag("team:z", BOB), Tag("team:x", ANN))}
    await undo(theirs, begun)
    after = await logs_of(theirs)
    assert {(one.tags, one.removed) for one in after.values()} == {((Tag("team:z", BOB),), ("team:x",))}


async def test_two_that_are_at_the_same_page_record_each_edit_once(on: Jobs) -> None:
    class Rivalled(MemorySearch):
        """Somebody else, whose lease ended, records the same of each log just before we do."""

        touched: frozenset[str] = frozenset()

        async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Any:
            stored = await super().stored(log_ids=log_ids, trace_ids=trace_ids)
            if fresh := set(log_ids) - self.touched:
                self.touched |= fresh
                acts = {log_id: [Act("tag", "team:x")] for log_id in fresh}
                edit_store.record(on.registry, on.project, acts, by=ANN, job_id=begun.job_id)
            return stored

    theirs = with_index(on, Rivalled(*LOGS))
    begun = start(theirs)
    await work(theirs)
    assert (found(on, begun).status, edit_rows(on)) == ("done", 20)
    assert {one.tags for one in (await logs_of(theirs)).values()} == {(Tag("team:x", ANN),)}


async def test_what_somebody_took_off_before_a_killed_job_went_on_stays_off(on: Jobs) -> None:
    begun = start(on)
    await edits.change_many(on, {"l00": [Act("tag", "team:x")]}, by=ANN, job_id=begun.job_id)  # and killed
    await edits.change(on, "l00", [Act("untag", "team:x")], by=BOB)
    await work(on)
    logs = await logs_of(on)
    assert (logs["l00"].tags, logs["l01"].tags) == ((), (Tag("team:x", ANN),))
    assert found(on, begun).changed == 20


async def test_a_job_that_is_taken_back_teaches_nothing(on: Jobs) -> None:
    begun = start(on)
    await work(on)
    assert learned_store.labels_of(on.registry, on.project, "team:x") == dict.fromkeys(IDS, True)
    await undo(on, begun)
    assert learned_store.labels_of(on.registry, on.project, "team:x") == {}


async def test_all_that_match_are_erased(on: Jobs) -> None:
    await edits.change(on, "l01", [Act("tag", "team:x")], by=BOB)
    begun = start(on, "delete", "refund")
    assert await work(on)
    done = found(on, begun)
    assert (done.status, done.seen, done.changed) == ("done", 10, 10)
    assert sorted(await logs_of(on)) == IDS[::2]
    assert ledger.erased_among(on.registry, on.project, IDS) == set(IDS[1::2])
    with on.registry.connect() as connection:
        events = connection.execute(select(func.count()).select_from(tables.outbox)).scalar_one()
        kept = connection.execute(select(tables.edits.c.kind).where(tables.edits.c.log_id == "l01")).scalars().all()
    assert (events, kept) == (10, ["erase", "erase"])


async def test_logs_that_are_erased_while_they_are_tagged_stay_erased(on: Jobs) -> None:
    for log_id in IDS[:5]:  # and linger in the index
        ledger.erase(on.registry, on.project, log_id, by=BOB)
    begun = start(on)
    await work(on)
    assert (found(on, begun).status, found(on, begun).changed) == ("done", 15)
    assert all(not one.tags for log_id, one in (await logs_of(on)).items() if log_id in IDS[:5])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", ["tags", "untags", "delete"])
async def test_killed_at_any_step_it_ends_the_same(tmp_path: Path, way: str, when: str) -> None:
    (tmp_path / "begun").mkdir()
    async with opened(tmp_path / "begun") as on:
        await on.index.write(LOGS)
        begun = start(on, "delete") if way == "delete" else start(on)
        if way == "untags":
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
            ended, logs = found(on, begun), await logs_of(on)
            if way == "delete":
                assert (ended.status, ended.seen, ended.changed, logs) == ("done", 20, 20, {}), call
                assert edit_rows(on) == 20, call
            elif way == "untags":
                assert (ended.status, ended.changed, logs) == ("undone", 20, dict(zip(IDS, LOGS, strict=True))), call
                assert edit_rows(on) == 40, call
            else:
                assert (ended.status, ended.seen, ended.changed) == ("done", 20, 20), call
                assert {one.tags for one in logs.values()} == {(Tag("team:x", ANN),)}, call
                assert edit_rows(on) == 20, call
                assert edit_store.pending(on.registry, on.project, before_ms=2**60, limit=99) is None, call


async def test_who_lost_the_lease_records_and_erases_nothing(on: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(MemorySearch):
        """While the second page is read, somebody cancels."""

        async def scan(self, query: Any, *, limit: int | None) -> AsyncIterator[TaggedLog]:
            count = 0
            async for tagged in super().scan(query, limit=limit):
                count += 1
                if count == 8:
                    store.cancel(on.registry, on.project, begun.job_id, by=BOB)
                yield tagged

    for kind in ("tags", "delete"):
        index = Slow(*LOGS)
        theirs = with_index(on, index)
        begun = start(theirs, kind)
        await work(theirs)
        assert (found(on, begun).status, found(on, begun).changed, found(on, begun).seen) == ("cancelled", 7, 7)
        tagged = [log_id for log_id, one in (await logs_of(theirs)).items() if one.tags]
        assert len(tagged if kind == "tags" else await logs_of(theirs)) == (7 if kind == "tags" else 13)


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

    assert await work(with_index(on, Refusing(*LOGS)))
    ended = found(on, begun)
    assert ended.status == "failed"
    assert ended.error
    assert "does not take" in ended.error["message"]


def test_what_is_wanted_may_be_there_already() -> None:
    wanted = bulk_edits.Wanted(add=("team:x",), remove=("team:y",))
    assert bulk_edits.acts_on(log(0, removed=["team:y"], team_x="caller"), wanted) == []
