"""Logs that are kept no longer, and the index made anew: as jobs that can be stopped and killed, over HTTP, and in health."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import running_api, tagged
from fakes.search_memory import MemorySearch
from sqlalchemy import Engine, func, insert, select

from tunemill.curator_api import edit_store, edits, ledger, retention_job, retention_store
from tunemill.curator_api import job_store as store
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_work import Jobs
from tunemill.indexer.errors import IndexUnavailable
from tunemill.indexer.open import open_index
from tunemill.indexer.search import IndexSize, SearchIndex
from tunemill.registry import tables
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import now_ms
from tunemill.schemas.records import Feedback, TaggedLog
from tunemill.streams.tagging import StreamTagging

DAY_MS = retention_job.DAY_MS
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
        "before": (await index.size())._asdict(),
        "after": (await index.size())._asdict(),
    }
    assert len(index.logs) == 31


def test_how_many_are_too_many() -> None:
    assert retention_job.excess(IndexSize(10, 1000), None) == 0
    assert retention_job.excess(IndexSize(10, 1000), 1000) == 0
    assert retention_job.excess(IndexSize(10, 1000), 899) == 2
    assert retention_job.excess(IndexSize(0, 0), 10) == 0


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
    before = [msgspec.json.encode(one) async for one in index.scan(retention_job.Everything(), limit=None)]
    await edits.apply_pending(on, before_ms=now_ms() + 1)
    assert [msgspec.json.encode(one) async for one in index.scan(retention_job.Everything(), limit=None)] == before
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
