"""How well each engine ranks: nDCG@10 and recall@50 over queries for which people said what is relevant.

    python -m benchmarks.relevance --corpus logs.jsonl.gz --judgements benchmarks/labels/relevance.json --json

Judgements are `{query: {sha256 of the first user message: grade}}`, grades from 0, the text as it came. A log is known by its first
user message, and of several logs with the same one only the first found counts; what nobody graded counts as 0. The gain of a
grade is 2^grade - 1. Each query is asked as people ask it, all words first and then some; beside it, once for the logs with all words
alone and once with its words joined by OR. A text that is no query, such as a question with a colon, is asked for by its words.
"""

import asyncio
import json
import math
import re
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from engines import choose
from engines.errors import EngineAbsent
from engines.own_index import opened

from benchmarks.batches import SAMPLE, Batches, digest, read
from benchmarks.harness import report
from tunemill.indexer.ast import And, Or, Query
from tunemill.indexer.errors import QueryError
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchPage, SearchRequest
from tunemill.indexer.wider import search_wider
from tunemill.schemas.records import TaggedLog
from tunemill.streams.rules import load_rules

JUDGEMENTS = Path(__file__).parent / "labels" / "relevance.json"
ENGINES = ("embedded", "elasticsearch")
RANKED, RECALLED = 10, 50  # texts
PAGE = 200  # hits

AS_PEOPLE_ASK, ALL_WORDS, ANY_WORD = FORMS = ("all words, then some", "all words", "words by OR")

Grades = Mapping[str, int]  # by digest
Ask = Callable[[SearchRequest], Awaitable[SearchPage]]


class Quality(NamedTuple):
    """Means over the queries."""

    ndcg_at_10: float
    recall_at_50: float
    nothing_found: int  # queries


def main(
    corpus: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Logs of any accepted shape: JSON lines, gzipped or not.")
    ] = SAMPLE,
    judgements: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Grades by query and text.")
    ] = JUDGEMENTS,
    engine: Annotated[list[str], typer.Option(help="embedded or elasticsearch; repeat for both.")] = list(ENGINES),  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure nDCG@10 and recall@50, from 0 to 1."""
    if not set(engine) <= set(ENGINES):
        raise typer.BadParameter(f"--engine is {' or '.join(ENGINES)}")
    records = read(corpus)
    graded = {query: grades for query, grades in json.loads(judgements.read_text()).items() if any(grades.values())}
    logs = list(Batches(records, len(records), load_rules()).tagged())
    digests = {tagged.log.log_id: digest(record) for record, tagged in zip(records, logs, strict=True)}
    engines: dict[str, Mapping[str, Quality]] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        for name in engine:
            try:
                url = running.enter_context(choose.elasticsearch()) if name == "elasticsearch" else f"local:{scratch}"
            except EngineAbsent as absent:
                print(f"elasticsearch is not measured: there is none ({absent})", file=sys.stderr)
            else:
                engines[name] = asyncio.run(_measure(url, logs, digests, graded))
    found = {form: {name: qualities[form]._asdict() for name, qualities in engines.items()} for form in FORMS}
    ndcg = [qualities[AS_PEOPLE_ASK].ndcg_at_10 for qualities in engines.values()]
    also = {
        "engines": found[AS_PEOPLE_ASK],
        "queries": len(graded),
        "difference": max(ndcg) - min(ndcg) if len(ndcg) > 1 else None,
        "all_words": found[ALL_WORDS],
        "words_by_or": found[ANY_WORD],
    }
    for form, by_engine in found.items():
        for name, quality in by_engine.items():
            print(f"{name}, {form}: {', '.join(f'{key} {value:.3g}' for key, value in quality.items())}")
    settings = {"corpus": corpus.name, "logs": len(records), "judgements": judgements.name}
    report("relevance", {}, {}, settings, as_json=as_json, also=also)


def ndcg(ranked: Sequence[str], grades: Grades) -> float:
    """The discounted gain of the first ten, as a share of the best that could be."""
    best = sorted(grades.values(), reverse=True)
    return _gain([grades.get(found, 0) for found in ranked]) / _gain(best)


def recall(ranked: Sequence[str], grades: Grades) -> float:
    """The share of what is relevant at all that the first fifty have."""
    relevant = {found for found, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranked[:RECALLED])) / len(relevant)


def _gain(grades: Sequence[int]) -> float:
    return sum((2**grade - 1) / math.log2(place + 2) for place, grade in enumerate(grades[:RANKED]))


async def _measure(
    url: str, logs: Sequence[TaggedLog], digests: Mapping[str, str], graded: Mapping[str, Grades]
) -> Mapping[str, Quality]:
    async with opened(url) as index:
        for start in range(0, len(logs), 2000):
            await index.write(logs[start : start + 2000])
        await index.refresh()
        asked = {text: meant(text) for text in graded}
        by_or = {text: loosened(query) for text, query in asked.items()}

        async def as_people_ask(request: SearchRequest) -> SearchPage:
            return (await search_wider(index, request)).page

        return {
            AS_PEOPLE_ASK: await _quality(as_people_ask, asked, digests, graded),
            ALL_WORDS: await _quality(index.search, asked, digests, graded),
            ANY_WORD: await _quality(index.search, by_or, digests, graded),
        }


def meant(text: str) -> Query:
    """The query that a text is; one that is none has its words."""
    try:
        return parse(text)
    except QueryError:
        return parse(" ".join(f'"{word}"' for word in re.findall(r"\w+", text)))


def loosened(query: Query) -> Query:
    """The query with OR for each AND on its highest level."""
    return Or(query.items) if isinstance(query, And) else query


async def _quality(
    ask: Ask, asked: Mapping[str, Query], digests: Mapping[str, str], graded: Mapping[str, Grades]
) -> Quality:
    ranked = {text: [found async for found in _ranked(ask, query, digests)] for text, query in asked.items()}
    return Quality(
        ndcg_at_10=statistics.fmean(ndcg(ranked[text], grades) for text, grades in graded.items()),
        recall_at_50=statistics.fmean(recall(ranked[text], grades) for text, grades in graded.items()),
        nothing_found=sum(not found for found in ranked.values()),
    )


async def _ranked(ask: Ask, query: Query, digests: Mapping[str, str]) -> AsyncIterator[str]:
    """The first texts by relevance, each once, as many as recall asks for."""
    seen: set[str] = set()
    cursor = None
    while len(seen) < RECALLED:
        page = await ask(SearchRequest(query, limit=PAGE, cursor=cursor, counts=False))
        for found in (digests[hit.log.log.log_id] for hit in page.hits):
            if found not in seen:
                seen.add(found)
                yield found
        if (cursor := page.cursor) is None:
            return


if __name__ == "__main__":
    typer.run(main)
