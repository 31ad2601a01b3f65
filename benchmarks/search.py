"""How long a search takes as the index grows: the first 20 logs with highlights, exact total, facets and histogram.

    python -m benchmarks.search --engine embedded --sizes 10000,100000,1000000 --input logs.jsonl.gz --json

The logs are the input's, recombined so that the vocabulary grows with their number. Each kind of query is asked `--asks` times,
one after the other, each time with other words of the logs, so that nothing is answered from memory; p50 and p99 are over these.
The exponent says by which power of the number of logs the median grows. Elasticsearch is asked the same bodies by hand, too, with the
client as it comes: as they are, so that those answers lack the highlights, which are ours, and with highlights of Elasticsearch's.
On the embedded engine the API is asked the same as the port, in this process and over a socket, and the memory of `tunemill up` is
read, empty and with the largest index.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from pathlib import Path
from typing import Annotated, Any

import typer
from elasticsearch import AsyncElasticsearch
from engines import choose
from engines.own_index import opened

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.harness import report
from benchmarks.options import Engine, Input, Json
from benchmarks.processes import rss_bytes
from benchmarks.questions import LIMIT, questions
from benchmarks.recombine import Recombined, taken
from benchmarks.search_service import in_process_ms, over_socket_ms, served
from tunemill.indexer.document import texts
from tunemill.indexer.fields import PARTS
from tunemill.indexer.highlight import AROUND, MAX_FRAGMENTS, highlight
from tunemill.indexer.open import open_index
from tunemill.indexer.search import SearchIndex, SearchRequest
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.records import TaggedLog
from tunemill.streams.rules import load_rules

SIZES = {"embedded": "10000,100000,1000000", "elasticsearch": "10000,100000,300000"}
WRITTEN = 2_000  # logs at once
ASKED_OF = 2_000  # logs whose words are asked for
WARMING = 20  # asks of each kind that do not count
OVER_HTTP = 200  # asks of each kind
MIB = 2**20
# Of the same texts, as many and about as long as ours.
HIGHLIGHTED = {"fields": {part: {"fragment_size": 2 * AROUND, "number_of_fragments": MAX_FRAGMENTS} for part in PARTS}}

Ask = Callable[[SearchRequest], Awaitable[Any]]


@dataclass(frozen=True)
class Corpus:
    """Where the logs come from, and some of those that were written."""

    made: Recombined
    logs: Iterator[TaggedLog]
    some: list[TaggedLog]


def main(
    engine: Engine = "embedded",
    input: Input = SAMPLE,
    sizes: Annotated[
        str | None, typer.Option(help="Logs in the index, the smallest first; by default three sizes.")
    ] = None,
    asks: Annotated[int, typer.Option(help="Searches of each kind.", min=2)] = 1_000,
    json: Json = False,
) -> None:
    """Measure milliseconds per search."""
    wanted = [int(size) for size in (sizes or SIZES[engine]).split(",")]
    made = Recombined(list(Batches(records := read(input), len(records), load_rules()).tagged()))
    corpus = Corpus(made, made.logs(), [])
    found = asyncio.run((_embedded if engine == "embedded" else _elasticsearch)(corpus, wanted, asks))
    settings = {"input": input.name, "sizes": wanted, "asks": asks, "limit": LIMIT}
    _show(found["ms"])
    report(f"search-{engine}", {}, {}, settings, as_json=json, also=found)


async def _embedded(corpus: Corpus, sizes: Sequence[int], asks: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        empty, data = Path(scratch) / "empty", Path(scratch) / "data"
        index = open_index(f"local:{data / 'index'}", project=PROJECT)
        await index.setup()
        ms, vocabulary = await _growing(index, corpus, sizes, asks)
        await index.close()
        asked = questions(corpus.some, min(asks, OVER_HTTP), seed=0)
        port, in_process = await in_process_ms(data, asked)
        async with served(empty) as (_, pid):
            memory = {"idle": round(rss_bytes(pid) / MIB)}
        async with served(data) as (client, pid):
            over_socket = await over_socket_ms(client, asked)
            memory[f"with {sizes[-1]} logs"] = round(rss_bytes(pid) / MIB)
    added_ms = {
        kind: {"in process": round(in_process[kind], 2), "over a socket": round(over_socket[kind] - port[kind], 2)}
        for kind in asked
    }
    return {**_growth(ms, sizes), "vocabulary": vocabulary, "api_adds_ms": added_ms, "memory_mib": memory}


async def _elasticsearch(corpus: Corpus, sizes: Sequence[int], asks: int) -> dict[str, Any]:
    with choose.elasticsearch() as url:
        async with opened(url) as index, AsyncElasticsearch(url) as client:
            ms, vocabulary = await _growing(index, corpus, sizes, asks)
            by_hand = await _by_hand(index, client, corpus, asks)
    return {**_growth(ms, sizes), "vocabulary": vocabulary, "by_hand": by_hand}


async def _growing(
    index: SearchIndex, corpus: Corpus, sizes: Sequence[int], asks: int
) -> tuple[dict[str, dict[int, list[float]]], dict[int, int]]:
    """Milliseconds of each search by kind and size, and how many words there were at each size."""
    ms: dict[str, dict[int, list[float]]] = {}
    vocabulary = {}
    written = 0
    for size in sizes:
        await _fill(index, corpus, size - written)
        written = size
        vocabulary[size] = corpus.made.words
        for kind, requests in questions(corpus.some, asks + WARMING, seed=size).items():
            ms.setdefault(kind, {})[size] = (await _times_ms(index.search, requests))[WARMING:]
            print(f"{size} logs, {kind}: {statistics.median(ms[kind][size]):.3g} ms", file=sys.stderr)
    return ms, vocabulary


async def _fill(index: SearchIndex, corpus: Corpus, wanted: int) -> None:
    for some in taken(corpus.logs, wanted, at_once=WRITTEN):
        await index.write(some)
        corpus.some.extend(some[: max(1, ASKED_OF * len(some) // wanted)])
    await index.refresh()


async def _times_ms(ask: Ask, requests: Sequence[SearchRequest]) -> list[float]:
    times = []
    for request in requests:
        started = time.perf_counter()
        await ask(request)
        times.append((time.perf_counter() - started) * 1000)
    return times


def _growth(ms: Mapping[str, Mapping[int, list[float]]], sizes: Sequence[int]) -> dict[str, Any]:
    """Median, 99th percentile and exponent of each kind."""
    found = {
        kind: {str(size): {"p50": statistics.median(times), "p99": _p99(times)} for size, times in by_size.items()}
        for kind, by_size in ms.items()
    }
    exponents = {
        kind: statistics.linear_regression(
            [log(size) for size in sizes], [log(by_size[str(size)]["p50"]) for size in sizes]
        ).slope
        for kind, by_size in found.items()
        if len(sizes) > 1
    }
    rounded = {
        kind: {size: {name: round(value, 3) for name, value in of.items()} for size, of in by_size.items()}
        for kind, by_size in found.items()
    }
    return {"ms": rounded, "exponent": {kind: round(value, 3) for kind, value in exponents.items()}}


def _p99(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _show(ms: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    for kind, by_size in ms.items():
        print(f"{kind}: " + "; ".join(f"{size} logs p50 {of['p50']}, p99 {of['p99']}" for size, of in by_size.items()))


async def _by_hand(index: Any, client: AsyncElasticsearch, corpus: Corpus, asks: int) -> dict[str, Any]:
    """Milliseconds of ours and of the same bodies by hand, with highlights and without, in turns; and what our highlights take."""
    found: dict[str, Any] = {}
    for kind, requests in questions(corpus.some, asks, seed=0).items():
        bodies = [
            await _body(index, request) for request in requests
        ]  # asked once already: neither side meets it first
        times: dict[str, list[float]] = {"ours": [], "by hand": [], "by hand with highlights": [], "our highlights": []}
        for number, (request, body) in enumerate(zip(requests, bodies, strict=True)):
            sides: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
                ("ours", partial(index.search, request)),
                ("by hand", partial(client.search, **body)),
                ("by hand with highlights", partial(client.search, **body, highlight=HIGHLIGHTED)),
            ]
            for side, ask in sides[number % 3 :] + sides[: number % 3]:
                started = time.perf_counter()
                answer = await ask()
                times[side].append(time.perf_counter() - started)
                if side == "ours":
                    started = time.perf_counter()
                    for hit in answer.hits:
                        highlight(request.query, texts(hit.log))
                    times["our highlights"].append(time.perf_counter() - started)
        medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
        ratios = {
            "ratio_by_hand": medians["ours"] / medians["by hand"],
            "ratio_by_hand_with_highlights": medians["ours"] / medians["by hand with highlights"],
            "ratio_by_hand_without_ours": (medians["ours"] - medians["our highlights"]) / medians["by hand"],
        }
        found[kind] = {name: round(value, 3) for name, value in (medians | ratios).items()}
        print(f"{kind}: {found[kind]}", file=sys.stderr)
    return found


async def _body(index: Any, request: SearchRequest) -> dict[str, Any]:
    """What our port asks Elasticsearch, for the alias in place of a point in time."""
    asked: list[dict[str, Any]] = []
    plain = index._client.search

    async def noted(**body: Any) -> Any:
        asked.append(body)
        return await plain(**body)

    index._client.search = noted
    await index.search(request)
    index._client.search = plain
    page = next(
        body for body in asked if body["size"]
    )  # around it there may be questions after the first and the last log
    return {name: value for name, value in page.items() if name != "pit"} | {"index": index.alias}


if __name__ == "__main__":
    typer.run(main)
