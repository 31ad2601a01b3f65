"""Rules that are put in force while a worker runs on a real broker, and applied to what is in a real index."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.live_worker import Run, engines, ready, remove_indices, until
from sqlalchemy import Engine

from tunemill.bus.port import Outgoing
from tunemill.curator_api import job_store as store
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_work import Jobs
from tunemill.indexer.search import SearchIndex
from tunemill.registry import rule_sets
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas import wire
from tunemill.schemas.topics import LOGS
from tunemill.streams.tagging import StreamTagging

pytestmark = pytest.mark.live

SUMS = """\
rules:
  - {name: sums, version: 1, tag: "topic:sum", any: [{in: user, literal: show the sum}]}
"""
WORKER = """
import sys
from tunemill.indexer.open import open_index
from tunemill.registry.open import open_registry
from tunemill.streams.app import run_faust
from tunemill.streams.rulebook import open_rulebook
bus, index, name, port, registry = sys.argv[1:]
rulebook = open_rulebook(open_registry(registry))
run_faust(bus, lambda: open_index(index, project=name), rulebook, health_port=int(port), group=name)
"""


@pytest.fixture
async def run(kafka_url: str, elasticsearch_url: str, tmp_path: Path) -> AsyncIterator[Run]:
    run = Run(kafka_url, elasticsearch_url, tmp_path)
    yield run
    await remove_indices(run)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Engine]:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


@contextmanager
def worker(run: Run, registry: Engine) -> Iterator[subprocess.Popen[bytes]]:
    where = [run.kafka_url, run.elasticsearch_url, run.name, str(run.port), str(registry.url)]
    with run.output.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-c", WORKER, *where], stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def tags(index: SearchIndex, *log_ids: str) -> dict[str, str]:
    """Of these logs that are there: who set `topic:sum`, and nobody."""
    logs = (await index.stored(log_ids=log_ids, trace_ids=[])).logs
    setters = {log_id: {tag.tag: tag.by for tag in found.tagged.tags} for log_id, found in logs.items()}
    return {log_id: by_tag.get("topic:sum", "nobody") for log_id, by_tag in setters.items()}


async def test_rules_reach_a_running_worker_and_history_and_leave_it_again(run: Run, registry: Engine) -> None:
    first, second = [run.log(number) for number in range(3)], [run.log(number) for number in range(3, 6)]
    old, new = [log.log_id for log in first], [log.log_id for log in second]
    async with engines(run) as (bus, index):
        with worker(run, registry) as process:
            await bus.publish(LOGS, [Outgoing(wire.encode(log)) for log in first])

            async def there() -> bool:
                return len(await tags(index, *old)) == 3

            await until(there, process, run)
            assert await ready(run)
            rule_sets.put(registry, "default", by="person:ann", document=SUMS)
            await asyncio.sleep(5)  # a worker looks every two seconds
            await bus.publish(LOGS, [Outgoing(wire.encode(log)) for log in second])

            async def tagged() -> bool:
                return list((await tags(index, *new)).values()) == ["sums@1"] * 3

            await until(tagged, process, run)
            assert process.poll() is None
            assert set((await tags(index, *old)).values()) == {"nobody"}
        on = Jobs(index=index, registry=registry, tagging=StreamTagging(), project="default")
        begun = store.start(registry, "default", kind="rules", query="", revision=1, total=6, by="person:ann")
        await do_next(on, "me", asyncio.Event())
        done = store.find(registry, "default", begun.job_id)
        assert (done.status, done.seen, done.changed) == ("done", 6, 3)
        assert set((await tags(index, *old, *new)).values()) == {"sums@1"}
        store.undo(registry, "default", begun.job_id, by="person:ann")
        await do_next(on, "me", asyncio.Event())
        assert set((await tags(index, *old)).values()) == {"nobody"}
        assert set((await tags(index, *new)).values()) == {"sums@1"}
