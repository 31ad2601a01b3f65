"""How fast all logs of a query come from Elasticsearch: through our port, and through `elasticsearch.helpers.scan`.

    python -m benchmarks.scan --input logs.jsonl.gz --json

In turns, on one index that is merged and not written to. `dump` gives the JSON of each log, `scan` decoded logs in order of time,
`helpers.scan` dicts in no order, with the size that was its best in a first round. The CPU of both processes says who is the
limit: Elasticsearch is, where it keeps as many cores busy as it is given and we wait.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Annotated

import typer
from elasticsearch import AsyncElasticsearch, Elasticsearch
from elasticsearch.helpers import scan as helpers_scan
from engines import choose

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.harness import Figure, ratio, report, take_turns
from benchmarks.live_engines import pid_of
from benchmarks.options import Input, Json, Logs, Rounds
from benchmarks.processes import cpu_s
from tunemill.indexer.elastic_query import to_dsl
from tunemill.indexer.mapping import alias, first_index
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex
from tunemill.streams.rules import load_rules

HELPERS_SIZES = (500, 1_000, 2_000, 5_000)  # logs of each of its pages
WRITTEN = 2_000  # logs at once

Read = Callable[[], int]  # all logs, by one way: how many there were


def main(
    input: Input = SAMPLE,
    logs: Logs = 50_000,
    query: Annotated[str, typer.Option(help="What is read.")] = "",
    rounds: Rounds = 5,
    json: Json = False,
) -> None:
    """Measure logs a second."""
    batches = Batches(read(input), logs, load_rules())
    project = f"bench-{uuid.uuid4().hex[:8]}"
    with choose.elasticsearch() as url, asyncio.Runner() as runner, Elasticsearch(url, request_timeout=60) as client:
        index = open_index(url, project=project)
        runner.run(_fill(url, project, index, batches))
        try:
            ways = _ways(runner, index, client, project, query)
            figures, cpu, found = _measure(url, ways, rounds)
        finally:
            runner.run(index.close())
            client.indices.delete(index=first_index(alias(project)))
            client.indices.delete_index_template(name=alias(project))
    ratios = {f"{name} / helpers.scan": ratio(figures[name], figures["helpers.scan"]) for name in ("dump", "scan")}
    settings = {
        "input": input.name,
        "mean_log_bytes": batches.mean_log_bytes,
        "logs": logs,
        "query": query,
        "found": found,
    }
    report("scan", figures, ratios, settings, as_json=json, also={"cpu_us_per_log": cpu})


def _ways(
    runner: asyncio.Runner, index: SearchIndex, client: Elasticsearch, project: str, query: str
) -> dict[str, Read]:
    async def dump() -> int:
        return sum([len(some) async for some in index.dump(parse(query))])

    async def scan() -> int:
        return sum([1 async for _ in index.scan(parse(query), limit=None)])

    def helpers(size: int) -> int:
        body = {"query": to_dsl(parse(query))}
        return sum(1 for _ in helpers_scan(client, index=alias(project), query=body, size=size))

    size = max(HELPERS_SIZES, key=lambda size: _logs_per_s(lambda: helpers(size)))
    return {
        "dump": lambda: runner.run(dump()),
        "scan": lambda: runner.run(scan()),
        "helpers.scan": lambda: helpers(size),
    }


def _measure(
    url: str, ways: dict[str, Read], rounds: int
) -> tuple[dict[str, Figure], dict[str, dict[str, float]], int]:
    """Logs a second by way, the CPU that each took of both processes, and how many logs there were."""
    server = pid_of(url)
    found = {name: way() for name, way in ways.items()}
    if len(set(found.values())) != 1:
        raise RuntimeError(f"not all ways find the same: {found}")
    count = found["dump"]
    cpu: dict[str, dict[str, float]] = {}

    def watched(name: str) -> Callable[[], float]:
        def once() -> float:
            ours, theirs = time.process_time(), cpu_s(server) if server else 0.0
            rate = _logs_per_s(ways[name])
            spent = {"reader": time.process_time() - ours}
            spent |= {"elasticsearch": cpu_s(server) - theirs} if server else {}
            cpu[name] = {process: round(seconds / max(1, count) * 1e6, 1) for process, seconds in spent.items()}
            return rate

        return once

    return take_turns({name: watched(name) for name in ways}, unit="logs/s", rounds=rounds), cpu, count


def _logs_per_s(way: Read) -> float:
    started = time.perf_counter()
    return way() / (time.perf_counter() - started)


async def _fill(url: str, project: str, index: SearchIndex, batches: Batches) -> None:
    await index.setup()
    tagged = list(batches.tagged())
    for start in range(0, len(tagged), WRITTEN):
        await index.write(tagged[start : start + WRITTEN])
    async with AsyncElasticsearch(url, request_timeout=600) as client:
        await client.indices.forcemerge(index=alias(project), max_num_segments=1)
    await index.refresh()


if __name__ == "__main__":
    typer.run(main)
