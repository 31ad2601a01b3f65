"""How fast an index is made anew from its own logs, against writing the same logs the first time, in turns.

    python -m benchmarks.reindex --engine elasticsearch --input logs.jsonl.gz --logs 100000 --json

On Elasticsearch also against a copy by hand: `helpers.scan`, and `_bulk` of bytes that lie ready into an index of the same mapping.
It makes no logs of what it reads and no documents of logs, and does not ask for what was written or deleted meanwhile.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import typer
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_scan
from engines.own_index import opened

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.filled_index import engine_urls
from benchmarks.harness import ratio, report, take_turns
from benchmarks.options import Engine, Input, Json, Logs, Rounds
from tunemill.indexer.bulk import Bulk
from tunemill.indexer.document import to_document
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.elastic_rebuild import PAGE
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.records import TaggedLog
from tunemill.streams.rules import load_rules

WRITTEN = 2_000  # logs at once, as the stream writes them


def main(
    engine: Engine = "embedded",
    input: Input = SAMPLE,
    logs: Logs = 12_000,
    rounds: Rounds = 3,
    json: Json = False,
) -> None:
    """Measure logs per second."""
    batches = Batches(read(input), logs, load_rules())
    with engine_urls(engine) as (url, _), asyncio.Runner() as runner:
        own = AsyncExitStack()
        try:
            index = runner.run(own.enter_async_context(opened(url)))
            figures = take_turns(_sides(runner, url, index, list(batches.tagged())), unit="logs/s", rounds=rounds)
        finally:
            runner.run(own.aclose())
    ratios = {
        f"ratio_{name}": ratio(figures["reindex"], figure) for name, figure in figures.items() if name != "reindex"
    }
    settings = {"input": input.name, "mean_log_bytes": batches.mean_log_bytes, "logs": logs}
    report(f"reindex-{engine}", figures, ratios, settings, as_json=json)


def _sides(
    runner: asyncio.Runner, url: str, index: SearchIndex, logs: Sequence[TaggedLog]
) -> dict[str, Callable[[], float]]:
    """Each way to fill an index with these logs: in logs a second. This index has them already."""
    runner.run(_write(index, logs))
    sides = {
        "reindex": lambda: runner.run(_reindex(index, len(logs))),
        "write": lambda: runner.run(_write_first(url, logs)),
    }
    if isinstance(index, ElasticIndex):
        alias, bodies = index.alias, list(_bodies(logs))
        sides["by_hand"] = lambda: runner.run(_copy_by_hand(url, alias, bodies, len(logs)))
    return sides


async def _reindex(index: SearchIndex, logs: int) -> float:
    async def as_they_are(some: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
        return some

    async def unmoved(_logs: int) -> None:
        return None

    started = time.perf_counter()
    await index.rebuild(as_they_are, progress=unmoved)
    await index.refresh()
    taken_s = time.perf_counter() - started
    await _expect(index, logs)
    return logs / taken_s


async def _write_first(url: str, logs: Sequence[TaggedLog]) -> float:
    async with opened(url) as index:
        started = time.perf_counter()
        await _write(index, logs)
        taken_s = time.perf_counter() - started
        await _expect(index, len(logs))
    return len(logs) / taken_s


async def _write(index: SearchIndex, logs: Sequence[TaggedLog]) -> None:
    for start in range(0, len(logs), WRITTEN):
        await index.write(logs[start : start + WRITTEN])
    await index.refresh()


async def _expect(index: SearchIndex, logs: int) -> None:
    found = (await index.size()).logs
    if found != logs:
        raise RuntimeError(f"the index has {found} logs, and it should have {logs}")


def _bodies(logs: Sequence[TaggedLog]) -> Iterator[bytes]:
    """Of `_bulk` requests with as many logs as a rebuild copies at once."""
    for start in range(0, len(logs), PAGE):
        bulk = Bulk()
        for log in logs[start : start + PAGE]:
            bulk.create(to_document(log))
        yield bytes(bulk.body(range(len(bulk))))


async def _copy_by_hand(url: str, alias: str, bodies: Sequence[bytes], logs: int) -> float:
    target = f"{alias}-by-hand"  # the alias's template gives it the mapping
    async with AsyncElasticsearch(url, request_timeout=60) as client:
        await client.indices.create(index=target)
        try:
            started = time.perf_counter()
            left = iter(bodies)
            async for _page in _pages(client, alias):
                answer = await client.bulk(operations=next(left), index=target, filter_path="errors")  # type: ignore[arg-type]  # bytes are sent as they are
                if answer["errors"]:
                    raise RuntimeError("Elasticsearch refused some of the documents")
            await client.indices.refresh(index=target)
            taken_s = time.perf_counter() - started
            if (found := (await client.count(index=target))["count"]) != logs:
                raise RuntimeError(f"the copy has {found} logs, and it should have {logs}")
        finally:
            await client.indices.delete(index=target)
    return logs / taken_s


async def _pages(client: AsyncElasticsearch, alias: str) -> AsyncIterator[int]:
    """How many documents each page of `helpers.scan` has."""
    read = 0
    async for _hit in async_scan(client, index=alias, size=PAGE):
        read += 1
        if read == PAGE:
            yield read
            read = 0
    if read:
        yield read


if __name__ == "__main__":
    typer.run(main)
