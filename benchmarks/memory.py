"""Whether the worker's memory stays where it is: over many logs, and when the index is slow or refuses everything for a while.

    python -m benchmarks.memory --input logs.jsonl.gz --logs 1000000 --json

The worker reads Kafka and writes to an Elasticsearch that stores nothing, so that it is as busy as it can be. Growth is the slope
of its resident memory over the last four fifths of the logs, by least squares; caches and allocators fill up before. Then the
index takes seconds for each request, then refuses everything, with far more in the topic than the worker may take in hand; at
last it is well again, and everything must arrive.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from engines import choose

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.harness import Figure, report
from benchmarks.kafka_fill import fill
from benchmarks.live_engines import Worker, wait_until_ended, worker
from benchmarks.processes import rss_bytes
from benchmarks.stub_elasticsearch import behave, stub_elasticsearch
from tunemill.schemas.topics import LOGS
from tunemill.streams.rules import load_rules

FLAT_MIB_PER_MILLION = 50  # less growth than this counts as none
SLAB_LOGS = 20_000  # published at a time
WAITING_LOGS = 200_000  # in the topic while the index is slow, or fewer if there are not as many
SLOW_S = 5.0  # of each request to the slow index
LOOK_S = 0.25
MIB = 2**20


def main(
    input: Annotated[Path, typer.Option(help="Logs of any accepted shape: JSON lines, gzipped or not.")] = SAMPLE,
    logs: Annotated[int, typer.Option(help="Logs over which memory must be flat.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(help="How long the index is slow, and how long it is busy.")] = 30,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure mebibytes."""
    batches = Batches(read(input), logs, load_rules())
    waiting = min(WAITING_LOGS, logs)
    with choose.kafka() as bus, stub_elasticsearch() as index, worker(bus, index) as ours:
        steady = _steady(bus, batches, ours)
        asyncio.run(fill(bus, LOGS, batches.messages(waiting)))
        figures = {"steady": Figure("MiB", tuple(steady))}
        for name, delay_s in (("slow index", SLOW_S), ("busy index", 0.0)):
            behave(index, delay_s=delay_s, is_busy=name == "busy index")
            memory, in_hand = zip(*_watched(ours, seconds), strict=True)
            figures |= {name: Figure("MiB", memory), f"{name}, messages in hand": Figure("MiB", in_hand)}
        behave(index)
        wait_until_ended([ours], len(steady) * SLAB_LOGS + waiting)  # nothing was lost meanwhile
    growth = _slope(steady[len(steady) // 5 :]) * 1_000_000 / SLAB_LOGS
    is_flat = growth < FLAT_MIB_PER_MILLION
    settings = {"input": input.name, "logs": logs, "slow_s": SLOW_S, "watched_s": seconds}
    settings["waiting_mib"] = round(batches.mean_log_bytes * waiting / MIB)
    also = {"growth_mib_per_million_logs": round(growth, 1), "flat_below": FLAT_MIB_PER_MILLION, "is_flat": is_flat}
    print(f"growth: {growth:.1f} MiB per million logs, {'flat' if is_flat else 'NOT flat'}")
    report("memory", figures, {}, settings, as_json=json, also=also)


def _steady(bus: str, batches: Batches, ours: Worker) -> list[float]:
    """The worker's memory each time that a slab of logs is done."""
    found = []
    for published in range(0, batches.count, SLAB_LOGS):
        asyncio.run(fill(bus, LOGS, batches.messages(SLAB_LOGS)))
        wait_until_ended([ours], published)  # while it works on this one, the next is built
        found.append(rss_bytes(ours.process.pid) / MIB)
    wait_until_ended([ours], len(found) * SLAB_LOGS)
    return found


def _watched(ours: Worker, seconds: float) -> Iterator[tuple[float, float]]:
    """The worker's memory and the messages that it has in hand, again and again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield rss_bytes(ours.process.pid) / MIB, ours.bytes_in_hand() / MIB
        time.sleep(LOOK_S)


def _slope(values: list[float]) -> float:
    """Growth from one value to the next."""
    return statistics.linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0


if __name__ == "__main__":
    typer.run(main)
