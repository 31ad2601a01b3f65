"""Whether both engines find the same: generated queries over one corpus, their logs, totals, facets and histograms compared.

    python -m benchmarks.parity --corpus logs.jsonl.gz --queries 2000 --seed 1 --json

The corpus is the file's logs and as many again as `--made` says, which are made of many scripts to be hard to search. It ends with
`queries`, `mismatches`, `known` (differences of a kind that `docs/query.md` lists) and some `examples` of mismatches.
"""

import asyncio
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from engines import choose
from engines.errors import EngineAbsent
from engines.own_index import opened

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.harness import report
from benchmarks.made_queries import MadeQueries
from benchmarks.mixed_logs import mixed_logs
from tunemill.indexer.document import to_document
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex, SearchRequest
from tunemill.schemas.records import TaggedLog
from tunemill.streams.rules import load_rules

MOST_EXAMPLES = 20
MOST_IDS = 5  # in an example
NOW_MS = 1_790_000_000_000  # what `now` means in all queries
ENGINES = ("embedded", "elasticsearch")
# Differences that `docs/query.md` lists, by what a query has that meets them.
KNOWN = {
    "stems": re.compile(r"(?<![a-z])(?:emerg|even|inter|later|organ|past|univers)|logist", re.IGNORECASE),
}


class Found(NamedTuple):
    """What one engine answers."""

    log_ids: frozenset[str]
    total: int
    facets: Mapping[str, Any]
    histogram: Any


def main(
    corpus: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Logs of any accepted shape: JSON lines, gzipped or not.")
    ] = SAMPLE,
    queries: Annotated[int, typer.Option(help="How many to ask.")] = 2000,
    made: Annotated[int, typer.Option(help="Logs that are made beside those of the corpus.")] = 600,
    seed: Annotated[int, typer.Option(help="Of the queries and the made logs.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Count the queries to which the engines answer differently."""
    logs = [*_stored(corpus), *mixed_logs(made, seed=seed)]
    asked = list(islice(MadeQueries([to_document(log) for log in logs], seed=seed), queries))
    try:
        with tempfile.TemporaryDirectory() as scratch, choose.elasticsearch() as url:
            answers = asyncio.run(_answers([f"local:{scratch}", url], logs, asked))
    except EngineAbsent as absent:
        print(f"there is no Elasticsearch to compare with: {absent}", file=sys.stderr)
        raise typer.Exit(2) from absent
    differing = {text: found for text, found in zip(asked, answers, strict=True) if found[0] != found[1]}
    known = Counter(name for text in differing for name in _known(text))
    unknown = {text: _difference(found) for text, found in differing.items() if not _known(text)}
    for text, difference in unknown.items():
        print(f"{text}\n  {difference}")
    also = {
        "queries": len(asked),
        "mismatches": len(unknown),
        "known": known,
        "examples": [{"query": text} | difference for text, difference in islice(unknown.items(), MOST_EXAMPLES)],
        "engines": ENGINES,
        "found_nothing": sum(not found[0].log_ids for found in answers),
    }
    print(f"{len(asked)} queries, {len(unknown)} mismatches, known: {dict(known)}")
    settings = {"corpus": corpus.name, "logs": len(logs), "seed": seed}
    report("parity", {}, {}, settings, as_json=as_json, also=also)


def _stored(corpus: Path) -> list[TaggedLog]:
    """The logs of a file, tagged, under ids that are the same each time."""
    records = read(corpus)
    tagged = Batches(records, len(records), load_rules()).tagged()
    return [
        msgspec.structs.replace(one, log=msgspec.structs.replace(one.log, log_id=f"log-{at}"))
        for at, one in enumerate(tagged)
    ]


async def _answers(urls: Sequence[str], logs: Sequence[TaggedLog], asked: Sequence[str]) -> list[tuple[Found, Found]]:
    async with AsyncExitStack() as open_indices:
        indices = [await open_indices.enter_async_context(opened(url)) for url in urls]
        for index in indices:
            for start in range(0, len(logs), 1000):
                await index.write(logs[start : start + 1000])
            await index.refresh()
        return [pair async for pair in _pairs(indices, asked)]


async def _pairs(indices: Sequence[SearchIndex], asked: Sequence[str]) -> AsyncIterator[tuple[Found, Found]]:
    for text in asked:
        first, second = [await _found(index, text) for index in indices]
        yield first, second


async def _found(index: SearchIndex, text: str) -> Found:
    query = parse(text, now_ms=NOW_MS)
    page = await index.search(SearchRequest(query, limit=0))
    log_ids = {dumped.log_id async for page in index.dump(query) for dumped in page}
    return Found(frozenset(log_ids), page.total, page.facets, page.histogram)


def _known(query: str) -> list[str]:
    """The kinds of known differences that this query may meet."""
    return [name for name, pattern in KNOWN.items() if pattern.search(query)]


def _difference(found: tuple[Found, Found]) -> dict[str, Any]:
    """What differs, and some of the logs that one engine alone finds."""
    names = [name for name in Found._fields if getattr(found[0], name) != getattr(found[1], name)]
    only = {
        f"only {engine}": sorted(ours.log_ids - theirs.log_ids)[:MOST_IDS]
        for engine, ours, theirs in zip(ENGINES, found, reversed(found), strict=True)
    }
    return {"differ": names, **only}


if __name__ == "__main__":
    typer.run(main)
