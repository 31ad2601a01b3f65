"""The Faust worker's own part: commit only what is finished, drain on request, and die rather than commit."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from fakes.index_memory import MemoryIndex

from tunemill.bus.port import Message
from tunemill.bus.sqlite import SqliteBus
from tunemill.schemas.packing import pack
from tunemill.schemas.records import LogRecord
from tunemill.schemas.records import Message as ChatMessage
from tunemill.schemas.topics import ERASURES, LOGS, REJECTED
from tunemill.streams import batch
from tunemill.streams.app import EXIT_UNFORESEEN, Worker
from tunemill.streams.batch import Hop
from tunemill.streams.erased import follow_erasures
from tunemill.streams.probe import serve_health
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules

DYING = """
import asyncio, sys
from tunemill.streams.app import Worker, exit_without_commit
from tunemill.telemetry.logs import configure

class Index:
    async def write(self, logs): raise KeyError("the text of a log") from OSError("more of it")
    async def delete(self, log_ids): pass

async def main():
    from pathlib import Path
    from tunemill.bus.port import Message
    from tunemill.bus.sqlite import SqliteBus
    from tunemill.schemas.topics import TOPICS
    from tunemill.streams.batch import Hop
    from tunemill.streams.erased import follow_erasures
    from tunemill.streams.rulebook import Rulebook
    from tunemill.streams.rules import load_rules
    bus = SqliteBus(Path(sys.argv[1]))
    await bus.create_topics(TOPICS)
    async def commit(offsets): print("COMMITTED", offsets)
    async with follow_erasures(bus, Index()) as erased:
        worker = Worker(Hop(Index(), bus, erased, Rulebook(load_rules())))
        payload = b'{"messages":[{"role":"user","content":"hi"}]}'
        await worker.work([Message("llm.logs", 0, 5, None, payload, 1)], commit)
    print("STILL ALIVE")

configure(service="streams")
asyncio.run(main())
"""


def at(offset: int, log_id: str) -> Message:
    log = LogRecord(log_id=log_id, ts_ms=1, messages=(ChatMessage(role="user", content="hi"),))
    return Message(LOGS.name, 0, offset, None, pack([log]), 1)


async def test_it_commits_after_the_batch_and_takes_nothing_more_once_it_drains(tmp_path: Path):
    bus, index = SqliteBus(tmp_path / "bus.db"), MemoryIndex()
    await bus.create_topics([LOGS, REJECTED, ERASURES])
    committed: list[tuple[Mapping[tuple[str, int], int], int]] = []

    async def commit(offsets: Mapping[tuple[str, int], int]) -> None:
        committed.append((offsets, len(index.logs)))

    async with follow_erasures(bus, index) as erased:
        worker = Worker(Hop(index, bus, erased, Rulebook(load_rules())))
        await worker.work([at(5, "a"), at(6, "b")], commit)
        assert committed == [({(LOGS.name, 0): 7}, 2)]
        index.writing.clear()
        index.delay_s = 0.2
        in_hand = asyncio.create_task(worker.work([at(7, "c")], commit))
        await index.writing.wait()
        await worker.drain()
        assert committed[1:] == [({(LOGS.name, 0): 8}, 3)]
        await worker.work([at(8, "d")], commit)
        await in_hand
    assert len(committed) == 2
    assert set(index.logs) == {"a", "b", "c"}
    await bus.close()


async def test_large_messages_are_worked_on_and_committed_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    messages = [at(5, "a"), at(6, "b"), at(7, "c" * 100), at(8, "d")]
    monkeypatch.setattr(batch, "PART_BYTES", len(messages[0].value) + len(messages[1].value))
    bus, index = SqliteBus(tmp_path / "bus.db"), MemoryIndex()
    await bus.create_topics([LOGS, REJECTED, ERASURES])
    committed: list[tuple[int, int]] = []  # the next offset, and how many logs are in the index

    async def commit(offsets: Mapping[tuple[str, int], int]) -> None:
        committed.append((offsets[LOGS.name, 0], len(index.logs)))

    async with follow_erasures(bus, index) as erased:
        await Worker(Hop(index, bus, erased, Rulebook(load_rules()))).work(messages, commit)
    assert committed == [(7, 2), (8, 3), (9, 4)]
    await bus.close()


def test_an_unforeseen_error_ends_the_process_without_a_commit_and_tells_no_text(tmp_path: Path):
    command = [sys.executable, "-c", DYING, str(tmp_path / "bus.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == EXIT_UNFORESEEN
    assert done.stdout == ""
    assert '"error": "KeyError"' in done.stderr
    assert '"cause": "OSError"' in done.stderr
    assert "text of a log" not in done.stderr
    assert "more of it" not in done.stderr


async def test_the_health_port_names_what_is_not_ready(unused_port: int):
    async def fine() -> None:
        return None

    async def away() -> None:
        raise OSError("no entry")

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client:
        async with serve_health({"bus": fine, "index": away}, "127.0.0.1", unused_port):
            response = await answer(client, "/health/ready")
            assert (response.status_code, response.json()["checks"]) == (503, {"bus": "ok", "index": "failed: OSError"})
            assert (await client.get("/health/live")).status_code == 200
            assert "tunemill_logs_total" in (await client.get("/metrics")).text
        with pytest.raises(httpx.ConnectError):
            await client.get("/health/live")


async def answer(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """The answer, as soon as the port is open."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await client.get(path)
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
