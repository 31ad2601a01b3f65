"""A real index that is made anew by the API while logs come and people edit them, also where the process ends half-way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from engines.own_index import opened
from fakes.curator_api import Running, running_api, tagged

from tunemill.curator_api import job_store as store
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.edits import change
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_work import Jobs
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import Change, Progress, Rebuilt, SearchIndex
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.records import TaggedLog
from tunemill.streams.tagging import StreamTagging

pytestmark = pytest.mark.live

LOGS = 3_000  # several pages
BATCH = 50


def log(number: int) -> TaggedLog:
    return tagged(f"l{number:06}", f"question {number}", tags=(), ts_ms=number)


@pytest.fixture
async def index(elasticsearch_url: str) -> AsyncIterator[SearchIndex]:
    """As a worker has it: of another process than the API's."""
    async with opened(elasticsearch_url) as found:
        await found.write([log(number) for number in range(LOGS)])
        await found.refresh()
        yield found


@pytest.fixture
def another(index: SearchIndex, elasticsearch_url: str) -> SearchIndex:
    """The same index, as the API has it."""
    assert isinstance(index, ElasticIndex)
    return open_index(elasticsearch_url, project=index.alias.removeprefix("logs-"))


class Stopping:
    """An index whose rebuild is told to stop when its first page is copied."""

    def __init__(self, index: SearchIndex, stop: Callable[[], Awaitable[None]]) -> None:
        self._index, self._stop = index, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    async def rebuild(self, change: Change, *, progress: Progress) -> Rebuilt:
        async def stopped(logs: int) -> None:
            await self._stop()
            await progress(logs)

        return await self._index.rebuild(change, progress=stopped)


async def write_until(over: asyncio.Event, index: SearchIndex) -> int:
    """Write logs, half of them again, and say how many there are at the end."""
    for start in count(LOGS, BATCH):
        if over.is_set():
            return start
        await index.write([log(number) for number in range(start - BATCH, start + BATCH)])
    raise AssertionError


async def edit_until(over: asyncio.Event, api: Running) -> dict[str, list[str]]:
    """Tag old logs, one after another and some of them again; which tags each has at the end."""
    said: dict[str, list[str]] = {}
    for number in count():
        if over.is_set():
            return said
        log_id = f"l{number * 7 % LOGS:06}"
        answer = await api.client.post(f"/v1/logs/{log_id}/tags", json={"add": [f"n:{number}"]})
        assert answer.status_code == 200, answer.text
        said.setdefault(log_id, []).append(f"n:{number}")
    raise AssertionError


async def ended(api: Running, job_id: str) -> Any:
    async with asyncio.timeout(120):
        while True:
            job = (await api.client.get(f"/v1/jobs/{job_id}")).json()
            if job["status"] != "running":
                return job
            await asyncio.sleep(0.1)


async def done_meanwhile(api: Running, index: SearchIndex, job_id: str) -> dict[str, list[str]]:
    """Write and edit until the job is done, and see that each log is there once; which tags people gave."""
    over = asyncio.Event()
    writing, editing = asyncio.create_task(write_until(over, index)), asyncio.create_task(edit_until(over, api))
    job = await ended(api, job_id)
    over.set()
    last, said = await writing, await editing
    assert (job["status"], job["error"]) == ("done", None)
    assert LOGS <= job["result"]["logs"] <= last and job["seen"] >= LOGS
    await index.refresh()
    ids = [one.log.log_id async for one in index.scan(parse(""), limit=None)]
    assert len(ids) == len(set(ids)) == last
    return said


async def tags_of(index: SearchIndex, log_ids: list[str]) -> dict[str, list[str]]:
    logs = (await index.stored(log_ids=log_ids, trace_ids=[])).logs
    assert all(len(one.tagged.tags) == one.tagged.revision for one in logs.values())
    return {log_id: [tag.tag for tag in one.tagged.tags] for log_id, one in logs.items()}


async def test_every_log_and_every_edit_is_there_once(index: SearchIndex, another: SearchIndex, tmp_path: Path) -> None:
    async with running_api(tmp_path, index=another) as api:
        begun = await api.client.post("/v1/jobs", json={"kind": "reindex"})
        assert begun.status_code == 202, begun.text
        said = await done_meanwhile(api, index, begun.json()["job_id"])
        assert said and await tags_of(index, list(said)) == said


async def test_what_one_process_left_half_way_another_does(
    index: SearchIndex, another: SearchIndex, tmp_path: Path
) -> None:
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(registry)
    begun = store.start(registry, "default", kind="reindex", query="", total=LOGS, by="person:ann")
    stop = asyncio.Event()

    async def told() -> None:
        await index.write([log(LOGS)])
        await change(on, "l000001", [Act("tag", "team:x")], by="person:ann")
        stop.set()

    on = Jobs(index=index, registry=registry, tagging=StreamTagging(), project="default")
    first = Jobs(
        index=Stopping(index, told),  # type: ignore[arg-type]
        registry=registry,
        tagging=on.tagging,
        project="default",
    )
    assert await do_next(first, "first", stop)
    left = store.find(registry, "default", begun.job_id)
    assert (left.status, left.lease_owner) == ("running", None) and 0 < left.seen < LOGS
    registry.dispose()
    async with running_api(tmp_path, index=another) as api:
        said = await done_meanwhile(api, index, begun.job_id)
        wanted = {**said, "l000001": ["team:x", *said.get("l000001", [])]}
        assert await tags_of(index, list(wanted)) == wanted
