"""How long a search takes: through our port against the engine's own client asked the same, in turns, on the same index.

    python -m benchmarks.search --engine embedded --input logs.jsonl.gz --json

A search gives the first 20 logs decoded, the exact total, five facets and highlights. Elasticsearch by hand gives the same with
its own highlighter, as undecoded JSON. tantivy by hand gives the places of the hits, the total and the facets, but no logs.
"""

import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tantivy
import typer
from elasticsearch import AsyncElasticsearch
from engines import choose

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.harness import Figure, ratio, report, take_turns
from tunemill.indexer.elastic_query import to_dsl
from tunemill.indexer.local_query import to_tantivy
from tunemill.indexer.open import open_index
from tunemill.indexer.projection import Projection
from tunemill.indexer.query import parse
from tunemill.indexer.search import FACET_VALUES, FACETS, SearchIndex, SearchRequest
from tunemill.streams.rules import load_rules

QUERIES = (
    "how",
    "python function",
    '"how many"',
    "price OR money OR weather",
    "eggs -chickens",
    "tag:topic:math",
    "tag:topic:math dollars",
    "how tag:topic:* lang:en",
    "divid*",
    "status:ok",
    "",
    "ts:>2026-01-01 total",
)
REPEATS = 5  # of the whole set, per round and side
LIMIT = 20
AGGREGATIONS = {name: {"terms": {"field": name, "size": FACET_VALUES}} for name in FACETS}

Ask = Callable[[str], Awaitable[Any]]


def main(
    engine: Annotated[str, typer.Option(help="elasticsearch or embedded.")] = "embedded",
    input: Annotated[Path, typer.Option(help="Logs of any accepted shape: JSON lines, gzipped or not.")] = SAMPLE,
    logs: Annotated[int, typer.Option(help="Logs in the index; the input is repeated under fresh ids.")] = 12_000,
    rounds: Annotated[int, typer.Option(help="Rounds that count.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure milliseconds per search."""
    if engine not in {"elasticsearch", "embedded"}:
        raise typer.BadParameter("--engine is elasticsearch or embedded")
    batches = Batches(read(input), logs, load_rules())
    with _engine(engine) as url, asyncio.Runner() as runner:
        figures = _measure(runner, url, batches, rounds)
    ratios = {f"{at} ours / by hand": ratio(figures[f"{at} ours"], figures[f"{at} by hand"]) for at in ("p50", "p95")}
    settings = {
        "input": input.name,
        "logs": logs,
        "queries": list(QUERIES),
        "searches_per_round": len(QUERIES) * REPEATS,
    }
    report(f"search-{engine}", figures, ratios, settings, as_json=json)


@contextmanager
def _engine(name: str) -> Iterator[str]:
    """The index's URL. Elasticsearch is that of the live tests: named by the environment, else started here."""
    if name == "embedded":
        with tempfile.TemporaryDirectory() as scratch:
            yield f"local:{scratch}"
    else:
        with choose.elasticsearch() as url:
            yield url


def _measure(runner: asyncio.Runner, url: str, batches: Batches, rounds: int) -> dict[str, Figure]:
    project = f"bench-{uuid.uuid4().hex[:8]}"
    index = open_index(url, project=project)
    runner.run(_fill(index, batches))
    raw = None if url.startswith("local:") else AsyncElasticsearch(url)
    by_hand = _tantivy(index) if raw is None else _elasticsearch(raw, f"logs-{project}")
    p95: dict[str, list[float]] = {"ours": [], "by hand": []}

    def side(name: str, ask: Ask) -> Callable[[], float]:
        def once() -> float:
            times = runner.run(_times_ms(ask))
            p95[name].append(statistics.quantiles(times, n=20)[-1])
            return statistics.median(times)

        return once

    async def ours(text: str) -> Any:
        return await index.search(SearchRequest(parse(text), limit=LIMIT))

    p50 = take_turns({"ours": side("ours", ours), "by hand": side("by hand", by_hand)}, unit="ms", rounds=rounds)
    runner.run(_close(index, raw, f"logs-{project}"))
    figures = {f"p50 {name}": figure for name, figure in p50.items()}
    return figures | {f"p95 {name}": Figure("ms", tuple(values[-rounds:])) for name, values in p95.items()}


async def _fill(index: SearchIndex, batches: Batches) -> None:
    await index.setup()
    tagged = list(batches.tagged())
    for start in range(0, len(tagged), 2000):
        await index.write(tagged[start : start + 2000])
    await index.refresh()


async def _times_ms(ask: Ask) -> list[float]:
    times = []
    for text in QUERIES * REPEATS:
        started = time.perf_counter()
        await ask(text)
        times.append((time.perf_counter() - started) * 1000)
    return times


def _elasticsearch(client: AsyncElasticsearch, alias: str) -> Ask:
    async def ask(text: str) -> Any:
        return await client.search(
            index=alias,
            query=to_dsl(parse(text)),
            size=LIMIT,
            aggs=AGGREGATIONS,
            source_includes=["record"],
            track_total_hits=True,
            highlight={"fields": {"content": {}}},
        )

    return ask


def _tantivy(index: Any) -> Ask:
    projection: Projection = index._engine.projection  # the same files

    async def ask(text: str) -> Any:
        searcher: tantivy.Searcher = projection.searcher()
        query = to_tantivy(parse(text), projection.schema)
        return searcher.search(query, limit=LIMIT), searcher.aggregate(query, AGGREGATIONS)

    return ask


async def _close(index: SearchIndex, raw: AsyncElasticsearch | None, alias: str) -> None:
    await index.close()
    if raw is not None:
        await raw.indices.delete(index=f"{alias}-000001")
        await raw.indices.delete_index_template(name=alias)
        await raw.close()


if __name__ == "__main__":
    typer.run(main)
