"""The embedded index after a crash: SQLite is the truth, the search heals when it is opened."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tunemill.indexer import bodies, projection
from tunemill.indexer.errors import IndexRefused, IndexUnavailable
from tunemill.indexer.local import LocalIndex
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import LogRecord, Message, TaggedLog
from tunemill.schemas.stored import StoredLog


def log(log_id: str) -> TaggedLog:
    return TaggedLog(
        log=LogRecord(log_id=log_id, ts_ms=1, messages=(Message(role="user", content="apple pie"),)), content_digest="d"
    )


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[LocalIndex]:
    index = LocalIndex(folder, project="default")
    try:
        await index.setup()
        yield index
    finally:
        await index.close()


async def count(index: LocalIndex) -> int:
    return (await index.search(SearchRequest(parse("apple")))).total


async def test_a_scan_that_is_left_early_closes_its_view_behind_its_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed by the thread that reads from it, not under that thread's hands."""
    closed_by: list[str] = []
    async with opened(tmp_path) as index:
        await index.write([log("a"), log("b")])
        scan = index.scan(parse(""), limit=None)
        assert await anext(scan) == log("a")
        close = bodies.Bodies.close
        with monkeypatch.context() as watched:
            watched.setattr(
                bodies.Bodies, "close", lambda view: (closed_by.append(threading.current_thread().name), close(view))
            )
            await scan.aclose()  # type: ignore[attr-defined]
    assert [name.rpartition("_")[0] for name in closed_by] == ["index-read"]


@pytest.mark.parametrize("way", ["scan", "dump"])
async def test_a_scan_that_is_cancelled_closes_its_view_after_the_read_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """SQLite closed under the hands of a thread that reads takes the process with it."""
    begun, closed, order = threading.Event(), threading.Event(), list[str]()

    def slow(_view: bodies.Bodies, _seqs: Sequence[int]) -> dict[int, TaggedLog]:
        begun.set()
        closed.wait(0.2)
        order.append("read")
        return {}

    def close(_view: bodies.Bodies) -> None:
        order.append("closed")
        closed.set()

    async def read_all(index: LocalIndex) -> None:
        async for _ in index.scan(parse(""), limit=None) if way == "scan" else index.dump(parse("")):
            pass

    async with opened(tmp_path) as index:
        await index.write([log("a")])
        with monkeypatch.context() as watched:
            watched.setattr(bodies.Bodies, "bodies" if way == "scan" else "dumped", slow)
            watched.setattr(bodies.Bodies, "close", close)
            reading = asyncio.create_task(read_all(index))
            assert await asyncio.to_thread(begun.wait, 10)
            reading.cancel()
            await asyncio.wait([reading])
    assert order == ["read", "closed"]


async def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    async with opened(tmp_path) as index:
        await index.write([log("a"), log("b")])
        await index.delete(["b"])
    async with opened(tmp_path) as index:
        assert await count(index) == 1
        assert await index.get("a") == log("a")


@pytest.mark.parametrize("damage", ["removed", "other version", "torn", "behind"])
async def test_a_search_that_is_missing_or_wrong_is_rebuilt(tmp_path: Path, damage: str) -> None:
    search = tmp_path / "logs-default" / "search"
    async with opened(tmp_path) as index:
        await index.write([log("a"), log("b")])
    before = shutil.copytree(search, tmp_path / "before")
    async with opened(tmp_path) as index:
        await index.write([log("c")])
    if damage == "removed":
        shutil.rmtree(search)
    elif damage == "other version":
        (search / "tunemill-version").write_text("0 older")
    elif damage == "torn":
        (search / "meta.json").write_bytes(b"{")
    else:
        shutil.rmtree(search)
        before.rename(search)
    async with opened(tmp_path) as index:
        assert await count(index) == 3


async def test_a_crash_between_truth_and_search_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as index:
        await index.write([log("a"), log("b")])
        with monkeypatch.context() as crash, pytest.raises(KeyboardInterrupt):
            crash.setattr(projection.Projection, "add", _die)
            await index.write([log("c")])
    async with opened(tmp_path) as index:
        assert await count(index) == 3
        with monkeypatch.context() as crash, pytest.raises(KeyboardInterrupt):
            crash.setattr(projection.Projection, "replace", _die)
            await index.delete(["a"])
    async with opened(tmp_path) as index:
        page = await index.search(SearchRequest(parse("apple")))
        assert page.total == 2
        assert {hit.log.log.log_id for hit in page.hits} == {"b", "c"}


async def test_a_crash_between_a_log_that_was_replaced_and_its_search_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = TaggedLog(
        log=LogRecord(log_id="a", ts_ms=1, messages=(Message(role="user", content="apple tart"),)), content_digest="e"
    )
    async with opened(tmp_path) as index:
        await index.write([log("a"), log("b")])
        read = (await index.stored(log_ids=["a"], trace_ids=[])).logs["a"]
        with monkeypatch.context() as crash, pytest.raises(KeyboardInterrupt):
            crash.setattr(projection.Projection, "replace", _die)
            await index.replace([StoredLog(grown, read.version)])
    async with opened(tmp_path) as index:
        page = await index.search(SearchRequest(parse("tart")))
        assert [hit.log for hit in page.hits] == [grown]
        assert list(await index.replace([StoredLog(log("a"), read.version)])) == [None]
        assert await count(index) == 2


async def test_a_search_that_could_not_be_written_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as index:
        with monkeypatch.context() as full_disk, pytest.raises(IndexUnavailable):
            full_disk.setattr(projection.Projection, "add", _full_disk)
            await index.write([log("a")])
        again = await index.write([log("a"), log("b")])
        assert [item.outcome for item in again] == [Outcome.DUPLICATE, Outcome.INDEXED]
        assert await count(index) == 2


def _full_disk(*_args: object) -> None:
    raise ValueError("No space left on device")


def _die(*_args: object) -> None:
    raise KeyboardInterrupt


WRITER = """
import asyncio, sys
from pathlib import Path
from tunemill.indexer.local import LocalIndex
from tunemill.schemas.records import LogRecord, Message, TaggedLog

async def main():
    index = LocalIndex(Path(sys.argv[1]), project="default")
    for at in range(100_000):
        message = Message(role="user", content="apple pie")
        ids = [f"{at}-{n}" for n in range(5)]
        await index.write([TaggedLog(log=LogRecord(log_id=i, ts_ms=1, messages=(message,)), content_digest="d") for i in ids])
        print(ids[-1], flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("batches", [1, 4, 9])
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, batches: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:  # noqa: ASYNC220
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(batches)]
        os.kill(writer.pid, signal.SIGKILL)
    async with opened(tmp_path) as index:
        for log_id in acknowledged:
            assert await index.get(log_id) is not None
        with sqlite3.connect(tmp_path / "logs-default" / "logs.db") as db:
            (stored,) = db.execute("SELECT count(*) FROM logs").fetchone()
        db.close()
        assert await count(index) == stored >= 5 * batches
        again = await index.write([log(log_id) for log_id in acknowledged])
        assert {item.outcome for item in again} == {Outcome.DUPLICATE}


async def test_a_second_process_is_refused_and_told_why(tmp_path: Path) -> None:
    async with opened(tmp_path):
        second = LocalIndex(tmp_path, project="default")
        with pytest.raises(IndexRefused, match="in use by another process"):
            await second.setup()
        await second.close()
