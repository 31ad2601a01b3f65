"""Kafka to searchable by the Faust worker, against what one would use instead, and against raw `_bulk`.

Each side is a process of its own that is started for its round, works on some logs first, is halted while its topic is filled,
and then is alone on the machine with Kafka and Elasticsearch; whoever measures sleeps. The index is new in each round.

- `tunemill`: `tunemill streams` with the starter set of rules, from messages of 64 logs as the SDK packs them.
- `tunemill, one-log messages`: the same from messages of one log each.
- `tunemill, two workers`: two processes that share the topic, as one would start for two cores; `quix, two processes` likewise.
- `quix`: Quix Streams' Elasticsearch sink; `async bulk`: an aiokafka loop with `async_streaming_bulk`. Both are given, as one-log
  messages, the finished documents that our worker would write, with their ids as keys, for an index of the same mapping.
- `raw _bulk`: requests with the same documents whose bytes lie ready in a file, no Kafka.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.environments import pinned
from engines import choose

from benchmarks.batches import PACKED_LOGS, Batches
from benchmarks.harness import Figure, ratio, take_turns
from benchmarks.kafka_fill import fill
from benchmarks.live_engines import Worker, empty_index, pid_of, wait_for_documents, wait_until_ended, worker
from benchmarks.processes import cpu_s, halt, jvm_cpu_s, resume, running
from tunemill.bus.kafka import KafkaBus
from tunemill.bus.port import Outgoing
from tunemill.indexer.mapping import alias
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.topics import LOGS, Topic

WARMING_LOGS = 2_000  # that each process works on before its clock runs
WARMING_DOCUMENTS = (
    500_000  # that Elasticsearch's compiler sees before a round counts: it takes half of its CPU at first
)
REBALANCE_S = 10  # until processes that were started together share the partitions
BULK_DOCUMENTS, BULK_BYTES = 1_000, 4 * 2**20
BY_HAND = "byhand"  # the project whose index the others write to: same template, same mapping
RIVALS = Path(__file__).parent / "rivals"
OURS, OURS_SINGLE, OURS_TWO = "tunemill", "tunemill, one-log messages", "tunemill, two workers"
QUIX, QUIX_TWO, ASYNC_BULK, RAW = "quix", "quix, two processes", "async bulk", "raw _bulk"
RATIOS = {
    "ratio_raw_bulk": (OURS, RAW),
    "ratio_quix": (OURS, QUIX),
    "ratio_async_bulk": (OURS, ASYNC_BULK),
    "ratio_raw_bulk_one_log_messages": (OURS_SINGLE, RAW),
    "ratio_quix_one_log_messages": (OURS_SINGLE, QUIX),
    "ratio_async_bulk_one_log_messages": (OURS_SINGLE, ASYNC_BULK),
    "ratio_raw_bulk_two_workers": (OURS_TWO, RAW),
    "ratio_quix_two_workers": (OURS_TWO, QUIX_TWO),
}


@dataclass(frozen=True)
class _Side:
    """Processes that write documents, and how they are given more of them: they are halted before there is anything to do."""

    processes: Sequence[subprocess.Popen[bytes]]
    project: str
    give: Callable[[int], None]

    def resume(self) -> None:
        for process in self.processes:
            resume(process)

    def is_alive(self) -> bool:
        return all(process.poll() is None for process in self.processes)


Opened = Callable[[], AbstractContextManager[_Side]]
Costs = dict[str, float]  # microseconds of CPU a log, by process


def measure(batches: Batches, *, rounds: int) -> tuple[dict[str, Figure], dict[str, float], dict[str, Any]]:
    """Logs per second of all sides, the ratios of ours to the others', and the CPU that each process took."""
    with choose.kafka() as bus, choose.elasticsearch() as url:
        quix = [str(pinned(RIVALS / "quix.txt")), str(RIVALS / "quix_sink.py")]
        loop = [sys.executable, str(RIVALS / "bulk_loop.py")]
        sides: dict[str, Opened] = {
            OURS: lambda: _worker(batches, bus, url, per_message=PACKED_LOGS),
            OURS_SINGLE: lambda: _worker(batches, bus, url, per_message=1),
            OURS_TWO: lambda: _worker(batches, bus, url, per_message=PACKED_LOGS, processes=2),
            QUIX: lambda: _rival(batches, bus, url, quix),
            QUIX_TWO: lambda: _rival(batches, bus, url, quix, processes=2),
            ASYNC_BULK: lambda: _rival(batches, bus, url, loop),
            RAW: lambda: _raw(batches, url),
        }
        pids = {name: pid for name, pid in (("kafka", pid_of(bus)), ("elasticsearch", pid_of(url))) if pid is not None}
        costs: dict[str, list[Costs]] = {name: [] for name in sides}

        def turn(name: str) -> Callable[[], float]:
            return lambda: _measured(batches.count, url, sides[name], pids, costs[name])

        warmups = 0 if _is_tried_only(batches.count) else 1 if batches.count * len(sides) >= WARMING_DOCUMENTS else 2
        figures = take_turns({name: turn(name) for name in sides}, unit="logs/s", rounds=rounds, warmups=warmups)
    ratios = {name: ratio(figures[one], figures[other]) for name, (one, other) in RATIOS.items()}
    return figures, ratios, {"cpu_us_per_log": {name: _medians(found[-rounds:]) for name, found in costs.items()}}


def _is_tried_only(count: int) -> bool:
    return count < WARMING_LOGS  # so few say nothing, warm or cold


def _settle(processes: int, count: int) -> None:
    if processes > 1 and not _is_tried_only(count):
        time.sleep(REBALANCE_S)


def _measured(count: int, url: str, opened: Opened, pids: Mapping[str, int], costs: list[Costs]) -> float:
    """Logs per second of one round."""
    warming = min(WARMING_LOGS, count)
    with opened() as side:
        writers = [process.pid for process in side.processes]
        side.give(warming)
        side.resume()
        wait_for_documents(url, side.project, warming, side.is_alive)
        side.give(count)
        before, started = _cpu_s(writers, pids), time.perf_counter()
        side.resume()
        wait_for_documents(url, side.project, warming + count, side.is_alive)
        seconds = time.perf_counter() - started
        after = _cpu_s(writers, pids)
    costs.append({name: (after[name] - before[name]) / count * 1e6 for name in after})
    return count / seconds


@contextmanager
def _worker(batches: Batches, bus: str, url: str, *, per_message: int, processes: int = 1) -> Iterator[_Side]:
    empty_index(url, PROJECT)
    with ExitStack() as stack:
        ours = [stack.enter_context(worker(bus, url)) for _ in range(processes)]
        _settle(processes, batches.count)
        given = 0

        def give(count: int) -> None:
            nonlocal given
            given += count
            _fill(bus, LOGS, batches.messages(count, per_message=per_message), side.processes)

        side = _Side([one.process for one in ours], PROJECT, give)
        yield side
        _require_identity(ours, given)


@contextmanager
def _rival(batches: Batches, bus: str, url: str, command: list[str], *, processes: int = 1) -> Iterator[_Side]:
    empty_index(url, BY_HAND)
    topic = Topic(
        name=f"benchmark.{uuid.uuid4()}", record=TaggedLog, key="log_id", producers=(), consumers=(), partitions=4
    )
    asyncio.run(_create(bus, topic))
    arguments = [*command, bus.removeprefix("kafka://"), topic.name, url, alias(BY_HAND)]
    with ExitStack() as stack:
        started = [stack.enter_context(running(arguments)) for _ in range(processes)]
        _settle(processes, batches.count)

        def give(count: int) -> None:
            messages = (Outgoing(document, key=log_id) for log_id, _, document in batches.documents(count))
            _fill(bus, topic, messages, started)

        yield _Side(started, BY_HAND, give)


@contextmanager
def _raw(batches: Batches, url: str) -> Iterator[_Side]:
    empty_index(url, BY_HAND)
    with (
        tempfile.NamedTemporaryFile() as file,
        running([sys.executable, str(RIVALS / "raw_bulk.py"), url, alias(BY_HAND)]) as process,
    ):

        def give(count: int) -> None:
            file.truncate(0)
            file.seek(0)
            for body in _bodies(batches.documents(count)):
                file.write(len(body).to_bytes(8) + body)
            file.flush()
            halt(process)
            assert process.stdin is not None
            process.stdin.write(f"{file.name}\n".encode())
            process.stdin.flush()

        yield _Side([process], BY_HAND, give)


def _fill(bus: str, topic: Topic, messages: Iterable[Outgoing], readers: Sequence[subprocess.Popen[bytes]]) -> None:
    def halt_all() -> None:
        for reader in readers:
            halt(reader)

    asyncio.run(fill(bus, topic, messages, before_sending=halt_all))


async def _create(bus: str, topic: Topic) -> None:
    kafka = KafkaBus(bus.removeprefix("kafka://"))
    await kafka.create_topics([topic])
    await kafka.close()


def _bodies(documents: Iterable[tuple[str, bytes, bytes]]) -> Iterator[bytes]:
    lines: list[bytes] = []
    size = 0
    for _, *item in documents:
        lines += item
        size += sum(map(len, item))
        if size >= BULK_BYTES or len(lines) == 2 * BULK_DOCUMENTS:
            yield b"\n".join(lines) + b"\n"
            lines, size = [], 0
    if lines:
        yield b"\n".join(lines) + b"\n"


def _cpu_s(writers: Sequence[int], pids: Mapping[str, int]) -> dict[str, float]:
    found = {"writer": sum(map(cpu_s, writers)), **{name: cpu_s(pid) for name, pid in pids.items()}}
    if "elasticsearch" in pids:
        parts = jvm_cpu_s(pids["elasticsearch"])
        found |= {f"elasticsearch, {part}": parts[part] for part in ("gc", "jit")}
    return found


def _medians(rounds: list[Costs]) -> Costs:
    return {name: round(statistics.median(found[name] for found in rounds), 1) for name in rounds[0]}


def _require_identity(ours: Sequence[Worker], given: int) -> None:
    """The workers' own counts agree with the index, once they have acknowledged all.

    Raises:
        RuntimeError: they did not index exactly what they were given.
    """
    wait_until_ended(ours, given)
    counted = Counter[str]()
    for one in ours:
        counted.update(one.logs())
    if not counted["received"] == counted["indexed"] == given:
        raise RuntimeError(f"{len(ours)} workers were given {given} logs and counted {dict(counted)}")
