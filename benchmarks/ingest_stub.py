"""What the stream itself costs: messages through the worker's batches, against an index that takes everything at once.

Everything of ours is real, the requests to the index among it; the index is a process that stores nothing, and no Kafka is in
it. Logs a second of this process's CPU, all its threads together, whatever else the machine does.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.batches import Batches
from benchmarks.harness import Figure, take_turns
from benchmarks.many_rules import rules_in_all
from benchmarks.stub_elasticsearch import stub_elasticsearch
from tunemill.bus.port import Message
from tunemill.bus.sqlite import SqliteBus
from tunemill.indexer.open import open_index
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.records import LogRecord
from tunemill.schemas.topics import LOGS, TOPICS
from tunemill.streams.batch import Hop, run_batch
from tunemill.streams.erased import follow_erasures
from tunemill.streams.garbage import collected_seldom
from tunemill.streams.rulebook import Rulebook

LONG_LOG_BYTES = 4_096
RULES = 200
BATCH_MESSAGES = 16  # about a thousand logs


def measure(batches: Batches, *, rounds: int) -> tuple[dict[str, Figure], dict[str, float], dict[str, Any]]:
    """Logs per second of CPU: of logs of 4 KB with 200 rules, and of the input as it is with the starter set."""
    long = Batches(longer(batches.records, LONG_LOG_BYTES), batches.count, rules_in_all(RULES))
    with stub_elasticsearch() as url:
        sides = {
            f"{LONG_LOG_BYTES // 1024} KB logs, {RULES} rules": lambda: _per_cpu_s(long, url),
            "the input's logs, the starter set": lambda: _per_cpu_s(batches, url),
        }
        figures = take_turns(sides, unit="logs/s of CPU", rounds=rounds)
    per_core = round(next(iter(figures.values())).median)
    return figures, {}, {"logs_per_s_per_core": per_core, "long_log_bytes": long.mean_log_bytes}


def longer(records: Sequence[LogRecord], size_bytes: int) -> list[LogRecord]:
    """Logs of about this size: each is a conversation of several of these logs, one after another."""
    found: list[LogRecord] = []
    remaining = iter(records)
    while (first := next(remaining, None)) is not None:
        messages, output, size = list(first.messages), first.output, len(msgspec.json.encode(first))
        while size < size_bytes and (more := next(remaining, None)) is not None:
            size += len(msgspec.json.encode((more.messages, more.output)))
            messages, output = [*messages, *output, *more.messages], more.output
        if size >= size_bytes or not found:
            found.append(msgspec.structs.replace(first, messages=tuple(messages), output=output))
    return found


class CpuClock:
    """The CPU that this process uses, all threads together, while the clock runs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started_s = 0.0

    def start(self) -> None:
        """Go on."""
        self._started_s = time.process_time()

    def stop(self) -> None:
        """Halt."""
        self.seconds += time.process_time() - self._started_s


async def work_through(batches: Batches, url: str, clock: CpuClock) -> None:
    """All these logs through the worker's batches into the index at `url`; the clock runs for the worker's part."""
    messages = _received(batches)
    with tempfile.TemporaryDirectory() as scratch:
        bus, index = SqliteBus(Path(scratch) / "bus.db"), open_index(url, project=PROJECT)
        await bus.create_topics(TOPICS)
        await index.setup()
        async with follow_erasures(bus, index) as erased:
            await erased.catch_up()
            hop, ended = Hop(index, bus, erased, Rulebook(batches.rules)), 0
            with collected_seldom():
                while batch := list(islice(messages, BATCH_MESSAGES)):
                    clock.start()
                    ended += sum((await run_batch(batch, hop)).values())
                    clock.stop()
        await index.close()
        await bus.close()
    if ended != batches.count:
        raise RuntimeError(f"{ended} logs were accounted for, not {batches.count}")


def _per_cpu_s(batches: Batches, url: str) -> float:
    clock = CpuClock()
    asyncio.run(work_through(batches, url, clock))
    return batches.count / clock.seconds


def _received(batches: Batches) -> Iterator[Message]:
    for offset, message in enumerate(batches.messages()):
        yield Message(LOGS.name, 0, offset, message.key, message.value, 0)
