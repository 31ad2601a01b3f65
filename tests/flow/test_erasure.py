"""An erasure reaches whatever was kept of a log, and ends with a receipt; nothing that was erased comes back."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest
from fakes import erase_and_die
from fakes.bytes_kept import opened, where
from fakes.curator_api import Running, running_api
from fakes.stream_worker import StreamWorker
from prometheus_client import REGISTRY
from sqlalchemy import Engine, delete, insert, select

from tunemill.bus.port import Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.curator_api import amend as amending
from tunemill.curator_api import erase, erasure_store, leftovers
from tunemill.curator_api import publish as publishing
from tunemill.curator_api.errors import Unavailable
from tunemill.curator_api.receipt import Line
from tunemill.curator_api.store import Files
from tunemill.indexer.errors import IndexUnavailable
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.registry.model_aliases import put as put_alias
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import outbox, runs, versions
from tunemill.schemas import wire
from tunemill.schemas.ids import new_id
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.packing import pack
from tunemill.schemas.records import DatasetRedacted, Feedback, LogBatch, LogRecord, Message, ToolCall
from tunemill.schemas.run_report import REPORT, SAMPLES_FILE
from tunemill.schemas.topics import DATASETS_REDACTED, FEEDBACK, Topic
from tunemill.trainer.publish import hide_rows, write_manifest
from tunemill.trainer.report import report

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
    now = await seen(api, request_id, lambda now: now["status"] != "running")
    assert now["status"] == "done", now
    return now


async def seen(api: Running, request_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """An erasure as soon as this holds of it."""
    async with asyncio.timeout(60):
        while True:
            now: dict[str, Any] = (await api.client.get(f"/v1/erasures/{request_id}")).json()
            if holds(now):
                return now
            await asyncio.sleep(0.05)


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
            "media": 0,
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


class KeepingBus(SqliteBus):
    """A bus that cannot change what lies in its topic of logs, as Kafka."""

    async def scrub(self, topic: Topic, changed: Mapping[tuple[int, int], bytes]) -> int | None:
        return await super().scrub(topic, changed) if topic.compacted else None


def langfuse(kind: str, **body: Any) -> bytes:
    """An event as Langfuse's SDK sends it."""
    return json.dumps({"id": new_id(), "type": kind, "timestamp": "2026-11-22T18:47:05.500Z", "body": body}).encode()


def traced(trace_id: str, word: str) -> list[bytes]:
    """A trace with one call, what it says about itself, and what people said about it without naming the call."""
    said = {"userId": word, "sessionId": f"s-{word}", "name": f"run of {word}", "metadata": {"subject": word}}
    return [
        langfuse("trace-create", id=trace_id, **said),
        langfuse("generation-create", id="call", traceId=trace_id, input="hi", output=word, model="m"),
        langfuse("score-create", id=f"score-{trace_id}", traceId=trace_id, name="right", value=1, comment=word),
    ]


@pytest.mark.parametrize(
    "wanted",
    [{"log_id": "t-call"}, {"subject": CANARY}, {"query": CANARY, "expected_total": 1}],
    ids=["log", "subject", "query"],
)
async def test_what_was_said_beside_a_log_does_not_come_back_with_a_replay(
    tmp_path: Path, wanted: dict[str, Any]
) -> None:
    folder = tmp_path / "index"
    bus = KeepingBus(tmp_path / "bus.db")
    async with running_api(tmp_path, index=open_index(f"local:{folder}"), bus=bus) as api:
        worker = StreamWorker(api.bus, api.index)
        answer = Feedback(feedback_id="f", ts_ms=1, name="n", response_id="r", comment="about the kept answer")
        await worker.publish(*traced("t", CANARY), *traced("other", "somebody"), pack([a_log("good", response_id="r")]))
        await api.bus.publish(FEEDBACK, [Outgoing(wire.encode(answer), key="f")])
        await worker.work()
        assert where(folder, CANARY)
        receipt = await erased(api, **wanted)
        assert (receipt["verified"], receipt["logs"]) == (True, 1)
        assert where(folder, CANARY) == []
        published = await api.bus.tail(FEEDBACK, limit=1)
        dropped = counted("trace_note_erased"), counted("feedback_erased")
        for place in ("index", "another"):
            again = StreamWorker(api.bus, open_index(f"local:{tmp_path / place}") if place == "another" else api.index)
            assert (await again.work(f"replay of {place}"))[Outcome.ERASED] > 0
            assert where(tmp_path / place, CANARY) == []
            stored = await again.index.stored(log_ids=["other-call", "good"], trace_ids=["t", "other"])
            assert stored.logs["other-call"].tagged.log.user_id == "somebody"
            assert stored.notes["other"].note.user_id == "somebody"
            logs = [stored.logs[log_id].tagged.log for log_id in ("other-call", "good")]
            said = [[one.comment for one in found] for found in await again.index.feedback_of_each(logs)]  # type: ignore[attr-defined]
            assert said == [["somebody"], ["about the kept answer"]]
            if place == "another":
                await again.index.close()  # type: ignore[attr-defined]
        assert (counted("trace_note_erased"), counted("feedback_erased")) == (dropped[0] + 2, dropped[1] + 2)
        newer = [one for one in await api.bus.tail(FEEDBACK, limit=99) if one.offset > published[0].offset]
        assert CANARY not in str(newer), "a topic that is kept for ever would hold it again"


async def test_what_a_trace_without_calls_says_of_a_subject_goes_and_does_not_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    bus = KeepingBus(tmp_path / "bus.db")
    async with running_api(tmp_path, index=open_index(f"local:{folder}"), bus=bus) as api:
        worker = StreamWorker(api.bus, api.index)
        await worker.publish(
            langfuse("trace-create", id="t", userId=CANARY), langfuse("trace-create", id="u", userId="x")
        )
        await worker.work()
        assert where(folder, CANARY)
        receipt = await erased(api, subject=CANARY)
        assert (receipt["verified"], receipt["logs"]) == (True, 0)
        await worker.work("replay")
        assert where(folder, CANARY) == []
        assert where(folder, '"user_id":"x"')
        assert (await erased(api, subject=CANARY))["request_id"] == receipt["request_id"], "nothing came since"
        await worker.publish(langfuse("trace-create", id="another", userId=CANARY))
        await worker.work()
        again = await erased(api, subject=CANARY)
        assert again["request_id"] != receipt["request_id"]
        assert where(folder, CANARY) == []


async def test_what_was_said_about_the_answer_and_the_trace_of_a_whole_log_goes(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        both = [a_log(log_id, f"question {log_id}", trace_id="t", response_id=f"r-{log_id}") for log_id in ("a", "b")]
        await worker.publish(pack(both))
        said = [Feedback(feedback_id="t", ts_ms=1, name="n", trace_id="t", comment=CANARY)]
        said.append(Feedback(feedback_id="r", ts_ms=1, name="n", response_id="r-a", comment=CANARY))
        await api.bus.publish(FEEDBACK, [Outgoing(wire.encode(one), key=one.feedback_id) for one in said])
        await worker.work()
        await erased(api, log_id="a")
        assert [one.feedback_id for one in await api.index.feedback_of(both[1])] == ["t"], "another call of it is left"
        assert await api.index.feedback_of(both[0]) == await api.index.feedback_of(both[1])
        await erased(api, log_id="b")
        assert where(tmp_path, CANARY) == []


def counted(kind: str) -> float:
    return REGISTRY.get_sample_value("tunemill_not_calls_total", {"kind": kind}) or 0.0


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
        await api.client.post("/v1/datasets", json={"name": "all", "query": "", "groups": ["subject"]})
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


@pytest.mark.parametrize("case", ["left out", "says what another says", "stands for another"])
async def test_no_report_names_the_erased_by_a_slice_when_the_rows_stay(tmp_path: Path, case: str) -> None:
    async with embedded(tmp_path) as (api, worker):
        refused = [a_log(f"no-{n}", f"no {n}", consent="none", metadata={"subject": "bob"}) for n in range(3)]
        more: dict[str, Any] = {"app": CANARY, "model": "m", "user_id": CANARY, "tags": (f"topic:{CANARY}",)}
        bad = a_log(
            "bad" if case != "stands for another" else "a-bad",
            "question 1",
            "answer 1",
            consent="none" if case == "left out" else "train",
            **more,
        )
        bad = msgspec.structs.replace(bad, metadata={"subject": CANARY})
        await worker.publish(pack([*logs(20), *refused, bad]))
        await worker.work()
        recipe = {"name": "all", "query": "", "groups": ["subject"], "slices": ["app", "topic"]}
        assert (await api.client.post("/v1/datasets", json=recipe)).status_code == 201
        before = await publish(api, "all")
        assert CANARY in str(before["report"]["slices"])
        assert where(api.files, CANARY) != [], "its card"
        receipt = await erased(api, subject=CANARY)
        assert where(tmp_path, CANARY) == []
        assert receipt["versions"] == [], "its rows are the same"
        now = await version(api, "all", 1)
        assert (now["digest"], now["revision"], now["rows"]) == (before["digest"], 1, before["rows"])
        slices = now["report"]["slices"]["meta:subject"]
        assert slices["bob"]["out"] == {"consent": 3}, "other logs have it"
        assert sum(one["logs"] for one in slices.values()) == now["report"]["matched"]
        assert (await api.client.get("/v1/datasets/all/versions/1/verify")).json()["ok"]


async def test_no_report_names_a_subject_whose_logs_were_dropped_before(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        refused = [a_log(f"no-{n}", f"no {n}", consent="none", metadata={"subject": CANARY}) for n in range(2)]
        await worker.publish(pack([*logs(3), *refused]))
        await worker.work()
        recipe = {"name": "all", "query": "", "groups": ["subject"]}
        assert (await api.client.post("/v1/datasets", json=recipe)).status_code == 201
        assert CANARY in str((await publish(api, "all"))["report"]["slices"])
        await api.index.delete([log.log_id for log in refused])  # as the retention does
        await erased(api, subject=CANARY)
        report = (await version(api, "all", 1))["report"]
        assert CANARY not in str(report)
        assert where(api.files, CANARY) == []
        assert sum(one["logs"] for one in report["slices"]["meta:subject"].values()) == report["matched"]


@pytest.mark.parametrize("step", erase_and_die.STEPS)
async def test_killed_at_any_step_the_next_start_goes_on(tmp_path: Path, step: str) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(20), canary_log()]), f'{{"torn {CANARY}'.encode())
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await publish(api, "all")
    script = [sys.executable, erase_and_die.__file__, str(tmp_path), CANARY, step]
    there = {**os.environ, "PYTHONPATH": str(Path(erase_and_die.__file__).parents[1])}
    assert await (await asyncio.create_subprocess_exec(*script, env=there)).wait() == -signal.SIGKILL
    async with embedded(tmp_path) as (api, _):
        (request,) = (await api.client.get("/v1/erasures")).json()["erasures"]
        receipt = await ended(api, request["request_id"])
        assert where(tmp_path, CANARY) == []
        assert (receipt["verified"], receipt["logs"]) == (True, 1)
        assert [(one["name"], one["version"], one["revision"]) for one in receipt["versions"]] == [("all", 1, 2)]
        counts = removed(receipt)
        assert (counts["search index"], counts["registry"]) == (1, 1)
        assert await told(api) == [("all", 1, receipt["versions"][0]["digest"])]


async def test_a_row_that_another_log_says_stays_and_an_empty_version_keeps_its_number(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        same = [a_log(f"same-{n}", "the same?", "the same", session_id="s") for n in range(2)]
        await worker.publish(pack([*same, a_log("lonely", f"only {CANARY}", "yes")]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "both", "query": "id:same-*"})
        await api.client.post("/v1/datasets", json={"name": "one", "query": "id:lonely"})
        shared, alone = await publish(api, "both"), await publish(api, "one")
        untouched = await erased(api, log_id="same-1")
        now = await version(api, "both", 1)
        assert (untouched["versions"], now["digest"], now["revision"]) == ([], shared["digest"], 1)
        assert where(tmp_path / "files", "same-1") == []
        assert where(tmp_path / "files", "same-0") != []
        receipt = await erased(api, log_id="lonely")
        assert [(one["name"], one["rows_removed"]) for one in receipt["versions"]] == [("one", 1)]
        empty = await version(api, "one", 1)
        assert (empty["rows"], empty["revision"]) == (0, 2)
        assert await exported(api, "one", 1) == ""
        assert where(tmp_path, CANARY) == []
        for before, name in ((shared, "both"), (alone, "one")):
            assert before["version"] == 1
            assert (await api.client.get(f"/v1/datasets/{name}/versions/1/verify")).json()["ok"]
        assert removed(await erased(api, log_id="nobody-knows-it"))["search index"] == 0


async def test_an_imported_row_that_says_the_same_goes_from_drafts_and_versions(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([a_log("bad", f"who is {CANARY}?", "me"), a_log("good")]))
        await worker.work()
        lines = [{"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "me"}]}
                 for question in (f"who is {CANARY}?", "who are you?")]  # fmt: skip
        body = "\n".join(json.dumps(line) for line in lines)
        await api.client.post("/v1/datasets", json={"name": "theirs", "query": "id:none"})
        reply = await api.client.post("/v1/datasets/theirs/import", content=body)
        assert reply.status_code < 300, reply.text
        await publish(api, "theirs")
        receipt = await erased(api, log_id="bad")
        assert where(tmp_path, CANARY) == []
        assert removed(receipt)["imported rows"] == 1
        assert (await version(api, "theirs", 1))["rows"] == 1


async def test_deleting_a_log_and_the_job_reach_versions_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure_store, "JOIN_MS", 3_000)
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(30), canary_log(), canary_log("worse", 2), canary_log("third", 3)]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await publish(api, "all")
        for log_id in ("bad", "worse"):
            assert (await api.client.delete(f"/v1/logs/{log_id}")).status_code == 202
        (request,) = (await api.client.get("/v1/erasures")).json()["erasures"]
        receipt = await ended(api, request["request_id"])
        assert (receipt["kind"], receipt["logs"], removed(receipt)["search index"]) == ("log", 2, 2)
        assert (await version(api, "all", 1))["rows"] == 31
        assert (await api.client.delete("/v1/logs/bad")).status_code == 202
        assert len((await api.client.get("/v1/erasures")).json()["erasures"]) == 1
        job = {"kind": "delete", "query": CANARY, "expected_total": 1}
        assert (await api.client.post("/v1/jobs", json=job)).status_code == 202
        async with asyncio.timeout(30):
            while True:
                if len(found := (await api.client.get("/v1/erasures")).json()["erasures"]) == 2:
                    break
                await asyncio.sleep(0.1)
        receipt = await ended(api, found[0]["request_id"])
        assert (receipt["kind"], receipt["logs"]) == ("query", 1)
        assert (await version(api, "all", 1))["rows"] == 30
        left = where(tmp_path, CANARY)
        assert {name.split(":")[-1].strip() for name in left} <= {"registry.db", "jobs", "registry.db-wal"}, left


async def test_one_says_which_it_waits_for(tmp_path: Path) -> None:
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(registry)
    first = erasure_store.start(registry, "default", "subject", "ann", by="person:x")
    erasure_store.claim(registry, "default", "another server")
    async with running_api(tmp_path) as api:
        waiting = (await api.client.post("/v1/erasures", json={"subject": "bob"})).json()
        assert (waiting["status"], waiting["waits_for"]) == ("running", first.request_id)
        listed = (await api.client.get("/v1/erasures")).json()["erasures"]
        assert [one["waits_for"] for one in listed] == [first.request_id, None]
    registry.dispose()


@pytest.mark.parametrize("again", ["asked", "later"])
async def test_one_that_failed_goes_on_and_still_knows_its_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(5), canary_log()]))
        await worker.work()
        for name in ("damaged", "whole"):
            await api.client.post("/v1/datasets", json={"name": name, "query": ""})
            await publish(api, name)
        (manifest,) = (api.files / "datasets/default/damaged/manifests").iterdir()
        content = manifest.read_bytes()
        manifest.unlink()
        monkeypatch.setattr(erasure_store, "AGAIN_MS", 1_000 if again == "later" else 10**9)
        started = (await api.client.post("/v1/erasures", json={"subject": CANARY})).json()
        told = await seen(api, started["request_id"], lambda now: now["status"] != "running")
        assert (told["status"], "missing" in told["error"], told["verified"]) == ("failed", True, False)
        assert (await version(api, "whole", 1))["rows"] == 5
        manifest.write_bytes(content)
        if again == "asked":
            receipt = await erased(api, subject=CANARY)
        else:
            await seen(api, started["request_id"], lambda now: now["status"] != "failed")
            receipt = await ended(api, started["request_id"])
        assert (receipt["request_id"], receipt["error"]) == (started["request_id"], None)
        assert {one["name"] for one in receipt["versions"]} == {"damaged", "whole"}
        assert where(tmp_path, CANARY) == []


async def test_no_log_joins_a_request_of_which_a_step_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure_store, "JOIN_MS", 100)
    monkeypatch.setattr(erase, "LONGEST_WAIT_S", 0.2)
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(5), canary_log(), canary_log("worse", 2)]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await publish(api, "all")
        expunge, is_away = api.index.expunge, True

        async def away() -> None:
            if is_away:
                raise IndexUnavailable("it is away")
            await expunge()

        monkeypatch.setattr(api.index, "expunge", away)
        await api.client.delete("/v1/logs/bad")
        (request,) = (await api.client.get("/v1/erasures")).json()["erasures"]
        await seen(api, request["request_id"], lambda now: "files" in now["steps"])
        await api.client.delete("/v1/logs/worse")
        is_away = False
        both = [
            await ended(api, one["request_id"]) for one in (await api.client.get("/v1/erasures")).json()["erasures"]
        ]
        assert [receipt["logs"] for receipt in both] == [1, 1]
        assert where(tmp_path, CANARY) == []


async def test_one_that_was_not_verified_is_not_when_it_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([canary_log()]))
        await worker.work()
        verify, overwrite, closed = erase.STEPS["verify"], erase.expunge, 0

        async def late(work: erase.Erasing) -> list[Line]:
            """Somebody writes the log again and again."""
            await verify(work)
            await work.note(msgspec.structs.replace(work.request.receipt, verified=False))
            return []

        def away(registry: Engine) -> bool:
            nonlocal closed
            closed += 1
            if closed > 1:
                return overwrite(registry)
            monkeypatch.setitem(erase.STEPS, "verify", verify)
            raise Unavailable("it is away")

        monkeypatch.setitem(erase.STEPS, "verify", late)
        monkeypatch.setattr(erase, "expunge", away)
        receipt = await erased(api, log_id="bad")
        assert (receipt["logs"], receipt["verified"], closed) == (1, False, 2)


async def test_what_a_killed_publisher_left_is_found(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(5), canary_log()]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await publish(api, "all")
        with api.registry.begin() as connection:
            for table in (versions, outbox):  # its files are those of a version that never was
                connection.execute(delete(table))
        half = api.files / f"datasets/default/all/parts/.x.parquet.{'0' * 26}.tmp"
        half.write_text(CANARY)
        await publish(api, "all")
        receipt = await erased(api, query=f"user:{CANARY}", expected_total=1)
        assert where(tmp_path, CANARY) == []
        assert removed(receipt)["dataset files"] >= 3


async def test_a_version_that_is_published_meanwhile_holds_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(5), canary_log()]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        gone = erasing_before(api, monkeypatch, publishing, "name", subject=CANARY)
        published = await publish(api, "all")
        assert (published["rows"], gone.is_set()) == (5, True)
        await erased(api, subject=CANARY)
        assert [name for name in where(tmp_path, CANARY) if "tmp" not in name] == []


def erasing_before(
    api: Running, monkeypatch: pytest.MonkeyPatch, place: ModuleType, step: str, **wanted: Any
) -> asyncio.Event:
    """An erasure from its begin to its end while somebody publishes, before this function of theirs; set once it is over."""
    theirs, gone, loop = getattr(place, step), asyncio.Event(), asyncio.get_running_loop()

    def slow(*args: Any, **more: Any) -> Any:
        if not gone.is_set():
            asyncio.run_coroutine_threadsafe(erased(api, **wanted), loop).result(60)
            loop.call_soon_threadsafe(gone.set)
        return theirs(*args, **more)

    monkeypatch.setattr(place, step, slow)
    return gone


async def test_rows_that_are_written_after_an_erasure_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(5), canary_log()]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        gone = erasing_before(api, monkeypatch, publishing, "write_rows", subject=CANARY)
        assert ((await publish(api, "all"))["rows"], gone.is_set()) == (5, True)
        assert where(tmp_path, CANARY) == []


@pytest.mark.parametrize("step", ["write_rows", "name"])
@pytest.mark.parametrize("dataset", ["theirs", "copy"])
async def test_an_imported_row_is_in_no_version_that_is_published_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, step: str
) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([a_log("bad", f"who is {CANARY}?", "me"), a_log("good")]))
        await worker.work()
        body = "\n".join(
            json.dumps({"prompt": question, "completion": "me"}) for question in (f"who is {CANARY}?", "who are you?")
        )
        await api.client.post("/v1/datasets", json={"name": "theirs", "query": "id:none"})
        assert (await api.client.post("/v1/datasets/theirs/import", content=body)).json()["imported"] == 2
        if dataset == "copy":
            await publish(api, "theirs")
            copy = {"name": "copy", "ingredients": [{"kind": "version", "of": "theirs@v1"}]}
            assert (await api.client.post("/v1/datasets", json=copy)).status_code == 201
        gone = erasing_before(api, monkeypatch, publishing, step, log_id="bad")
        made = await publish(api, dataset)
        assert (made["rows"], gone.is_set()) == (1, True)
        assert (await api.client.get(f"/v1/datasets/{dataset}/versions/1/verify")).json()["ok"]
        assert where(tmp_path, CANARY) == []
        await api.client.post("/v1/datasets/theirs/import", content=body)
        assert (await api.client.get("/v1/datasets/theirs/rows")).json()["excluded"] == {"erased": 1}


async def test_a_file_that_others_took_away_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two logs say the same and one is erased: the part that nobody names yet goes, and who was about to name it writes it anew."""
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([a_log("bad", "the same?", "yes"), a_log("good", "the same?", "yes")]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "one", "query": "id:good"})
        gone = erasing_before(api, monkeypatch, publishing, "name", log_id="bad")
        assert ((await publish(api, "one"))["rows"], gone.is_set()) == (1, True)
        assert (await api.client.get("/v1/datasets/one/versions/1/verify")).json()["ok"]


@pytest.mark.parametrize("calls", [1, 2])
async def test_of_every_part_that_a_killed_publisher_left_it_is_known_whose_rows_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(5), canary_log()]))
        await worker.work()
        change = {"output": [{"role": "assistant", "content": f"edited {CANARY}"}], "why": "better"}
        await api.client.patch("/v1/logs/bad", json=change)
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        put_many, left = Files.put_many, calls

        def killed(files: Files, contents: Mapping[str, bytes]) -> int:
            """Killed after so many calls."""
            nonlocal left
            left -= 1
            if left < 0:
                raise Unavailable("killed")
            return put_many(files, contents)

        monkeypatch.setattr(Files, "put_many", killed)
        assert (await api.client.post("/v1/datasets/all/versions", json={})).status_code == 503
        assert (where(api.files, CANARY) != []) == (calls == 2)
        await api.client.patch("/v1/logs/bad", json={**change, "output": [{"role": "assistant", "content": CANARY}]})
        left = 10**9
        await erased(api, subject=CANARY)
        assert where(tmp_path, CANARY) == []


async def test_a_file_that_is_half_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "LEFT_BEHIND_MS", 1_000)
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(2), canary_log()]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await publish(api, "all")
        (api.files / f"datasets/default/all/parts/.x.parquet.{new_id()}.tmp").write_text(CANARY)
        await erased(api, subject=CANARY)
        assert where(tmp_path, CANARY) == []


async def test_a_version_that_is_amended_meanwhile_holds_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(45), canary_log()]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await publish(api, "all")
        for number in range(40):  # of these, some lie in the bucket of the canary
            await api.client.delete(f"/v1/datasets/all/rows/log-{number}")
        gone = erasing_before(api, monkeypatch, amending, "rewrite", subject=CANARY)
        amended = await publish(api, "all", amend="1")
        assert (amended["rows"], gone.is_set()) == (5, True)
        assert where(tmp_path, CANARY) == []


def a_folder(folder: Path) -> None:
    """What a run leaves, with rows that hold the canary in its report and in its samples."""
    folder.mkdir(parents=True, exist_ok=True)
    sample = {"of": "held_out", "expected": CANARY, "before": "a", "after": "b"}
    result = {"metrics": {}, "forgetting": {"says": [], "by_topic": []}, "gates": [], "slices": [], "rows": {}}
    recipe = SimpleNamespace(method="lora", base="b")
    order = SimpleNamespace(run_id="saw", name="all", version=1, digest="d", recipe=recipe)
    text = report(order, "succeeded", result, samples=[sample], trained=[(CANARY, "c")])  # type: ignore[arg-type]
    (folder / REPORT).write_text(text)
    (folder / SAMPLES_FILE).write_text(json.dumps(sample) + "\n")
    write_manifest(folder, {"run_id": "saw"})


def shows_nothing(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in (REPORT, SAMPLES_FILE):
        content = (folder / name).read_bytes()
        assert CANARY.encode() not in content
        assert manifest["files"][name] == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert b"## Gates" in (folder / REPORT).read_bytes()
    assert (folder / SAMPLES_FILE).read_bytes() == b""


def test_a_run_that_ends_after_the_erasure_shows_nothing_either(tmp_path: Path) -> None:
    a_folder(tmp_path)
    for _ in range(2):
        hide_rows(tmp_path)
        shows_nothing(tmp_path)


async def test_the_canary_is_nowhere_and_does_not_come_back(tmp_path: Path) -> None:
    """Everywhere at once: logs, their topic, an edit, feedback, a dead letter, drafts, versions, a correction, a run's report."""
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(40), canary_log()]), f'{{"torn": "{CANARY}'.encode())
        said = Feedback(feedback_id="f1", ts_ms=1, name="right", log_id="bad", score=0.0, correction=f"no, {CANARY}")
        await api.bus.publish(FEEDBACK, [Outgoing(wire.encode(said), key=said.feedback_id)])
        await worker.work()
        await joined(api)
        change = {"output": [{"role": "assistant", "content": f"edited {CANARY}"}], "why": CANARY}
        assert (await api.client.patch("/v1/logs/bad", json=change)).status_code == 200
        corrected = {"kind": "search", "query": "", "answer": "corrected"}
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        await api.client.post("/v1/datasets", json={"name": "better", "ingredients": [corrected]})
        versions_of = [await publish(api, "all"), await publish(api, "better")]
        body = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": f"mine, {CANARY}"}]}
        assert (await api.client.patch("/v1/datasets/all/rows/bad", json=body)).status_code < 300
        versions_of.append(await publish(api, "all"))
        assert [CANARY in await exported(api, one["name"], one["version"]) for one in versions_of] == [True] * 3
        assert f"no, {CANARY}" in await exported(api, "better", 1)
        folder = api.files / "runs/default/saw"
        a_folder(folder)
        with api.registry.begin() as connection:
            connection.execute(insert(runs).values(**a_run("saw", versions_of[0], artefact_url=str(folder))))
        before = stores_with(tmp_path)
        receipt = await erased(api, subject=CANARY)
        after = stores_with(tmp_path)
        for store in sorted(before):
            print(f"{store:40} {before[store]:3} -> {after[store]}")
        assert set(before) >= {"bus.db", "registry.db", "files/datasets", "files/runs", "index/logs-default"}
        assert not after
        assert (receipt["verified"], len(receipt["versions"])) == (True, 3)
        again = StreamWorker(api.bus, open_index(f"local:{tmp_path / 'again'}"))
        assert (await again.work("from the start"))[Outcome.INDEXED] == 40
        assert len(await ids(again.index)) == 40
        await again.index.close()
        assert not stores_with(tmp_path)
        assert CANARY not in json.dumps(receipt)


async def test_media_go_that_no_other_log_shows(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        own, shared = "o" * 22, "s" * 22
        tokens = {one: f"@@@langfuseMedia:type=image/png|id={one}|source=bytes@@@" for one in (own, shared)}
        folder = api.files / "media/default"
        folder.mkdir(parents=True)
        for name in (own, f"{own}.json", shared, f"{shared}.json"):
            (folder / name).write_text("{}")
        await worker.publish(pack([a_log("bad", tokens[own] + tokens[shared]), a_log("good", tokens[shared])]))
        await worker.work()
        receipt = await erased(api, log_id="bad")
        assert removed(receipt)["media"] == 1
        assert sorted(path.name for path in folder.iterdir()) == [shared, f"{shared}.json"]


async def joined(api: Running) -> None:
    """Come back when the feedback has reached its log."""
    async with asyncio.timeout(30):
        while True:
            log = await api.index.get("bad")
            if log is not None and log.feedback:
                return
            await asyncio.sleep(0.1)


def stores_with(folder: Path) -> Counter[str]:
    """In how many places of each store the canary is."""
    return Counter("/".join(name.split(":")[0].split("/")[:2]) for name in where(folder, CANARY))


def a_run(run_id: str, of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "run_key": run_id, "project": "default", "name": "all", "version": of["version"],
        "digest": of["digest"], "manifest_url": "m", "recipe": {"base": "b"}, "status": "succeeded", "attempt": 1,
        "event_seq": 0, "created_ms": 1, "started_ms": 2, **more,
    }  # fmt: skip


async def test_it_is_said_which_runs_saw_a_log_and_their_reports_show_nothing(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (api, worker):
        await worker.publish(pack([*logs(30), canary_log()]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        first = await publish(api, "all")
        folder = api.files / "runs/default/saw"
        a_folder(folder)
        uploading = api.files / "runs/default/killed/report.md"
        a_folder(uploading.parent)
        (uploading.parent / "manifest.json").unlink()
        rows = [
            a_run("saw", first, artefact_url=str(folder), result={"weights": "w" * 64}),
            a_run("waits", first, status="queued", started_ms=None),
            a_run("trains", first, status="running"),
            a_run("killed", first, status="running"),
            a_run("other", first, digest="another"),
            a_run(
                "replays",
                first,
                name="elsewhere",
                digest="y",
                recipe={"base": "b", "replay": {"digest": first["digest"]}},
            ),
            a_run("on merged", first, name="elsewhere", digest="z", recipe={"base": f"{folder}/merged"}),
            a_run("child", first, name="elsewhere", digest="x", recipe={"base": str(folder)}),
            a_run("on a copy", first, name="elsewhere", digest="w", identity={"weights": "w" * 64}),
            a_run("on another", first, name="elsewhere", digest="w", identity={"weights": "v" * 64}),
        ]
        with api.registry.begin() as connection:
            for row in rows:
                connection.execute(insert(runs).values(**row))
        with api.registry.begin() as connection:
            put_alias(connection, "default", "all", "champion", "saw", by="person:x")
        receipt = await erased(api, subject=CANARY)
        assert where(tmp_path, CANARY) == []
        assert {one["run_id"]: one["aliases"] for one in receipt["runs"] if one["aliases"]} == {"saw": ["champion"]}
        assert {one["run_id"]: one["exposure"] for one in receipt["runs"]} == {
            "saw": "exposed",
            "waits": "redacted before training",
            "trains": "exposed",
            "killed": "exposed",
            "other": "not exposed",
            "replays": "exposed",
            "on merged": "exposed",
            "child": "exposed",
            "on a copy": "exposed",
        }
        with api.registry.connect() as connection:
            asked = select(runs.c.run_id).where(runs.c.cancel_requested_ms.is_not(None)).order_by(runs.c.run_id)
            assert connection.execute(asked).scalars().all() == ["killed", "trains", "waits"]
        shows_nothing(folder)
        assert removed(receipt)["run reports"] == 2


async def test_in_a_bucket_nothing_is_left_either(tmp_path: Path, bucket: str) -> None:
    async with running_api(tmp_path, files_url=bucket) as api:
        worker = StreamWorker(api.bus, api.index)
        await worker.publish(pack([*logs(20), canary_log()]))
        await worker.work()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        before = await publish(api, "all")
        files = Files(bucket)
        assert any(CANARY in text for text in contents(files))
        receipt = await erased(api, subject=CANARY)
        assert receipt["versions"][0]["replaces_digest"] == before["digest"]
        assert not any(CANARY in text for text in contents(files))
        assert (await api.client.get("/v1/datasets/all/versions/1/verify")).json()["ok"]
        assert where(tmp_path, CANARY) == []


def contents(files: Files) -> list[str]:
    """Every file of a bucket, opened."""
    found = [(Path(path), files.read(path)) for path in files.list("")]
    return [str(value) for path, content in found for value in (content, *(one for _, one in opened(path, content)))]
