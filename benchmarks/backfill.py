"""How fast rules reach history: a backfill and its undo against a bare loop that scans, tags and writes, in turns on one index.

    python -m benchmarks.backfill --engine embedded --input logs.jsonl.gz --logs 100000 --json

The rules are the starter set and one more that many logs meet. The loop uses the same tagging and the same index, but keeps no
note of what it did and no place, asks nobody whether a log changed meanwhile, and can neither go on after a crash nor be undone.
"""

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_bulk, async_scan
from engines import choose

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.harness import Figure, ratio, report, take_turns
from tunemill.curator_api import job_store as store
from tunemill.curator_api import rules_job
from tunemill.curator_api.job_runner import do_next
from tunemill.curator_api.job_work import PAGE, Jobs
from tunemill.indexer import mapping
from tunemill.indexer.document import to_document
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.registry import rule_sets
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.stored import StoredLog
from tunemill.streams.near import Near
from tunemill.streams.rules import load_rules, starter_text
from tunemill.streams.tagging import StreamTagging, Tagger

WRITE = 2_000  # logs at once when the index is filled
ONE_MORE = """
  - {name: asks-how, version: 1, tag: "topic:how", any: [{in: user, literal: [how many]}]}
"""


def main(
    engine: Annotated[str, typer.Option(help="elasticsearch or embedded.")] = "embedded",
    input: Annotated[Path, typer.Option(help="Logs of any accepted shape: JSON lines, gzipped or not.")] = SAMPLE,
    logs: Annotated[int, typer.Option(help="Logs in the index; the input is repeated under fresh ids.")] = 12_000,
    rounds: Annotated[int, typer.Option(help="Rounds that count.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure logs per second."""
    if engine not in {"elasticsearch", "embedded"}:
        raise typer.BadParameter("--engine is elasticsearch or embedded")
    batches = Batches(read(input), logs, load_rules())
    project = f"bench-{uuid.uuid4().hex[:8]}"
    with _engine(engine) as (index_url, registry_url), asyncio.Runner() as runner:
        bench = _Bench(runner, index_url, registry_url, project)
        try:
            runner.run(bench.fill(batches))
            figures = bench.measure(logs, rounds)
        finally:
            runner.run(bench.close())
    ratios = {"ratio_loop": ratio(figures["backfill"], figures["loop"])}
    settings = {"input": input.name, "logs": logs, "changed": bench.changed, "rules": len(batches.rules.rules) + 1}
    report(f"backfill-{engine}", figures, ratios, settings, as_json=json)


@contextmanager
def _engine(name: str) -> Iterator[tuple[str, str]]:
    """The addresses of the index and the registry."""
    with tempfile.TemporaryDirectory() as scratch:
        registry = f"sqlite:///{scratch}/registry.db"
        if name == "embedded":
            yield f"local:{scratch}", registry
        else:
            with choose.elasticsearch() as url:
                yield url, registry


class _Bench:
    """An index full of logs that are tagged by the starter set, and what is done to them in turns."""

    def __init__(self, runner: asyncio.Runner, index_url: str, registry_url: str, project: str) -> None:
        self._runner = runner
        self._index = open_index(index_url, project=project)
        self._raw = None if index_url.startswith("local:") else AsyncElasticsearch(index_url)
        self._project = project
        self._registry = open_registry(registry_url)
        migrate(self._registry)
        tagging = StreamTagging()
        self._with_more = starter_text() + ONE_MORE
        self._revision = rule_sets.put(self._registry, project, by="person:bench", document=self._with_more).revision
        self._on = Jobs(index=self._index, registry=self._registry, tagging=tagging, project=project)
        self._before = tagging.compiled(None, (), whole=True)
        self._after = tagging.compiled(self._with_more, (), whole=True)
        self.changed = 0
        self._tagged: int | None = None  # how many logs meet the rule that is new
        rules_job.SETTLE_S = 0.0  # there is no worker to wait for
        self._undo_per_s: list[float] = []

    async def fill(self, batches: Batches) -> None:
        """The logs, as the stream makes them; the input comes again and again, so that most are near-duplicates."""
        near = Near()
        await self._index.setup()
        tagged = batches.tagged()
        while chunk := list(islice(tagged, WRITE)):
            await self._index.write([near.mark(log) for log in chunk])
        await self._index.refresh()

    def measure(self, logs: int, rounds: int) -> dict[str, Figure]:
        """Forth and back again, in turns."""
        sides: dict[str, Callable[[], float]] = {"backfill": self._backfill, "loop": self._loop}
        figures = take_turns(sides, unit="logs/s", rounds=rounds)
        undo = Figure("logs/s", tuple(self._undo_per_s[-rounds:]))
        return figures | {"undo": undo}

    async def close(self) -> None:
        """Let go of everything, and leave nothing in an Elasticsearch that others use."""
        if self._raw is not None:
            for alias in mapping.templates(self._project):
                await self._raw.indices.delete(index=mapping.first_index(alias), ignore_unavailable=True)
                await self._raw.options(ignore_status=404).indices.delete_index_template(name=alias)
            await self._raw.close()
        await self._index.close()
        self._registry.dispose()

    def _backfill(self) -> float:
        return self._runner.run(self._there_and_back())

    def _loop(self) -> float:
        return self._runner.run(self._loop_there_and_back())

    async def _there_and_back(self) -> float:
        total = (await self._index.search(SearchRequest(parse(""), limit=0))).total
        begun = store.start(
            self._registry,
            self._project,
            kind="rules",
            query="",
            revision=self._revision,
            total=total,
            by="person:bench",
        )
        started = time.perf_counter()
        await do_next(self._on, "bench", asyncio.Event())
        there_s = time.perf_counter() - started
        done = store.find(self._registry, self._project, begun.job_id)
        if (done.status, done.seen) != ("done", total):
            raise RuntimeError(f"the backfill ended as {done.status} after {done.seen} of {total} logs")
        self.changed = done.changed
        await self._expect(self._tagged)
        store.undo(self._registry, self._project, begun.job_id, by="person:bench")
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
        found = (await self._index.search(SearchRequest(parse("tag:topic:how"), limit=0))).total
        if tagged is None:
            self._tagged = found
        elif found != tagged:
            raise RuntimeError(f"{found} logs have the tag, and {tagged} should")

    async def _by_hand(self, tagger: Tagger) -> tuple[int, int]:
        seen = changed = 0
        async for page in self._pages():
            seen += len(page)
            both = await asyncio.to_thread(lambda logs: [(log, tagger.retag(log)) for log in logs], page)
            new = [after for before, after in both if before != after]
            changed += len(new)
            await self._write(new)
        await self._index.refresh()
        return seen, changed

    async def _pages(self) -> AsyncIterator[list[TaggedLog]]:
        page: list[TaggedLog] = []
        async for log in self._scan():
            page.append(log)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    async def _scan(self) -> AsyncIterator[TaggedLog]:
        if self._raw is None:
            async for log in self._index.scan(parse(""), limit=None):
                yield log
        else:
            alias = mapping.alias(self._project)
            async for hit in async_scan(self._raw, index=alias, size=PAGE, _source=["record"]):
                yield msgspec.convert(hit["_source"]["record"], TaggedLog)

    async def _write(self, logs: list[TaggedLog]) -> None:
        if self._raw is None:
            found = (await self._index.stored(log_ids=[log.log.log_id for log in logs], trace_ids=[])).logs
            await self._index.replace([StoredLog(log, found[log.log.log_id].version) for log in logs])
        else:
            alias = mapping.alias(self._project)
            actions = [
                {"_index": alias, "_id": log.log.log_id, "_source": msgspec.to_builtins(to_document(log))}
                for log in logs
            ]
            await async_bulk(self._raw, actions, chunk_size=PAGE)


if __name__ == "__main__":
    typer.run(main)
