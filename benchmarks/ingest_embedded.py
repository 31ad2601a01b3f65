"""SQLite to searchable by the embedded loop, against a bare loop into tantivy."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import tantivy
from prometheus_client import REGISTRY

from benchmarks.harness import Figure, take_turns
from tunemill.bus.sqlite import SqliteBus
from tunemill.indexer.document import to_document
from tunemill.indexer.local import LocalIndex
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.topics import LOGS
from tunemill.streams.local import run_local
from tunemill.streams.rulebook import Rulebook

if TYPE_CHECKING:
    from benchmarks.ingest import Batches

LOOK_S = 0.01
KEYWORDS = ("tag", "app", "model", "language", "status", "session")
OUTCOMES = ("indexed", "merged", "duplicate", "rejected", "erased")


def measure(batches: "Batches", *, rounds: int) -> dict[str, Figure]:
    """Logs per second of both sides, each round in fresh files."""
    sides = {
        "tunemill embedded": lambda: asyncio.run(_through_the_stream(batches)),
        "bare tantivy": lambda: _by_hand(batches),
    }
    return take_turns(sides, unit="logs/s", rounds=rounds)


async def _through_the_stream(batches: "Batches") -> float:
    with tempfile.TemporaryDirectory() as scratch:
        bus, index = SqliteBus(Path(scratch) / "bus.db"), LocalIndex(Path(scratch), project=PROJECT)
        await bus.publish(LOGS, batches.messages())
        await index.setup()
        counted, stop = _accounted(), asyncio.Event()
        started = time.perf_counter()
        stream = asyncio.ensure_future(run_local(bus, index, Rulebook(batches.rules), stop=stop))
        while _accounted() < counted + batches.count and not stream.done():
            await asyncio.wait([stream], timeout=LOOK_S)
        seconds = time.perf_counter() - started
        stop.set()
        await stream
        found = (await index.search(SearchRequest(query=parse("")))).total
        await index.close()
        await bus.close()
    _require(found, batches.count)
    return batches.count / seconds


def _by_hand(batches: "Batches") -> float:
    documents = [to_document(tagged) for tagged in batches.tagged()]
    with tempfile.TemporaryDirectory() as scratch:
        index = tantivy.Index(_schema(), path=scratch)
        writer = index.writer(heap_size=50_000_000, num_threads=1)
        started = time.perf_counter()
        for document in documents:
            entry = tantivy.Document()
            entry.add_integer("ts", document.ts)
            for text in document.content:
                entry.add_text("content", text)
            for name in KEYWORDS:
                value = getattr(document, name)
                for text in value if isinstance(value, tuple) else (value,):
                    if text is not None:
                        entry.add_text(name, text)
            entry.add_bytes("record", msgspec.json.encode(document.record))
            writer.add_document(entry)
        writer.commit()
        index.reload()
        seconds = time.perf_counter() - started
        found = index.searcher().num_docs
        writer.wait_merging_threads()
    _require(found, batches.count)
    return batches.count / seconds


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("ts", indexed=True, fast=True)
    builder.add_text_field("content", tokenizer_name="en_stem", index_option="position")
    for name in KEYWORDS:
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=True)
    builder.add_bytes_field("record", stored=True, indexed=False)
    return builder.build()


def _accounted() -> int:
    """How many logs this process has counted as something final."""
    values = (REGISTRY.get_sample_value("tunemill_logs_total", {"outcome": outcome}) for outcome in OUTCOMES)
    return round(sum(value or 0 for value in values))


def _require(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"{found} logs are searchable, not {expected}")
