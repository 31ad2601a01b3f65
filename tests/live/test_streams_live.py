"""The Faust worker on a real broker and a real index: killed in the middle, it loses nothing and doubles nothing."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from fakes.curator_api import running_api

from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Outgoing
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex
from tunemill.schemas import wire
from tunemill.schemas.records import Erasure, LogBatch, LogRecord, Message, RejectedLog
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED
from tunemill.streams.unpack import records_in

pytestmark = pytest.mark.live

WORKER = """
import sys
from tunemill.indexer.open import open_index
from tunemill.streams.app import run_faust
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules
from tunemill.telemetry.logs import configure
bus, index, project, port, group = sys.argv[1:]
configure(service="streams")
run_faust(bus, lambda: open_index(index, project=project), Rulebook(load_rules()), health_port=int(port), group=group)
"""
KILLS = 3
MESSAGES = 1800  # over all waves: several batches in each
PACKED = 20  # logs in every third message
DEADLINE_S = 120.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Run:
    """One test's share of the shared engines: names of its own, and its worker process."""

    def __init__(self, kafka_url: str, elasticsearch_url: str, folder: Path) -> None:
        self.name = f"live-{uuid.uuid4().hex[:12]}"
        self.kafka_url, self.elasticsearch_url = kafka_url, elasticsearch_url
        self.output = folder / "worker.log"
        self.port = free_port()

    @contextmanager
    def worker(self, port: int | None = None, *, first: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """A worker process; killed at the end, if it still runs. `first` is what it runs before it begins."""
        arguments = [self.kafka_url, self.elasticsearch_url, self.name, str(port or self.port), self.name]
        with self.output.open("ab") as output:
            process = subprocess.Popen([sys.executable, "-c", first + WORKER, *arguments], stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def said(self) -> str:
        """The end of what the workers wrote."""
        return self.output.read_text(encoding="utf-8", errors="replace")[-4000:]

    def log(self, number: int) -> LogRecord:
        question = Message(role="user", content=f"What is {number} + {number}? Show the sum.")
        answer = Message(role="assistant", content=f"{number} + {number} = {2 * number}")
        return LogRecord(
            log_id=f"{self.name}-{number}",
            ts_ms=1_780_000_000_000,
            app=self.name,
            messages=(question,),
            output=(answer,),
        )

    def messages(self) -> tuple[list[Outgoing], set[str], int]:
        """What is published, the ids that must be in the index, and how many records are bad."""
        outgoing, good, bad = [], set(), 0
        for number in range(MESSAGES):
            logs = [self.log(number * 100 + place) for place in range(PACKED if number % 3 == 0 else 1)]
            values = [msgspec.json.encode(log) for log in logs]
            if number % 7 == 0:
                values.append(json.dumps({"event": "not a log", "run": self.name}).encode())
                bad += 1
            if number % 50 == 1:
                outgoing.append(Outgoing(f"no JSON at all, {self.name} {number}".encode()))
                bad += 1
            good |= {log.log_id for log in logs}
            packed = wire.encode(LogBatch(tuple(logs))) if number % 7 and number % 3 == 0 else b"\n".join(values)
            outgoing.append(Outgoing(packed, key=f"session-{number % 11}"))
        return outgoing, good, bad


@pytest.fixture
async def run(kafka_url: str, elasticsearch_url: str, tmp_path: Path) -> AsyncIterator[Run]:
    run = Run(kafka_url, elasticsearch_url, tmp_path)
    yield run
    async with httpx.AsyncClient(base_url=elasticsearch_url) as client:
        names = (await client.get(f"/_cat/indices/*{run.name}*?h=index&format=json")).json()
        for found in names:
            await client.delete(f"/{found['index']}")


@asynccontextmanager
async def engines(run: Run) -> AsyncIterator[tuple[Bus, SearchIndex]]:
    bus, index = open_bus(run.kafka_url), open_index(run.elasticsearch_url, project=run.name)
    try:
        await bus.create_topics([LOGS, REJECTED, ERASURES, FEEDBACK])
        await index.setup()
        await skip_history(bus, run)
        yield bus, index
    finally:
        await index.close()
        await bus.close()


async def skip_history(bus: Bus, run: Run) -> None:
    """Let the run's group begin at the end of the shared topic: what other tests published is not ours to index."""
    async with bus.subscribe([LOGS], group=run.name) as subscription:
        while not subscription.consumer.assignment():
            await subscription.poll(max_messages=1, timeout_s=0.2)
        ends = await subscription.consumer.end_offsets(subscription.consumer.assignment())
        await subscription.commit({(partition.topic, partition.partition): end for partition, end in ends.items()})


async def indexed_ids(index: SearchIndex, run: Run) -> list[str]:
    await index.refresh()
    return [found.log.log_id async for found in index.scan(parse(f"app:{run.name}"), limit=None)]


async def dead_letters(bus: Bus, run: Run) -> list[RejectedLog]:
    """This run's dead letters, each id once: a replay overwrites its own."""
    found: dict[str, RejectedLog] = {}
    async with bus.subscribe([REJECTED], group=None) as subscription:
        while await subscription.lag() > 0:
            for message in await subscription.poll(max_messages=500, timeout_s=1.0):
                letter = wire.decode(message.value, RejectedLog)
                if run.name.encode() in letter.payload:
                    found[letter.rejected_id] = letter
    return list(found.values())


async def ready(run: Run) -> bool:
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{run.port}/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def accounted_for(run: Run) -> float:
    """How many logs the worker has counted, which is a batch's last step."""
    try:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{run.port}/metrics")).text
    except httpx.TransportError:
        return 0.0
    name = 'tunemill_logs_total{outcome="received"} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


async def until(condition: Callable[[], Awaitable[bool]], process: subprocess.Popen[bytes], run: Run) -> None:
    """Wait for an async condition; a worker that ended or hangs meanwhile is an error, shown with what it said last."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await condition():
                assert process.poll() is None, f"the worker ended with status {process.returncode}:\n{run.said()}"
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"nothing moved for {DEADLINE_S} s; the worker said last:\n{run.said()}")


async def test_a_worker_killed_in_the_middle_loses_nothing_and_doubles_nothing(run: Run):
    outgoing, good, bad = run.messages()
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
        ids = await indexed_ids(index, run)
        assert good - set(ids) == set()
        assert len(ids) == len(good)
        assert len(await dead_letters(bus, run)) == bad


def erasure(log_id: str) -> Outgoing:
    return Outgoing(wire.encode(Erasure(erasure_id=f"e-{log_id}", ts_ms=1, log_id=log_id)), key=log_id)


async def test_sigterm_drains_and_what_was_erased_stays_away(run: Run):
    async with engines(run) as (bus, index):
        kept, erased, late = run.log(1), run.log(2), run.log(3)
        await bus.publish(ERASURES, [erasure(erased.log_id)])
        await bus.publish(LOGS, [Outgoing(wire.encode(log)) for log in (erased, late, kept)])
        with run.worker() as process:

            async def there() -> bool:
                return await accounted_for(run) >= 3 and await index.get(late.log_id) is not None

            await until(there, process, run)
            await bus.publish(ERASURES, [erasure(late.log_id)])

            async def gone() -> bool:
                return await index.get(late.log_id) is None

            await until(gone, process, run)  # though no log comes that would make the worker look
            assert await ready(run)
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
    broken = "import tunemill.streams.process as hop\nhop.mask = lambda *_: 1 / 0\n"
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

        with run.worker(first=broken) as process:
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
