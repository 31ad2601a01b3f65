"""Kafka, Elasticsearch and our worker as processes of their own, for benchmarks that need them."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from engines.process import free_port
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.processes import listener, running
from tunemill.indexer.mapping import alias, first_index
from tunemill.indexer.open import open_index

START_DEADLINE_S = 90
STALL_DEADLINE_S = 120  # without one more document
_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 0.05, 2.0
_ENDED_LOOK_S = 0.25


def pid_of(url: str) -> int | None:
    """Who serves this address; None if that is no process of ours."""
    port = urlsplit(url).port
    return None if port is None else listener(port)


@dataclass(frozen=True)
class Worker:
    """`tunemill streams` under way."""

    process: subprocess.Popen[bytes]
    port: int

    def logs(self) -> dict[str, int]:
        """How many logs were received, and what has become of them, by the names of the outcomes."""
        return {labels["outcome"]: round(value) for labels, value in self._samples("tunemill_logs_total")}

    def bytes_in_hand(self) -> float:
        """Of the messages that are taken and not finished."""
        return sum(value for _, value in self._samples("tunemill_bytes_in_hand"))

    def ended(self) -> int:
        """How many logs are accounted for."""
        return sum(count for outcome, count in self.logs().items() if outcome != "received")

    def _samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        return [
            (sample.labels, sample.value) for family in families for sample in family.samples if sample.name == name
        ]


def wait_until_ended(workers: Sequence[Worker], count: int) -> None:
    """Sleep until so many logs have.

    Raises:
        RuntimeError: a worker ended or all stand still.
    """
    moved, last = time.monotonic(), 0
    while (ended := sum(one.ended() for one in workers)) < count:
        if ended > last:
            moved, last = time.monotonic(), ended
        is_over = any(one.process.poll() is not None for one in workers)
        if is_over or time.monotonic() - moved > STALL_DEADLINE_S:
            raise RuntimeError(f"a worker ended or stands still at {ended} of {count} logs; its log is above")
        time.sleep(_ENDED_LOOK_S)


@contextmanager
def worker(kafka: str, index: str) -> Iterator[Worker]:
    """Our stream worker on these engines, ready; its topics, index and tables are made first."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            "TUNEMILL_BUS_URL": kafka,
            "TUNEMILL_INDEX_URL": index,
            "TUNEMILL_REGISTRY_URL": f"sqlite:///{scratch}/registry.db",
            "TUNEMILL_FILES_URL": scratch,
        }
        command, port = [sys.executable, "-m", "tunemill.cli"], free_port()
        subprocess.run([*command, "setup"], env=os.environ | environment, stdout=sys.stderr, check=True)
        with running([*command, "streams", "--port", str(port)], environment) as process:
            answers_soon(f"http://127.0.0.1:{port}/health/ready", process)
            yield Worker(process, port)


def answers_soon(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return when this process answers at its URL.

    Raises:
        RuntimeError: it ended, or did not answer before the deadline.
    """
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("a process did not become ready; its log is above") from None
            time.sleep(0.2)
        else:
            return


def empty_index(url: str, project: str) -> None:
    """A project's log index, new: what was in it is gone, also where the live tests' variables name the engines."""
    _ask("DELETE", f"{url}/{first_index(alias(project))}?ignore_unavailable=true")
    asyncio.run(_set_up(url, project))


def wait_for_documents(url: str, project: str, count: int, is_alive: Callable[[], bool]) -> None:
    """Sleep until so many documents are written, looking now and then, and then until a search finds them.

    Raises:
        RuntimeError: the writer ended or stands still, or there are more documents than expected.
    """
    seen, started = 0, time.monotonic()
    moved, first = started, _written(url, project)
    while (written := _written(url, project)) < count:
        now = time.monotonic()
        if written > seen:
            seen, moved = written, now
        if not is_alive() or now - moved > STALL_DEADLINE_S:
            raise RuntimeError(f"the writer ended or stands still at {written} of {count} documents; its log is above")
        per_s = (written - first) / (now - started) if now > started else 0
        left_s = (count - written) / per_s if per_s else 0
        time.sleep(min(max(left_s / 2, _SHORTEST_LOOK_S), _LONGEST_LOOK_S))
    _ask("POST", f"{url}/{alias(project)}/_refresh")
    found = _ask("GET", f"{url}/{alias(project)}/_count")["count"]
    if found != count:
        raise RuntimeError(f"{found} documents are searchable, not {count}: does something else write here, too?")


def _written(url: str, project: str) -> int:
    """How many documents were indexed, searchable or not; cheap to ask."""
    stats = _ask("GET", f"{url}/{alias(project)}/_stats/indexing?filter_path=_all.primaries.indexing.index_total")
    return int(stats["_all"]["primaries"]["indexing"]["index_total"])


async def _set_up(url: str, project: str) -> None:
    index = open_index(url, project=project)
    await index.setup()
    await index.close()


def _ask(method: str, url: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=120) as reply:
        return json.load(reply)
