"""How fast rules reach history: a backfill and its undo against a bare loop that scans, tags and writes, in turns on one index.

    python -m benchmarks.backfill --engine embedded --input logs.jsonl.gz --logs 100000 --json

The rules are the starter set and one more that many logs meet. The loop uses the same tagging and the same index, but keeps no
note of what it did and no place, asks nobody whether a log changed meanwhile, and can neither go on after a crash nor be undone.
"""

import asyncio
import time
from collections.abc import Callable

import typer

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.filled_index import FilledIndex, filled_index
from benchmarks.harness import Figure, ratio, report, take_turns
from benchmarks.options import Engine, Input, Json, Logs, Rounds
from tunemill.curator_api import job_store as store
from tunemill.curator_api import rules_job
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_work import Jobs
from tunemill.registry import rule_sets
from tunemill.streams.rules import load_rules, starter_text
from tunemill.streams.tagging import StreamTagging, Tagger

ONE_MORE = """
  - {name: asks-how, version: 1, tag: "topic:how", any: [{in: user, literal: [how many]}]}
"""


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
        bench = _Bench(runner, filled)
        figures = bench.measure(rounds)
    ratios = {"ratio_loop": ratio(figures["backfill"], figures["loop"])}
    settings = {"input": input.name, "logs": logs, "changed": bench.changed, "rules": len(batches.rules.rules) + 1}
    report(f"backfill-{engine}", figures, ratios, settings, as_json=json)


class _Bench:
    """An index full of logs that are tagged by the starter set, and what is done to them in turns."""

    def __init__(self, runner: asyncio.Runner, filled: FilledIndex) -> None:
        self._runner, self._filled = runner, filled
        tagging = StreamTagging()
        self._with_more = starter_text() + ONE_MORE
        self._revision = rule_sets.put(
            filled.registry, filled.project, by="person:bench", document=self._with_more
        ).revision
        self._on = Jobs(index=filled.index, registry=filled.registry, tagging=tagging, project=filled.project)
        self._before = tagging.compiled(None, (), whole=True)
        self._after = tagging.compiled(self._with_more, (), whole=True)
        self.changed = 0
        self._tagged: int | None = None  # how many logs meet the rule that is new
        rules_job.SETTLE_S = 0.0  # there is no worker to wait for
        self._undo_per_s: list[float] = []

    def measure(self, rounds: int) -> dict[str, Figure]:
        """Forth and back again, in turns."""
        sides: dict[str, Callable[[], float]] = {"backfill": self._backfill, "loop": self._loop}
        figures = take_turns(sides, unit="logs/s", rounds=rounds)
        undo = Figure("logs/s", tuple(self._undo_per_s[-rounds:]))
        return figures | {"undo": undo}

    def _backfill(self) -> float:
        return self._runner.run(self._there_and_back())

    def _loop(self) -> float:
        return self._runner.run(self._loop_there_and_back())

    async def _there_and_back(self) -> float:
        total = await self._filled.count("")
        begun = store.start(
            self._on.registry,
            self._on.project,
            kind="rules",
            query="",
            revision=self._revision,
            total=total,
            by="person:bench",
        )
        started = time.perf_counter()
        await do_next(self._on, "bench", asyncio.Event())
        there_s = time.perf_counter() - started
        done = store.find(self._on.registry, self._on.project, begun.job_id)
        if (done.status, done.seen) != ("done", total):
            raise RuntimeError(f"the backfill ended as {done.status} after {done.seen} of {total} logs")
        self.changed = done.changed
        await self._expect(self._tagged)
        store.undo(self._on.registry, self._on.project, begun.job_id, by="person:bench")
        started = time.perf_counter()
        await do_next(self._on, "bench", asyncio.Event())
        self._undo_per_s.append(done.changed / (time.perf_counter() - started))
        await self._expect(0)
        return total / there_s

    async def _loop_there_and_back(self) -> float:
        started = time.perf_counter()
        seen, self.changed = await self._by_hand(self._after)
        there_s = time.perf_counter() - started
        await self._expect(self._tagged)
        await self._by_hand(self._before)
        await self._expect(0)
        return seen / there_s

    async def _expect(self, tagged: int | None) -> None:
        found = await self._filled.count("tag:topic:how")
        if tagged is None:
            self._tagged = found
        elif found != tagged:
            raise RuntimeError(f"{found} logs have the tag, and {tagged} should")

    async def _by_hand(self, tagger: Tagger) -> tuple[int, int]:
        seen = changed = 0
        async for page in self._filled.pages():
            seen += len(page)
            both = await asyncio.to_thread(lambda logs: [(log, tagger.retag(log)) for log in logs], page)
            new = [after for before, after in both if before != after]
            changed += len(new)
            await self._filled.write(new)
        await self._filled.index.refresh()
        return seen, changed


if __name__ == "__main__":
    typer.run(main)
