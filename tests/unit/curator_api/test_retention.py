"""Logs that are kept no longer, and the index made anew: as jobs that can be stopped and killed, over HTTP, and in health."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import running_api, tagged
from fakes.search_memory import MemorySearch
from sqlalchemy import Engine, func, insert, select

from tunemill.curator_api import edit_store, edits, ledger, retention_job, retention_limits, retention_store
from tunemill.curator_api import job_store as store
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_work import Jobs
from tunemill.curator_api.retention_store import Policy
from tunemill.indexer.ast import Everything, Query
from tunemill.indexer.errors import IndexUnavailable
from tunemill.indexer.open import open_index
from tunemill.indexer.search import Forget, IndexSize, SearchIndex, Shelf
from tunemill.registry import tables
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import now_ms
from tunemill.schemas.outcome import Written
from tunemill.schemas.records import Feedback, TaggedLog
from tunemill.streams.tagging import StreamTagging

DAY_MS = retention_limits.DAY_MS
KEPT = ("erasures", "imported_rows", "versions", "row_edits", "datasets", "outbox")


def logs(count: int = 30) -> list[TaggedLog]:
    """One a day, the newest of today."""
    now = now_ms()
    return [tagged(f"l{day:02}", ts_ms=now - day * DAY_MS) for day in range(count)]


@pytest.fixture
def registry(tmp_path: Path) -> AsyncIterator[Engine]:
    made = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_job, "PAGE", 7)


def jobs(registry: Engine, index: SearchIndex) -> Jobs:
    return Jobs(index=index, registry=registry, tagging=StreamTagging(), project="default")


def keep(on: Jobs, *, days: int | None = None, size: int | None = None) -> None:
    retention_store.set_policy(on.registry, on.project, max_age_days=days, max_bytes=size, by="person:ann")


async def run(on: Jobs) -> store.Job:
    job = await retention_job.start(on, by="person:ann")
    async with asyncio.timeout(20):
        while job.status in store.ACTIVE:
            await do_next(on, "me", asyncio.Event())  # where an API runs, that one may be faster
            job = store.find(on.registry, on.project, job.job_id)
    return job


async def ids(index: SearchIndex) -> list[str]:
    stored = (await index.stored(log_ids=[f"l{day:02}" for day in range(40)], trace_ids=[])).logs
    return sorted(stored)


def counts(registry: Engine) -> dict[str, int]:
    with registry.connect() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one()
            for name in KEPT
        }


@pytest.mark.parametrize("engine", ["memory", "embedded"])
async def test_older_logs_go_with_what_was_said_of_them_and_nothing_else(
    engine: str, registry: Engine, tmp_path: Path
) -> None:
    index: SearchIndex = MemorySearch() if engine == "memory" else open_index(f"local:{tmp_path}", project="default")
    await index.write(logs())
    await index.add_feedback(
        [Feedback(feedback_id=f"f{day}", ts_ms=1, log_id=f"l{day:02}", name="ok", score=1.0) for day in (3, 20)]
    )
    on = jobs(registry, index)
    await asyncio.to_thread(ledger.erase, registry, "default", "l25", by="person:ann")
    row: dict[str, Any] = {"project": "default", "name": "d", "row_key": "r", "seq": 1, "messages": []}
    with registry.begin() as connection:
        connection.execute(insert(tables.imported_rows).values(row))
    texts = Act("messages", value={"messages": [{"role": "user", "content": "x"}]})
    for log_id in ("l03", "l20"):
        await edits.change(on, log_id, [Act("tag", "a:b"), texts], by="person:ann")
    before = counts(registry)
    keep(on, days=10)
    done = await run(on)
    assert (done.status, done.total, done.seen, done.changed) == ("done", 20, 20, 20)
    assert done.result
    assert [done.result[name]["logs"] for name in ("before", "after")] == [30, 10]
    assert done.result["indices"] == 0
    assert await ids(index) == [f"l{day:02}" for day in range(10)]
    assert [len(await index.feedback_of(tagged(name).log)) for name in ("l03", "l20")] == [1, 0]
    assert counts(registry) == before
    left = edit_store.edits_of(registry, "default", ["l03", "l20"])
    assert {name: [(row.kind, row.value is None) for row in rows] for name, rows in left.items()} == {
        "l03": [("tag", True), ("messages", False)],
        "l20": [("tag", True), ("messages", True)],
    }
    await index.close()


async def test_the_oldest_go_until_the_index_fits(registry: Engine) -> None:
    index = MemorySearch(*logs())
    on = jobs(registry, index)
    size = await index.size()
    keep(on, size=size.bytes // 2)
    done = await run(on)
    assert done.status == "done"
    assert await ids(index) == [f"l{day:02}" for day in range(15)]
    assert (await index.size()).bytes <= size.bytes // 2
    assert (await run(on)).seen == 0


async def test_a_run_without_a_policy_drops_nothing(registry: Engine) -> None:
    index = MemorySearch(*logs(), tagged("l39", ts_ms=0))
    assert (await run(jobs(registry, index))).result == {
        "project": "default",
        "before": (await index.size())._asdict(),
        "after": (await index.size())._asdict(),
        "indices": 0,
    }
    assert len(index.logs) == 31


def test_how_many_are_too_many() -> None:
    assert retention_limits.excess(IndexSize(10, 1000), None) == 0
    assert retention_limits.excess(IndexSize(10, 1000), 1000) == 0
    assert retention_limits.excess(IndexSize(10, 1000), 899) == 2
    assert retention_limits.excess(IndexSize(0, 0), 10) == 0


async def test_one_that_is_interrupted_goes_on(registry: Engine) -> None:
    class Faulty(MemorySearch):
        failing = 2

        async def delete(self, log_ids: Sequence[str]) -> None:
            self.failing -= 1
            if self.failing == 0:
                raise IndexUnavailable("away")
            await super().delete(log_ids)

    index = Faulty(*logs())
    on = jobs(registry, index)
    keep(on, days=10)
    begun = await retention_job.start(on, by="person:ann")
    with pytest.raises(IndexUnavailable):
        await do_next(on, "me", asyncio.Event())
    assert len(index.logs) == 23
    assert await do_next(on, "other", asyncio.Event())
    done = store.find(registry, "default", begun.job_id)
    assert (done.status, done.seen, len(index.logs)) == ("done", 20, 10)


async def test_a_run_ends_where_another_policy_is_set_meanwhile(registry: Engine) -> None:
    class Regretted(MemorySearch):
        async def delete(self, log_ids: Sequence[str]) -> None:
            await super().delete(log_ids)
            keep(on)

    index = Regretted(*logs())
    on = jobs(registry, index)
    keep(on, days=10)
    left = await run(on)
    assert (left.status, left.seen, len(index.logs)) == ("cancelled", 7, 23)
    assert retention_job.failure(registry, on.project) is None


async def test_it_runs_by_itself_once_an_hour(registry: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_job, "LOOK_EVERY_S", 0.001)
    on = jobs(registry, MemorySearch(*logs()))

    async def look() -> int:
        stop = asyncio.Event()
        looking = asyncio.create_task(retention_job.start_until(stop, on))
        await asyncio.sleep(0.1)
        stop.set()
        await looking
        return len(store.find_all(registry, "default", limit=9, kind="retention"))

    assert await look() == 0  # no policy
    keep(on, days=10)
    assert await look() == 1
    assert await do_next(on, "me", asyncio.Event())
    assert await look() == 1
    monkeypatch.setattr(retention_job, "EVERY_MS", 0)
    assert await look() == 2


async def test_a_failed_run_is_said_in_health_and_traffic_goes_on(tmp_path: Path) -> None:
    class Broken(MemorySearch):
        broken = True

        async def delete(self, log_ids: Sequence[str]) -> None:
            if self.broken:
                raise ValueError("a value of a log")
            await super().delete(log_ids)

    index = Broken(*logs())
    async with running_api(tmp_path, index=index) as api:
        on = jobs(api.registry, index)
        assert "warnings" not in (await api.client.get("/health/ready")).json()
        keep(on, days=10)
        assert (await run(on)).status == "failed"
        answer = await api.client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json()["warnings"] == {"retention": "failed: unforeseen ValueError"}
        keep(on)  # for ever: no run is to come that could end well
        assert "warnings" not in (await api.client.get("/health/ready")).json()
        keep(on, days=10)
        index.broken = False
        assert (await run(on)).status == "done"
        index.outdated = True
        assert "tunemill reindex" in (await api.client.get("/health/ready")).json()["warnings"].pop("index")


async def test_it_is_set_and_asked_for_over_http(tmp_path: Path) -> None:
    async with running_api(tmp_path, *logs()) as api:
        nothing = (await api.client.get("/v1/retention")).json()
        assert (nothing["max_age_days"], nothing["max_bytes"], nothing["logs"], nothing["due"]) == (None, None, 30, 0)
        tried = await api.client.put("/v1/retention", json={"max_age_days": 10, "dry_run": True})
        assert (tried.json()["due"], tried.json()["by"]) == (20, None)
        assert (await api.client.get("/v1/retention")).json() == nothing
        assert (await api.client.put("/v1/retention", json={"max_age_days": 0})).status_code == 422
        put = (await api.client.put("/v1/retention", json={"max_age_days": 10})).json()
        assert (put["due"], put["max_age_days"]) == (20, 10)
        begun = await api.client.post("/v1/jobs", json={"kind": "retention"})
        assert (begun.status_code, begun.json()["total"], begun.json()["can_be_undone"]) == (202, 20, False)
        for wrong in ({"kind": "retention", "dry_run": True}, {"kind": "reindex", "query": "a"}):
            assert (await api.client.post("/v1/jobs", json=wrong)).status_code == 422
        assert (await api.client.post("/v1/jobs", json={"kind": "reindex"})).json()["total"] == 30


async def test_a_rebuild_has_what_people_did_and_leaves_out_what_was_erased(registry: Engine, tmp_path: Path) -> None:
    index = open_index(f"local:{tmp_path}", project="default")
    await index.write(logs())
    on = jobs(registry, index)
    acts = {"l01": [Act("tag", "team:x")], "l02": [Act("consent", value="none")]}
    await asyncio.to_thread(
        edit_store.record, registry, "default", acts, by="person:ann"
    )  # killed before the index had it
    await asyncio.to_thread(ledger.erase, registry, "default", "l03", by="person:ann")
    store.start(registry, "default", kind="reindex", query="", total=30, by="person:ann")
    assert await do_next(on, "me", asyncio.Event())
    (done,) = store.find_all(registry, "default", limit=9)
    assert (done.status, done.seen, done.changed) == ("done", 30, 2)
    assert done.result == {"logs": 29, "changed": 2, "left_out": 1}
    found = (await index.stored(log_ids=["l01", "l02", "l03"], trace_ids=[])).logs
    assert set(found) == {"l01", "l02"}
    assert [tag.tag for tag in found["l01"].tagged.tags] == ["topic:math", "team:x"]
    assert found["l02"].tagged.consent == "none"
    before = [msgspec.json.encode(one) async for one in index.scan(Everything(), limit=None)]
    await edits.apply_pending(on, before_ms=now_ms() + 1)
    assert [msgspec.json.encode(one) async for one in index.scan(Everything(), limit=None)] == before
    await index.close()


async def test_a_rebuild_that_was_stopped_counts_from_nothing(registry: Engine) -> None:
    on = jobs(registry, MemorySearch(*logs()))
    begun = store.start(registry, "default", kind="reindex", query="", total=30, by="person:ann")
    stop = asyncio.Event()
    stop.set()
    assert await do_next(on, "me", stop)
    stopped = store.find(registry, "default", begun.job_id)
    assert (stopped.status, stopped.seen, stopped.lease_owner) == ("running", 30, None)
    assert await do_next(on, "me", asyncio.Event())
    done = store.find(registry, "default", begun.job_id)
    assert (done.status, done.seen) == ("done", 30)


@dataclass
class _Filled:
    begun_ms: int
    log_ids: list[str] = field(default_factory=list)


class Shelved(MemorySearch):
    """It spreads its logs over shelves, as Elasticsearch does; `steps` says what was done to them."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = {"s1": _Filled(0)}
        self.steps: list[str] = []

    async def fill(self, *days: int, begun: int) -> None:
        """Logs of so many days ago in one more shelf, which was begun so many days ago."""
        now = now_ms()
        self.spread[list(self.spread)[-1]].begun_ms = now - begun * DAY_MS
        await self.write([tagged(f"l{day:02}", ts_ms=now - day * DAY_MS) for day in days])
        self.spread[f"s{len(self.spread) + 1}"] = _Filled(now - retention_limits.ON_THEIR_WAY_MS)

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        written = await super().write(logs)
        self.spread[list(self.spread)[-1]].log_ids += [log.log.log_id for log in logs]
        return written

    async def delete(self, log_ids: Sequence[str]) -> None:
        self.steps.append(f"delete {' '.join(log_ids)}")
        await super().delete(log_ids)

    async def shelves(self) -> Sequence[Shelf]:
        found = [self._shelf(name) for name in self.spread]
        return [*sorted(found[:-1], key=lambda shelf: shelf.newest_ms or 0), found[-1]]

    def _shelf(self, name: str) -> Shelf:
        logs = [self.logs[log_id] for log_id in self.spread[name].log_ids if log_id in self.logs]
        newest_ms = max((log.log.ts_ms for log in logs), default=None)
        size = sum(len(msgspec.json.encode(log)) for log in logs)
        is_filled = name != list(self.spread)[-1]
        return Shelf(name, len(logs), size, newest_ms, self.spread[name].begun_ms, is_filled)

    async def roll_over(self) -> bool:
        self.steps.append("roll over")
        self.spread[f"s{len(self.spread) + 1}"] = _Filled(now_ms())
        return True

    async def drop_shelf(self, name: str, *, before: Forget) -> int:
        log_ids = [log_id for log_id in self.spread[name].log_ids if log_id in self.logs]
        await before(log_ids)
        await super().delete(log_ids)
        del self.spread[name]
        self.steps.append(f"drop {name}")
        return len(log_ids)


async def shelved() -> Shelved:
    """Six shelves, five of them filled: 10, 5, 5 and 5 logs of a day each, and one log that came late."""
    index = Shelved()
    await index.fill(*range(26, 36), begun=40)
    await index.fill(*range(21, 26), begun=26)
    await index.fill(*range(16, 21), begun=21)
    await index.fill(20, *range(12, 16), begun=16)
    await index.fill(37, 10, 11, begun=12)
    await index.write([tagged("new", ts_ms=now_ms()), tagged("l39", ts_ms=now_ms() - 39 * DAY_MS)])
    return index


async def test_old_shelves_go_whole_and_only_what_came_late_goes_by_itself(registry: Engine) -> None:
    index = await shelved()
    on = jobs(registry, index)
    texts = Act("messages", value={"messages": [{"role": "user", "content": "x"}]})
    for log_id in ("l30", "l12"):
        await edits.change(on, log_id, [texts], by="person:ann")
    keep(on, days=20)
    before = counts(registry)
    done = await run(on)
    assert index.steps == ["drop s1", "drop s2", "delete l39 l37"]
    assert (done.status, done.seen, done.changed) == ("done", 17, 17)
    assert done.result
    assert (done.result["indices"], done.result["before"]["logs"], done.result["after"]["logs"]) == (2, 29, 12)
    assert counts(registry) == before
    left = edit_store.edits_of(registry, "default", ["l30", "l12"])
    assert {name: rows[0].value is None for name, rows in left.items()} == {"l30": True, "l12": False}


async def test_the_shelves_with_the_oldest_logs_go_until_the_rest_fits(registry: Engine) -> None:
    index = await shelved()
    on = jobs(registry, index)
    fits = (await index.size()).bytes - (await index.shelves())[0].bytes
    keep(on, size=fits)
    done = await run(on)
    assert index.steps == ["drop s1"]
    assert done.result and (done.result["indices"], done.result["after"]["bytes"]) == (1, fits)


async def test_a_shelf_from_before_the_policy_loses_its_oldest_logs_alone(registry: Engine) -> None:
    index = Shelved()
    await index.fill(*range(1, 31), begun=40)
    await index.write([tagged("new", ts_ms=now_ms())])
    on = jobs(registry, index)
    keep(on, size=(await index.size()).bytes * 9 // 10)
    await run(on)
    assert index.steps == ["delete l30 l29 l28 l27"]


async def test_another_shelf_is_begun_when_one_is_full_and_none_goes_that_logs_may_still_come_into(
    registry: Engine,
) -> None:
    index = Shelved()
    on = jobs(registry, index)
    keep(on, days=16)
    index.spread["s1"].begun_ms = now_ms() - 2 * DAY_MS
    await run(on)
    assert index.steps == []  # nobody writes to it
    await index.write([tagged("l18", ts_ms=now_ms() - 18 * DAY_MS)])
    for _ in range(2):
        await run(on)
        assert index.steps == ["roll over"]
    index.spread["s2"].begun_ms -= retention_limits.ON_THEIR_WAY_MS
    await run(on)
    assert index.steps == ["roll over", "drop s1"]
    keep(on, days=7)  # shelves of less than a day would be many
    index.spread["s2"].begun_ms -= 9 * DAY_MS
    await index.write([tagged("l08", ts_ms=now_ms() - 8 * DAY_MS)])
    await run(on)
    assert index.steps[2:] == ["delete l08"]
    await index.write([tagged("new", ts_ms=now_ms())])
    keep(on, size=8 * (await index.size()).bytes)
    await run(on)
    assert index.steps[3:] == ["roll over"]


async def test_a_run_ends_between_two_shelves_where_another_policy_is_set_and_counts_on_after_a_crash(
    registry: Engine,
) -> None:
    index = await shelved()
    on = jobs(registry, index)
    keep(on, days=20)
    begun = await retention_job.start(on, by="person:ann")
    whole = index.drop_shelf

    async def die(name: str, *, before: Forget) -> int:
        if name == "s2":
            raise IndexUnavailable("away")
        return await whole(name, before=before)

    index.drop_shelf = die  # type: ignore[method-assign]
    with pytest.raises(IndexUnavailable):
        await do_next(on, "me", asyncio.Event())
    index.drop_shelf = whole  # type: ignore[method-assign]
    assert await do_next(on, "other", asyncio.Event())
    done = store.find(registry, "default", begun.job_id)
    assert done.result and (done.status, done.seen, done.result["indices"]) == ("done", 17, 2)

    index, steps = await shelved(), []

    async def regret(name: str, *, before: Forget) -> int:
        steps.append(name)
        keep(on)
        return await whole(name, before=before)

    on = jobs(registry, index)
    keep(on, days=20)
    whole = index.drop_shelf
    index.drop_shelf = regret  # type: ignore[method-assign]
    assert (await run(on)).status == "cancelled"
    assert steps == ["s1"]


async def test_a_cancelled_run_drops_nothing_more(registry: Engine) -> None:
    index, pages = await shelved(), MemorySearch(*logs())
    whole, scan = index.drop_shelf, pages.scan

    def cancel() -> None:
        (job, *_) = store.find_all(registry, "default", limit=1)
        store.cancel(registry, "default", job.job_id, by="person:ann")

    async def drop_late(name: str, *, before: Forget) -> int:
        cancel()
        return await whole(name, before=before)

    async def scan_late(query: Query, *, limit: int | None) -> AsyncIterator[TaggedLog]:
        cancel()
        async for log in scan(query, limit=limit):
            yield log

    index.drop_shelf, pages.scan = drop_late, scan_late  # type: ignore[method-assign]
    for one in (index, pages):
        before = len(one.logs)
        on = jobs(registry, one)
        keep(on, days=20)
        left = await run(on)
        assert (left.status, left.seen, len(one.logs)) == ("cancelled", 0, before)


@pytest.mark.parametrize(
    ("days", "width"), [(None, 0), (1, 0), (7, 0), (8, 1), (9, 2), (16, 2), (17, 3), (90, 12), (365, 46)]
)
def test_a_shelf_is_filled_for_an_eighth_of_the_age(days: int | None, width: int) -> None:
    assert retention_limits.width_ms(Policy(max_age_days=days)) == width * DAY_MS


def test_no_shelf_goes_while_all_fit() -> None:
    filled = Shelf("s1", 1, 10, newest_ms=1, begun_ms=0, is_filled=True)
    shelves = [filled, Shelf("s2", 9, 90, newest_ms=2, begun_ms=0, is_filled=False)]
    for size, goes in ((None, None), (100, None), (99, filled)):
        assert retention_limits.next_to_drop(shelves, Policy(max_bytes=size), DAY_MS) == goes
    assert retention_limits.next_to_drop([shelves[1]], Policy(max_bytes=1), DAY_MS) is None
