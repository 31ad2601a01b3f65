"""The Faust worker on a real broker and a real index: killed in the middle, it loses nothing and doubles nothing."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fakes.curator_api import running_api
from fakes.live_worker import (
    Run,
    account,
    counted,
    dead_letters,
    engines,
    erasure,
    free_port,
    indexed_ids,
    ready,
    remove_indices,
    until,
)

from tunemill.bus.open import open_bus
from tunemill.bus.port import Outgoing
from tunemill.indexer.query import parse
from tunemill.schemas import wire
from tunemill.schemas.records import LogBatch
from tunemill.schemas.topics import ERASURES, LOGS
from tunemill.streams.unpack import records_in

pytestmark = pytest.mark.live

KILLS = 3
MESSAGES = 1800  # over all waves: several parts in each


@pytest.fixture
async def run(kafka_url: str, elasticsearch_url: str, tmp_path: Path) -> AsyncIterator[Run]:
    run = Run(kafka_url, elasticsearch_url, tmp_path)
    yield run
    await remove_indices(run)


async def test_a_worker_killed_in_the_middle_loses_nothing_and_doubles_nothing(
    run: Run, record_property: Callable[[str, object], None]
):
    outgoing, good, bad = run.messages(MESSAGES)
    wave = len(outgoing) // KILLS
    cut_off = 0  # kills that left published logs undone
    async with engines(run) as (bus, index):
        for kill in range(KILLS):
            await bus.publish(LOGS, outgoing[kill * wave : (kill + 1) * wave])
            before = len(await indexed_ids(index, run))
            with run.worker() as process:

                async def moved(before: int = before) -> bool:
                    return len(await indexed_ids(index, run)) > before

                await until(moved, process, run)  # killed as soon as anything of this wave is in the index
                os.kill(process.pid, signal.SIGKILL)
            assert process.returncode == -signal.SIGKILL
            cut_off += len(await indexed_ids(index, run)) < len(good) * (kill + 1) // KILLS
        assert cut_off > 0, "no kill came in the middle of the work: this run has shown nothing"
        with run.worker() as process:

            async def complete() -> bool:
                return len(await indexed_ids(index, run)) >= len(good) and len(await dead_letters(bus, run)) >= bad

            await until(complete, process, run)
            record_property("duplicates delivered", await account(run))
        ids = await indexed_ids(index, run)
        assert good - set(ids) == set()
        assert len(ids) == len(good)
        assert len(await dead_letters(bus, run)) == bad


async def test_sigterm_drains_and_what_was_erased_stays_away(run: Run):
    async with engines(run) as (bus, index):
        kept, erased, late = run.log(1), run.log(2), run.log(3)
        await bus.publish(ERASURES, [erasure(erased.log_id)])
        await bus.publish(LOGS, [Outgoing(wire.encode(log)) for log in (erased, late, kept)])
        with run.worker() as process:

            async def there() -> bool:
                return await counted(run, "received") >= 3 and await index.get(late.log_id) is not None

            await until(there, process, run)
            await bus.publish(ERASURES, [erasure(late.log_id)])

            async def gone() -> bool:
                return await index.get(late.log_id) is None

            await until(gone, process, run)  # though no log comes that would make the worker look
            assert await ready(run)
            await account(run)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 60) == 0
        assert await index.get(kept.log_id) is not None
        assert await index.get(erased.log_id) is None
        async with bus.subscribe([LOGS], group=run.name) as subscription:
            async with asyncio.timeout(60):
                while await subscription.lag() > 0:
                    again = [m.value for m in await subscription.poll(max_messages=500, timeout_s=1.0)]
                    assert not any(run.name.encode() in value for value in again), "finished, and not committed"


def langfuse(kind: str, **body: object) -> Outgoing:
    return Outgoing(json.dumps({"id": "e", "type": kind, "timestamp": "2026-01-01T00:00:00Z", "body": body}).encode())


async def test_two_workers_join_the_parts_of_calls_and_store_feedback(run: Run):
    """Without keys the parts of a trace lie in different partitions, so that both workers have some."""
    traces = [f"{run.name}-{number}" for number in range(40)]
    ids = [f"{trace}-call" for trace in traces]
    begun = [
        langfuse("generation-create", id="call", traceId=trace, model="m", input="hi", metadata={"run": run.name})
        for trace in traces
    ]
    ended = [langfuse("generation-update", id="call", traceId=trace, output="well") for trace in traces]
    said = [langfuse("trace-create", id=trace, userId="ann") for trace in traces]
    scores = [
        langfuse("score-create", id=f"s-{trace}", traceId=trace, observationId="call", name="good", value=1)
        for trace in traces
    ]
    async with engines(run) as (bus, index):
        with run.worker() as process, run.worker(free_port()):
            for wave in (ended[::2], begun, said, ended[1::2], scores):
                await bus.publish(LOGS, wave)

            async def joined() -> bool:
                logs = (await index.stored(log_ids=ids, trace_ids=[])).logs.values()
                return len(logs) == len(ids) and all(
                    (stored.tagged.log.user_id, stored.tagged.log.model, len(stored.tagged.log.output))
                    == ("ann", "m", 1)
                    for stored in logs
                )

            async def judged() -> bool:
                await index.refresh()
                logs = (await index.stored(log_ids=ids, trace_ids=[])).logs.values()
                return all([len(await index.feedback_of(stored.tagged.log)) == 1 for stored in logs])

            await until(joined, process, run)
            await until(judged, process, run)
        found = [found.log.log_id async for found in index.scan(parse(f"trace:{run.name}*"), limit=None)]
        assert sorted(found) == sorted(ids)


async def test_records_are_sent_again_from_the_broker_by_those_who_can_read_them_now(run: Run, tmp_path: Path):
    over_kafka = running_api(tmp_path, bus=open_bus(run.kafka_url), records_in=records_in)
    async with engines(run) as (bus, index), over_kafka as api:
        batch = wire.encode(LogBatch((run.log(1), run.log(2))))
        await bus.publish(LOGS, [Outgoing(batch, key=run.name), Outgoing(f"no JSON, {run.name}".encode())])
        places = {
            message.key: f"{message.topic}:{message.partition}:{message.offset}"
            for message in await bus.tail(LOGS, limit=100)
            if run.name.encode() in message.value
        }
        ids = [f"{places[run.name]}:0", f"{places[run.name]}:1", f"{places[None]}:0"]

        async def attempts() -> list[int | None]:
            page = (await api.client.get("/v1/rejected", params={"limit": 10_000})).json()
            found = {letter["rejected_id"]: letter["attempts"] for letter in page["rejected"]}
            return [found.get(rejected_id) for rejected_id in ids]

        async def rejected() -> bool:
            return await attempts() == [1, 1, 1]

        with run.worker(fault="unmasked") as process:
            await until(rejected, process, run)
        for rejected_id in ids[:2]:
            assert (await api.client.get(f"/v1/rejected/{rejected_id}")).json()["payload"] is None, "stored unmasked"
        answer = await api.client.post("/v1/rejected/redrive", json={"ids": ids})
        assert answer.json() == {"redriven": 3, "no_payload": 0, "not_found": 0}

        async def done() -> bool:
            return len(await indexed_ids(index, run)) == 2 and await attempts() == [None, None, 2]

        with run.worker() as process:
            await until(done, process, run)
        assert (await index.get(run.log(2).log_id)) is not None
