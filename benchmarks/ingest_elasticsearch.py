"""Kafka to searchable by the Faust worker, against raw `_bulk`."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.harness import Figure, take_turns
from tunemill.bus.kafka import KafkaBus
from tunemill.indexer.bulk import create_item, requests
from tunemill.indexer.document import to_document
from tunemill.indexer.mapping import alias
from tunemill.indexer.open import open_index
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.topics import LOGS, TOPICS

if TYPE_CHECKING:
    from benchmarks.ingest import Batches

BY_HAND = "byhand"  # the project whose index takes the raw requests: same template, same mapping
BULKS_IN_FLIGHT = 3  # more brought nothing
START_DEADLINE_S = 60
ROUND_DEADLINE_S = 300
LOOK_S = 0.02
OUTCOMES = ("indexed", "merged", "duplicate", "rejected", "erased")


def measure(batches: "Batches", *, rounds: int) -> dict[str, Figure]:
    """Logs per second of both sides.

    The engines are those of the live tests: named by the environment (what is written stays there), else started here.
    """
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from engines import choose, process

    port = process.free_port()
    with choose.kafka() as kafka, choose.elasticsearch() as url, _worker(kafka, url, port) as worker:
        asyncio.run(_prepare(url))
        sides = {
            "tunemill from Kafka": lambda: _through_kafka(batches, kafka, url, worker, port),
            "raw _bulk": lambda: asyncio.run(_by_hand(batches, url)),
        }
        return take_turns(sides, unit="logs/s", rounds=rounds, warmups=2)


@contextmanager
def _worker(kafka: str, url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`tunemill streams`, ready."""
    asyncio.run(_create_topics(kafka))
    with tempfile.TemporaryDirectory() as scratch:
        engines = {
            "TUNEMILL_BUS_URL": kafka,
            "TUNEMILL_INDEX_URL": url,
            "TUNEMILL_REGISTRY_URL": f"sqlite:///{scratch}/registry.db",
            "TUNEMILL_FILES_URL": scratch,
        }
        command = [sys.executable, "-m", "tunemill.cli", "streams", "--port", str(port)]
        process = subprocess.Popen(command, env=os.environ | engines, stdout=sys.stderr)
        try:
            _wait_until_ready(process, port)
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(60)


def _through_kafka(batches: "Batches", kafka: str, url: str, worker: subprocess.Popen[bytes], port: int) -> float:
    """The worker is halted while the topic is filled, so that the clock runs for its work alone."""
    messages = batches.messages()
    before, counted = _count(url, PROJECT), _accounted(port)
    worker.send_signal(signal.SIGSTOP)
    asyncio.run(_publish(kafka, messages))
    started = time.perf_counter()
    worker.send_signal(signal.SIGCONT)
    _wait_until_accounted(worker, port, counted + batches.count)
    after = _count(url, PROJECT)
    seconds = time.perf_counter() - started
    _require(after - before, batches.count)
    return batches.count / seconds


async def _by_hand(batches: "Batches", url: str) -> float:
    items = [create_item(to_document(tagged)) for tagged in batches.tagged()]
    bodies = [b"\n".join(line for item in chunk for line in item.lines) + b"\n" for chunk in requests(items)]
    before = await asyncio.to_thread(_count, url, BY_HAND)
    free = asyncio.Semaphore(BULKS_IN_FLIGHT)
    async with aiohttp.ClientSession() as session:

        async def send(body: bytes) -> None:
            async with free, session.post(f"{url}/{alias(BY_HAND)}/_bulk", data=body, headers=_NDJSON) as reply:
                if (await reply.json())["errors"]:
                    raise ValueError("Elasticsearch refused some of the documents")

        started = time.perf_counter()
        await asyncio.gather(*map(send, bodies))
        after = await asyncio.to_thread(_count, url, BY_HAND)
        seconds = time.perf_counter() - started
    _require(after - before, batches.count)
    return batches.count / seconds


_NDJSON = {"Content-Type": "application/x-ndjson"}


async def _prepare(url: str) -> None:
    index = open_index(url, project=BY_HAND)
    await index.setup()
    await index.close()


async def _create_topics(kafka: str) -> None:
    bus = KafkaBus(kafka.removeprefix("kafka://"))
    await bus.create_topics(TOPICS)
    await bus.close()


async def _publish(kafka: str, messages: Sequence[object]) -> None:
    bus = KafkaBus(kafka.removeprefix("kafka://"))
    await bus.publish(LOGS, messages)
    await bus.close()


def _wait_until_ready(worker: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5).close()
        except (urllib.error.URLError, OSError):
            _require_alive(worker, deadline)
            time.sleep(0.2)
        else:
            return


def _wait_until_accounted(worker: subprocess.Popen[bytes], port: int, count: int) -> None:
    deadline = time.monotonic() + ROUND_DEADLINE_S
    while _accounted(port) < count:
        _require_alive(worker, deadline)
        time.sleep(LOOK_S)


def _require_alive(worker: subprocess.Popen[bytes], deadline: float) -> None:
    if worker.poll() is not None or time.monotonic() > deadline:
        raise RuntimeError("the worker ended or stands still; its log is above")


def _accounted(port: int) -> int:
    """How many logs the worker has counted as something final."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    kinds = tuple(f'tunemill_logs_total{{outcome="{outcome}"}}' for outcome in OUTCOMES)
    return round(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(kinds)))


def _count(url: str, project: str) -> int:
    """How many documents a search would find now."""
    urllib.request.urlopen(
        urllib.request.Request(f"{url}/{alias(project)}/_refresh", method="POST"), timeout=60
    ).close()
    with urllib.request.urlopen(f"{url}/{alias(project)}/_count", timeout=60) as reply:
        return int(json.load(reply)["count"])


def _require(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(
            f"{found} new documents are searchable, not {expected}: does something else write here, too?"
        )
