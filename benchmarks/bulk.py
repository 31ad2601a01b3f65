"""How fast a person's tag reaches all logs: a job and its undo against a bare loop that scans and writes, in turns on one index.

    python -m benchmarks.bulk --engine embedded --input logs.jsonl.gz --logs 100000 --json

The loop uses the same index, but remembers nobody's edit, asks nobody whether a log changed meanwhile, and can neither go on after a
crash nor be undone.
"""

import asyncio
import time
from collections.abc import Callable

import typer
from msgspec.structs import replace

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.filled_index import FilledIndex, filled_index
from benchmarks.harness import Figure, ratio, report, take_turns
from benchmarks.options import Engine, Input, Json, Logs, Rounds
from tunemill.curator_api import job_store as store
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_work import Jobs
from tunemill.schemas.records import Tag, TaggedLog
from tunemill.streams.rules import load_rules
from tunemill.streams.tagging import StreamTagging

ADDED = Tag("bench:added", "person:bench")


def main(
    engine: Engine = "embedded",
    input: Input = SAMPLE,
    logs: Logs = 12_000,
    rounds: Rounds = 3,
    json: Json = False,
) -> None:
    """Measure logs per second."""
    batches = Batches(read(input), logs, load_rules())
    with filled_index(engine, batches) as (runner, filled):
        figures = _Bench(runner, filled, logs).measure(rounds)
    ratios = {"ratio_loop": ratio(figures["job"], figures["loop"])}
    report(f"bulk-{engine}", figures, ratios, {"input": input.name, "logs": logs}, as_json=json)


class _Bench:
    """A full index, and a tag that is put on all of its logs and taken off, in turns."""

    def __init__(self, runner: asyncio.Runner, filled: FilledIndex, logs: int) -> None:
        self._runner, self._filled, self._logs = runner, filled, logs
        self._on = Jobs(index=filled.index, registry=filled.registry, tagging=StreamTagging(), project=filled.project)
        self._undo_per_s: list[float] = []

    def measure(self, rounds: int) -> dict[str, Figure]:
        """Forth and back again, in turns."""
        sides: dict[str, Callable[[], float]] = {
            "job": lambda: self._runner.run(self._job()),
            "loop": lambda: self._runner.run(self._loop()),
        }
        figures = take_turns(sides, unit="logs/s", rounds=rounds)
        return figures | {"undo": Figure("logs/s", tuple(self._undo_per_s[-rounds:]))}

    async def _job(self) -> float:
        registry, project = self._on.registry, self._on.project
        work = {"add": [ADDED.tag]}
        begun = store.start(registry, project, kind="tags", query="", total=self._logs, by=ADDED.by, work=work)
        started = time.perf_counter()
        await do_next(self._on, "bench", asyncio.Event())
        there_s = time.perf_counter() - started
        await self._expect(self._logs)
        store.undo(registry, project, begun.job_id, by=ADDED.by)
        started = time.perf_counter()
        await do_next(self._on, "bench", asyncio.Event())
        self._undo_per_s.append(self._logs / (time.perf_counter() - started))
        await self._expect(0)
        return self._logs / there_s

    async def _loop(self) -> float:
        started = time.perf_counter()
        await self._by_hand(lambda log: replace(log, tags=(*log.tags, ADDED)))
        there_s = time.perf_counter() - started
        await self._expect(self._logs)
        await self._by_hand(lambda log: replace(log, tags=tuple(tag for tag in log.tags if tag != ADDED)))
        await self._expect(0)
        return self._logs / there_s

    async def _by_hand(self, change: Callable[[TaggedLog], TaggedLog]) -> None:
        async for page in self._filled.pages():
            await self._filled.write([change(log) for log in page])
        await self._filled.index.refresh()

    async def _expect(self, tagged: int) -> None:
        found = await self._filled.count(f"tag:{ADDED.tag}")
        if found != tagged:
            raise RuntimeError(f"{found} logs have the tag, and {tagged} should")


if __name__ == "__main__":
    typer.run(main)
