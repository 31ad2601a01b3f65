"""From published to found by a search, at a steady rate of logs.

    python -m benchmarks.latency --engine elasticsearch --input logs.jsonl.gz --json

Logs are published on the bus in small messages; a few of them carry a session id that nothing else has, and a search through our
port looks for those sessions every 25 ms. The clock of a log starts before its message is published and stops when the answer
that holds it is there. Elasticsearch makes what is written searchable once a second (`refresh_interval`), so half a second of
its median is that wait; the embedded engine makes every batch searchable when it is written.
"""

import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Annotated

import msgspec
import typer
from engines import choose

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.harness import Figure, report
from benchmarks.live_engines import empty_index, worker
from benchmarks.options import Engine, Input, Json, Rounds
from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Outgoing
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex, SearchRequest
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.packing import pack
from tunemill.schemas.topics import LOGS
from tunemill.streams.local import run_local
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules

EVERY_S = 0.02  # one message
PROBE_EACH = 5  # messages: ten searched logs a second
LOOK_S = 0.025
WARMING_S = 3.0  # not counted
DEADLINE_S = 30.0  # for the last ones to be found


def main(
    engine: Engine = "embedded",
    input: Input = SAMPLE,
    rate: Annotated[int, typer.Option(help="Logs per second.")] = 500,
    seconds: Annotated[float, typer.Option(help="How long a round lasts.")] = 20,
    rounds: Rounds = 3,
    json: Json = False,
) -> None:
    """Measure milliseconds."""
    batches = Batches(read(input), 0, load_rules())
    with _addresses(engine) as (bus_url, index_url):
        found_ms = asyncio.run(_measure(bus_url, index_url, batches, rate, seconds, rounds))
    figures = {
        f"p{percent}": Figure("ms", tuple(statistics.quantiles(times, n=100)[percent - 1] for times in found_ms))
        for percent in (50, 90, 99)
    }
    settings = {"input": input.name, "logs_per_s": rate, "round_s": seconds, "searched_logs": len(found_ms[0])}
    report(f"latency-{engine}", figures, {}, settings, as_json=json)


@contextmanager
def _addresses(engine: str) -> Iterator[tuple[str, str]]:
    """The bus and the index; behind Kafka and Elasticsearch a worker of its own is at work."""
    if engine == "embedded":
        with tempfile.TemporaryDirectory() as scratch:
            yield f"sqlite:{scratch}/bus.db", f"local:{scratch}"
    else:
        with choose.kafka() as bus, choose.elasticsearch() as url:
            empty_index(url, PROJECT)
            with worker(bus, url):
                yield bus, url


async def _measure(
    bus_url: str, index_url: str, batches: Batches, rate: int, seconds: float, rounds: int
) -> list[list[float]]:
    """Milliseconds of each searched log, by round."""
    bus, index = open_bus(bus_url), open_index(index_url, project=PROJECT)
    await bus.create_topics([LOGS])
    await index.setup()
    try:
        async with _embedded_stream(bus, index, batches) if index_url.startswith("local:") else _nothing():
            await _round(bus, index, batches, rate, WARMING_S)
            return [await _round(bus, index, batches, rate, seconds) for _ in range(rounds)]
    finally:
        await index.close()
        await bus.close()


@asynccontextmanager
async def _embedded_stream(bus: Bus, index: SearchIndex, batches: Batches) -> AsyncIterator[None]:
    stop = asyncio.Event()
    stream = asyncio.create_task(run_local(bus, index, Rulebook(batches.rules), stop=stop))
    yield
    stop.set()
    await stream


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _round(bus: Bus, index: SearchIndex, batches: Batches, rate: int, seconds: float) -> list[float]:
    waiting: dict[str, float] = {}  # session id -> when its log was published
    found_ms: list[float] = []
    publishing = asyncio.create_task(_publish(bus, batches, rate, seconds, waiting))
    deadline = time.perf_counter() + seconds + DEADLINE_S
    while not publishing.done() or waiting:
        if time.perf_counter() > deadline:
            raise RuntimeError(f"{len(waiting)} logs were published and are not found")
        begun = time.perf_counter()
        if waiting:
            found_ms += await _found(index, waiting)
        await asyncio.sleep(max(0.0, LOOK_S - (time.perf_counter() - begun)))
    await publishing
    return found_ms


async def _publish(bus: Bus, batches: Batches, rate: int, seconds: float, waiting: dict[str, float]) -> None:
    """A message every `EVERY_S`, however long the ones before took."""
    logs_each, run = round(rate * EVERY_S), uuid.uuid4().hex[:8]
    started = time.perf_counter()
    for number in count():
        due = started + number * EVERY_S
        if due > started + seconds:
            return
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        logs = list(batches.fresh(logs_each, start=number * logs_each))
        if number % PROBE_EACH == 0:
            session = f"{run}-{number}"
            logs[0] = msgspec.structs.replace(logs[0], session_id=session)
            waiting[session] = time.perf_counter()
        await bus.publish(LOGS, [Outgoing(pack(logs), key=logs[0].log_id)])


async def _found(index: SearchIndex, waiting: dict[str, float]) -> list[float]:
    """Milliseconds of the logs that a search finds now; they are waited for no more."""
    query = parse(" OR ".join(f"session:{session}" for session in waiting))
    page = await index.search(SearchRequest(query, limit=len(waiting)))
    now = time.perf_counter()
    sessions = [hit.log.log.session_id or "" for hit in page.hits]
    return [(now - waiting.pop(session)) * 1000 for session in sessions]


if __name__ == "__main__":
    typer.run(main)
