"""Faust workers on real engines: started, stopped and killed by a test, and what became of what they were given."""

import asyncio
import json
import socket
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Outgoing
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import Erasure, LogBatch, LogRecord, Message, RejectedLog
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED

WORKER = Path(__file__).parent / "faulty_worker.py"
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
    def worker(
        self, port: int | None = None, *, fault: str = "none", index_url: str | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker process; killed at the end, if it still runs."""
        index_url = index_url or self.elasticsearch_url
        arguments = [self.kafka_url, index_url, self.name, str(port or self.port), fault]
        with self.output.open("ab") as output:
            process = subprocess.Popen([sys.executable, str(WORKER), *arguments], stdout=output, stderr=output)
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

    def messages(self, count: int, start: int = 0) -> tuple[list[Outgoing], set[str], int]:
        """What is published, the ids that must be in the index, and how many records are bad."""
        outgoing, good, bad = [], set(), 0
        for number in range(start, start + count):
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


async def metrics(run: Run, port: int | None = None) -> Mapping[str, float]:
    """What the worker's metrics say at one moment; 0 of each while it does not answer."""
    try:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{port or run.port}/metrics")).text
    except httpx.TransportError:
        return defaultdict(float)
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return defaultdict(float, {name: float(value) for name, _, value in lines})


async def metric(run: Run, name: str, port: int | None = None) -> float:
    """What one of them says."""
    return (await metrics(run, port))[name]


def of_logs(outcome: str) -> str:
    """The metric that counts these, which is a part's last step."""
    return f'tunemill_logs_total{{outcome="{outcome}"}}'


async def counted(run: Run, outcome: str, port: int | None = None) -> int:
    """How many logs the worker has counted so."""
    return int(await metric(run, of_logs(outcome), port))


async def account(run: Run, port: int | None = None) -> int:
    """Check that all that a worker has received has come to an end, and say how much of it was there already."""
    told = await metrics(run, port)
    assert told[of_logs("received")] == sum(told[of_logs(outcome)] for outcome in Outcome) > 0
    return int(told[of_logs(Outcome.DUPLICATE)])


async def until(condition: Callable[[], Awaitable[bool]], process: subprocess.Popen[bytes], run: Run) -> None:
    """Wait for an async condition; a worker that ended or hangs meanwhile is an error, shown with what it said last."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await condition():
                assert process.poll() is None, f"the worker ended with status {process.returncode}:\n{run.said()}"
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"nothing moved for {DEADLINE_S} s; the worker said last:\n{run.said()}")


async def remove_indices(run: Run) -> None:
    async with httpx.AsyncClient(base_url=run.elasticsearch_url) as client:
        names = (await client.get(f"/_cat/indices/*{run.name}*?h=index&format=json")).json()
        for found in names:
            await client.delete(f"/{found['index']}")


def erasure(log_id: str) -> Outgoing:
    return Outgoing(wire.encode(Erasure(erasure_id=f"e-{log_id}", ts_ms=1, log_id=log_id)), key=log_id)
