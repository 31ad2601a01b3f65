"""Publishing a dataset version, from logs to committed version, against the plain way: the same rows in one Parquet file.

Publishing also checks consent and privacy, gives each row its identity, collapses duplicates, splits by conversation, syncs
to disk, writes provenance, manifest and report, and commits. The index is in memory: only publishing is measured.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import ratio, report, take_turns
from tunemill.curator_api import draft_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.publish import Order, publish
from tunemill.curator_api.recipe import Recipe, Search
from tunemill.curator_api.settings import Settings
from tunemill.curator_api.store import Files
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog

WORDS = 4_000  # in the vocabulary that the texts are made of
PROMPT_WORDS, ANSWER_WORDS = 120, 80  # about 1.2 kB a row, a short chat


class _Logs:
    """As much of a search index as publishing uses."""

    def __init__(self, logs: list[TaggedLog]) -> None:
        self._logs = logs

    async def refresh(self) -> None:
        return None

    async def scan(self, _query: object, *, limit: int | None) -> AsyncIterator[TaggedLog]:
        for log in self._logs[:limit]:
            yield log


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    logs = _logs(given.rows)
    sides = {"publish": lambda: _rate(_publish, logs), "plain_file": lambda: _rate(_plain, logs)}
    figures = take_turns(sides, unit="rows/s", rounds=given.rounds)
    ratios = {"publish / plain_file": ratio(figures["publish"], figures["plain_file"])}
    settings = {"rows": given.rows, "rounds": given.rounds}
    report("snapshot", figures, ratios, settings, as_json=given.json)


def _rate(write: Callable[[list[TaggedLog], Path], float], logs: list[TaggedLog]) -> float:
    """Rows per second of one way to write these logs into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        return len(logs) / write(logs, Path(folder))


def _publish(logs: list[TaggedLog], folder: Path) -> float:
    """Seconds, without making the registry."""
    registry = open_registry(f"sqlite:///{folder / 'registry.db'}")
    migrate(registry)
    unused: Any = None
    index: Any = _Logs(logs)
    curator = Curator(
        bus=unused, index=index, registry=registry, files=Files(str(folder / "files")), settings=Settings()
    )
    draft_store.create(registry, curator.settings.project, "measured", Recipe(ingredients=(Search(query=""),)))
    begun = time.perf_counter()
    version = asyncio.run(publish(curator, Order(name="measured", by="benchmark")))
    seconds = time.perf_counter() - begun
    registry.dispose()
    if version.rows != len(logs):
        raise RuntimeError(f"{version.rows} rows were published of {len(logs)}")
    return seconds


def _plain(logs: list[TaggedLog], folder: Path) -> float:
    """Seconds."""
    begun = time.perf_counter()
    rows = [{"messages": [_chat(message) for message in (*log.log.messages, log.log.output[0])]} for log in logs]
    pq.write_table(pa.Table.from_pylist(rows), folder / "dataset.parquet")
    return time.perf_counter() - begun


def _chat(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content}


def _logs(count: int) -> list[TaggedLog]:
    draw = random.Random(7)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(WORDS)]
    return [_log(number, draw, vocabulary) for number in range(count)]


def _log(number: int, draw: random.Random, vocabulary: list[str]) -> TaggedLog:
    record = LogRecord(
        log_id=f"log-{number:08}",
        ts_ms=number,
        messages=(Message(role="user", content=" ".join(draw.choices(vocabulary, k=PROMPT_WORDS))),),
        output=(Message(role="assistant", content=" ".join(draw.choices(vocabulary, k=ANSWER_WORDS))),),
        session_id=f"session-{number // 3}",
        consent="train",
    )
    return TaggedLog(log=record, content_digest=msgspec.json.encode(number).hex(), tags=(Tag("topic:math", "rule@1"),))


if __name__ == "__main__":
    main()
