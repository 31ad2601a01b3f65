"""SQLite to searchable by the embedded loop, against what one would write instead, and against tantivy alone.

- `tunemill`: the embedded stream with the starter set of rules, from messages of 64 logs.
- `loop`: reads the same messages from the same bus, decodes their JSON, gives texts, fields and the whole log to tantivy, and
  commits both. No checks, secrets, tags or ids that collapse.
- `bare tantivy`: is given documents that are decoded beforehand, with the log's bytes as a stored field; one commit at the end.
"""

import asyncio
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import tantivy
from prometheus_client import REGISTRY

from benchmarks.batches import Batches
from benchmarks.harness import Figure, ratio, take_turns
from tunemill.bus.sqlite import SqliteBus
from tunemill.indexer.fields import PARTS
from tunemill.indexer.local import LocalIndex
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.topics import LOGS
from tunemill.streams.local import run_local
from tunemill.streams.rulebook import Rulebook

LOOK_S = 0.05
POLL_MESSAGES = 200
HEAP_BYTES = 50_000_000
KEYWORDS = ("id", "tag", "app", "model", "language", "status", "session")
OUTCOMES = ("indexed", "merged", "duplicate", "rejected", "erased")
OURS, LOOP, BARE = "tunemill", "loop", "bare tantivy"


def measure(batches: Batches, *, rounds: int) -> tuple[dict[str, Figure], dict[str, float], dict[str, Any]]:
    """Logs per second of all sides, each round in fresh files, and the ratios of ours to the others'."""
    sides = {
        OURS: lambda: asyncio.run(_through_the_stream(batches)),
        LOOP: lambda: asyncio.run(_by_a_loop(batches)),
        BARE: lambda: _bare(batches),
    }
    figures = take_turns(sides, unit="logs/s", rounds=rounds)
    ratios = {"ratio_tantivy": ratio(figures[OURS], figures[BARE]), "ratio_loop": ratio(figures[OURS], figures[LOOP])}
    return figures, ratios, {}


async def _through_the_stream(batches: Batches) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        bus, index = SqliteBus(Path(scratch) / "bus.db"), LocalIndex(Path(scratch), project=PROJECT)
        await bus.publish(LOGS, list(batches.messages()))
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


async def _by_a_loop(batches: Batches) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        bus = SqliteBus(Path(scratch) / "bus.db")
        await bus.publish(LOGS, list(batches.messages()))
        (folder := Path(scratch) / "index").mkdir()
        index = tantivy.Index(_schema(), path=str(folder))
        writer = index.writer(heap_size=HEAP_BYTES, num_threads=1)
        started = time.perf_counter()
        async with bus.subscribe([LOGS], group="loop") as subscription:
            while found := await subscription.poll(max_messages=POLL_MESSAGES, timeout_s=0):
                for message in found:
                    for line in message.value.split(b"\n"):
                        writer.add_document(_entry(_fields(msgspec.json.decode(line)), line))
                writer.commit()
                index.reload()
                await subscription.commit({(LOGS.name, 0): found[-1].offset + 1})
        seconds = time.perf_counter() - started
        count = index.searcher().num_docs
        writer.wait_merging_threads()
        await bus.close()
    _require(count, batches.count)
    return batches.count / seconds


def _bare(batches: Batches) -> float:
    documents = [msgspec.json.decode(document) for _, _, document in batches.documents()]
    given = [(document, msgspec.json.encode(document.pop("record"))) for document in documents]
    with tempfile.TemporaryDirectory() as scratch:
        index = tantivy.Index(_schema(), path=scratch)
        writer = index.writer(heap_size=HEAP_BYTES, num_threads=1)
        started = time.perf_counter()
        for document, body in given:
            writer.add_document(_entry(document, body))
        writer.commit()
        index.reload()
        seconds = time.perf_counter() - started
        found = index.searcher().num_docs
        writer.wait_merging_threads()
    _require(found, batches.count)
    return batches.count / seconds


def _fields(log: Mapping[str, Any]) -> dict[str, Any]:
    """What one would search a log by, under the names of our documents."""
    asked, answered = (
        [message["content"] for message in log.get(name, ()) if message.get("content")]
        for name in ("messages", "output")
    )
    return {
        "id": log["log_id"],
        "ts": log["ts_ms"],
        "prompt": asked,
        "response": answered,
        "app": log.get("app"),
        "model": log.get("model"),
        "status": log.get("status"),
        "session": log.get("session_id"),
    }


def _entry(fields: Mapping[str, Any], body: bytes) -> tantivy.Document:
    entry = tantivy.Document()
    entry.add_integer("ts", fields["ts"])
    for part in PARTS:
        for text in fields.get(part, ()):
            entry.add_text(part, text)
    for name in KEYWORDS:
        value = fields.get(name)
        for text in value if isinstance(value, list) else (value,):
            if text is not None:
                entry.add_text(name, text)
    entry.add_bytes("record", body)
    return entry


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("ts", indexed=True, fast=True)
    for part in PARTS:
        builder.add_text_field(part, tokenizer_name="en_stem", index_option="position")
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
