"""An erasure reaches whatever was kept of a log, and ends with a receipt; nothing that was erased comes back."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import erase_and_die
from fakes.bytes_kept import where
from fakes.curator_api import Running, running_api
from fakes.stream_worker import StreamWorker

from tunemill.bus.port import Outgoing
from tunemill.curator_api import erase
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.packing import pack
from tunemill.schemas.records import DatasetRedacted, Feedback, LogBatch, LogRecord, Message, ToolCall
from tunemill.schemas.topics import DATASETS_REDACTED, FEEDBACK

CANARY = "xylocanary"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "LOOK_EVERY_S", 0.05)


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[tuple[Running, StreamWorker]]:
    """The API and the stream over the embedded engines in a folder."""
    index = open_index(f"local:{folder / 'index'}")
    async with running_api(folder, index=index) as api:
        yield api, StreamWorker(api.bus, api.index)


def a_log(log_id: str, question: str = "What is 2+2?", answer: str = "4", **more: Any) -> LogRecord:
    fields: dict[str, Any] = {"ts_ms": 1_700_000_000_000, "consent": "train", **more}
    said = (Message(role="user", content=question),), (Message(role="assistant", content=answer),)
    return LogRecord(log_id=log_id, messages=said[0], output=said[1], **fields)


def canary_log(log_id: str = "bad", number: int = 1) -> LogRecord:
    """A log that says its word everywhere."""
    calls = (ToolCall(id="c", name="look", arguments=f'{{"for": "{CANARY}"}}'),)
    asked = Message(role="user", content=f"who is {CANARY} number {number}?")
    looked = Message(role="assistant", tool_calls=calls)
    found = Message(role="tool", content=f"found {CANARY}", tool_call_id="c")
    return LogRecord(
        log_id=log_id,
        ts_ms=1_700_000_000_000 + number,
        consent="train",
        messages=(asked, looked, found),
        output=(Message(role="assistant", content=f"{CANARY} is {number}"),),
        user_id=CANARY,
        session_id=f"s-{CANARY}",
        metadata={"subject": CANARY, "note": f"about {CANARY}"},
        response_id=f"answer-{number}",
        tools=[{"type": "function", "function": {"name": "look", "description": CANARY}}],
    )


async def ids(index: Any) -> list[str]:
    return sorted([one.log.log_id async for one in index.scan(parse(""), limit=None)])


async def erased(api: Running, **wanted: Any) -> dict[str, Any]:
    """The receipt of an erasure."""
    reply = await api.client.post("/v1/erasures", json=wanted)
    assert reply.status_code == 202, reply.text
    return await ended(api, reply.json()["request_id"])


async def ended(api: Running, request_id: str) -> dict[str, Any]:
    """An erasure once it is over."""
    async with asyncio.timeout(60):
        while True:
            now = (await api.client.get(f"/v1/erasures/{request_id}")).json()
            if now["status"] != "running":
                break
            await asyncio.sleep(0.05)
    assert now["status"] == "done", now
    return dict(now)


def removed(receipt: dict[str, Any]) -> dict[str, int]:
    return {line["store"]: line["removed"] for line in receipt["stores"]}


async def test_a_subject_is_gone_from_index_topics_and_registry(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([a_log("good"), canary_log("bad"), a_log("kept", "how are you?", "well")]))
        await worker.publish(wire.encode(LogBatch(logs=(canary_log("worse", 2), a_log("avro")))), key=f"s-{CANARY}")
        await worker.publish(f'{{"torn {CANARY}'.encode(), pack([canary_log("alone", 3)]))
        said = Feedback(feedback_id="f1", ts_ms=1, name="right", log_id="bad", correction=f"no, {CANARY}")
        beside = Feedback(feedback_id="f2", ts_ms=1, name="right", response_id="answer-2", comment=CANARY)
        await api.bus.publish(FEEDBACK, [Outgoing(wire.encode(one), key=one.feedback_id) for one in (said, beside)])
        await worker.work()
        await api.client.post("/v1/logs/bad/tags", json={"add": ["topic:x"], "why": f"{CANARY} said so"})
        change = {"output": [{"role": "assistant", "content": f"edited {CANARY}"}], "why": CANARY}
        assert (await api.client.patch("/v1/logs/bad", json=change)).status_code == 200
        assert len(where(tmp_path, CANARY)) > 5
        assert (await api.client.post("/v1/erasures", json={"subject": CANARY, "dry_run": True})).json() == {"total": 3}
        receipt = await erased(api, subject=CANARY)
        assert where(tmp_path, CANARY) == []
        assert CANARY not in str(receipt)
        assert (receipt["verified"], receipt["logs"]) == (True, 3)
        assert removed(receipt) == {
            "search index": 3,
            "imported rows": 0,
            "run reports": 0,
            "dataset files": 0,
            "topic llm.logs": 4,
            "topic llm.feedback": 2,
            "topic llm.logs.rejected": 1,
            "registry": 3,
        }
        assert await ids(api.index) == ["avro", "good", "kept"]
        again = StreamWorker(api.bus, open_index(f"local:{tmp_path / 'again'}"))
        assert await again.work("from the start") == {Outcome.INDEXED: 3}
        assert await ids(again.index) == ["avro", "good", "kept"]
        await again.index.close()
        assert where(tmp_path, CANARY) == []
        assert (await api.client.get("/v1/rejected")).json()["total"] == 0
        assert await erased(api, subject=CANARY) == receipt


async def publish(api: Running, name: str, **order: Any) -> dict[str, Any]:
    reply = await api.client.post(f"/v1/datasets/{name}/versions", json=order)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


async def version(api: Running, name: str, number: int) -> dict[str, Any]:
    return dict((await api.client.get(f"/v1/datasets/{name}/versions/{number}")).json())


async def exported(api: Running, name: str, number: int) -> str:
    return (await api.client.get(f"/v1/datasets/{name}/versions/{number}/export")).text


async def told(api: Running) -> list[tuple[str, int, str]]:
    """The events about redacted versions, once they are on the bus, each once."""
    async with asyncio.timeout(30):
        while True:
            if messages := await api.bus.tail(DATASETS_REDACTED, limit=99):
                events = {wire.decode(message.value, DatasetRedacted) for message in messages}
                return sorted((event.name, event.version, event.digest) for event in events)
            await asyncio.sleep(0.1)


def logs(count: int) -> list[LogRecord]:
    return [a_log(f"log-{n}", f"question {n}", f"answer {n}", session_id=f"s-{n}") for n in range(count)]


async def test_versions_lose_the_rows_and_keep_their_numbers(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(200), canary_log()]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await api.client.post("/v1/datasets", json={"name": "clean", "query": "id:log-1"})
        first = await publish(api, "all")
        await api.client.delete("/v1/datasets/all/rows/log-7")
        second, clean = await publish(api, "all"), await publish(api, "clean")
        parts = {path.name for path in (api.files / "datasets/default/all/parts").iterdir()}
        receipt = await erased(api, subject=CANARY)
        assert where(tmp_path, CANARY) == []
        assert [(one["name"], one["version"], one["revision"], one["rows_removed"]) for one in receipt["versions"]] == [
            ("all", 1, 2, 1),
            ("all", 2, 2, 1),
        ]
        for before, number in ((first, 1), (second, 2)):
            now = await version(api, "all", number)
            assert (now["rows"], now["revision"], now["version"]) == (before["rows"] - 1, 2, number)
            assert now["digest"] != before["digest"]
            assert len((await exported(api, "all", number)).splitlines()) == now["rows"]
            verified = (await api.client.get(f"/v1/datasets/all/versions/{number}/verify")).json()
            assert verified["ok"], verified
        assert (await version(api, "clean", 1))["digest"] == clean["digest"]
        left = {path.name for path in (api.files / "datasets/default/all/parts").iterdir()}
        assert len(left - parts) <= 2
        assert len(parts - left) <= 2


@pytest.mark.parametrize("step", erase_and_die.STEPS)
async def test_killed_at_any_step_the_next_start_goes_on(tmp_path: Path, step: str) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(20), canary_log()]), f'{{"torn {CANARY}'.encode())
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await publish(api, "all")
    script = [sys.executable, erase_and_die.__file__, str(tmp_path), CANARY, step]
    there = {**os.environ, "PYTHONPATH": str(Path(erase_and_die.__file__).parents[1])}
    assert (await (await asyncio.create_subprocess_exec(*script, env=there)).wait()) == 0
    async with embedded(tmp_path) as (api, _):
        (request,) = (await api.client.get("/v1/erasures")).json()["erasures"]
        receipt = await ended(api, request["request_id"])
        assert where(tmp_path, CANARY) == []
        assert (receipt["verified"], receipt["logs"]) == (True, 1)
        assert [(one["name"], one["version"], one["revision"]) for one in receipt["versions"]] == [("all", 1, 2)]
        counts = removed(receipt)
        assert (counts["search index"], counts["registry"]) == (1, 1)
        assert await told(api) == [("all", 1, receipt["versions"][0]["digest"])]
