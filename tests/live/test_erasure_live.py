"""An erasure over the engines for production: Elasticsearch, Kafka and PostgreSQL."""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines.own_index import opened
from engines.postgres import empty_database, postgres
from fakes.curator_api import Running, running_api, tagged
from sqlalchemy import text

from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Outgoing
from tunemill.curator_api import erase
from tunemill.indexer.search import SearchIndex
from tunemill.schemas import wire
from tunemill.schemas.records import Feedback
from tunemill.schemas.stored import StoredNote
from tunemill.schemas.topics import FEEDBACK, LOGS
from tunemill.schemas.trace import TraceNote
from tunemill.streams.batch import Hop, run_batch
from tunemill.streams.erased import follow_erasures
from tunemill.streams.feedback import keep_feedback
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def registry_url() -> Iterator[str]:
    with postgres() as server, empty_database(server) as url:
        yield url


async def erased(api: Running, **wanted: Any) -> dict[str, Any]:
    reply = await api.client.post("/v1/erasures", json=wanted)
    assert reply.status_code == 202, reply.text
    async with asyncio.timeout(240):
        while True:
            now = (await api.client.get(f"/v1/erasures/{reply.json()['request_id']}")).json()
            if now["status"] != "running":
                return dict(now)
            await asyncio.sleep(0.5)


async def replay(bus: Bus, index: SearchIndex) -> None:
    """All that lies on the bus, once more, as a worker does that begins at the start."""
    async with follow_erasures(bus, index) as gone, bus.subscribe([LOGS, FEEDBACK], group=None) as reader:
        hop = Hop(index, bus, gone, Rulebook(load_rules()))
        while await reader.lag():
            messages = await reader.poll(max_messages=500, timeout_s=1.0)
            await run_batch([one for one in messages if one.topic == LOGS.name], hop)
            await keep_feedback([one for one in messages if one.topic == FEEDBACK.name], hop)


def traced(trace_id: str, word: str) -> list[Outgoing]:
    """A trace with one call, what it says about itself, and what somebody said about it, as Langfuse's SDK sends them."""
    bodies = {
        "trace-create": {"id": trace_id, "userId": word, "metadata": {"note": word}},
        "generation-create": {"id": "call", "traceId": trace_id, "output": word, "model": "m"},
        "score-create": {"id": f"score-{trace_id}", "traceId": trace_id, "name": "right", "value": 1, "comment": word},
    }
    at = "2026-11-22T18:47:05.500Z"
    events = [{"id": kind, "type": kind, "timestamp": at, "body": body} for kind, body in bodies.items()]
    return [Outgoing(json.dumps(event).encode(), key=trace_id) for event in events]


async def test_what_an_erased_trace_said_does_not_come_back_from_kafka(
    tmp_path: Path, elasticsearch_url: str, kafka_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erase, "LOOK_EVERY_S", 0.05)
    gone, kept = (f"canary{uuid.uuid4().hex}" for _ in range(2))
    async with (
        opened(elasticsearch_url) as index,
        running_api(tmp_path, index=index, bus=open_bus(kafka_url)) as api,
    ):
        await api.bus.publish(LOGS, [*traced(f"t-{gone}", gone), *traced(f"t-{kept}", kept)])
        for _ in range(2):  # feedback among the logs goes by its own topic
            await replay(api.bus, index)
        assert await said(index, gone) == await said(index, kept) == (True, True, True)
        receipt = await erased(api, subject=gone)
        assert (receipt["status"], receipt["verified"], receipt["logs"]) == ("done", True, 1), receipt
        for _ in range(2):
            await replay(api.bus, index)
        assert await said(index, gone) == (False, False, False)
        assert await said(index, kept) == (True, True, True)


async def said(index: SearchIndex, word: str) -> tuple[bool, bool, bool]:
    """Whether there is the call of a trace, what the trace says, and what was said about it."""
    await index.refresh()
    trace_id = f"t-{word}"
    found = await index.stored(log_ids=[f"{trace_id}-call"], trace_ids=[trace_id])
    note = found.notes.get(trace_id, StoredNote(TraceNote(trace_id=trace_id))).note
    feedback = await index.feedback_of(tagged("any", trace_id=trace_id).log)
    return bool(found.logs), (note.user_id, note.metadata.get("note")) == (word, word), word in str(feedback)


async def test_what_cannot_be_reached_is_said_and_the_rest_is_gone(
    tmp_path: Path, elasticsearch_url: str, kafka_url: str, registry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erase, "LOOK_EVERY_S", 0.05)
    canary = f"canary{uuid.uuid4().hex}"
    logs = [tagged(f"good-{n}", f"question {n}", f"answer {n}") for n in range(20)]
    bad = tagged(f"bad-{uuid.uuid4().hex}", f"who is {canary}?", canary, user_id=canary)
    async with (
        opened(elasticsearch_url) as index,
        running_api(tmp_path, *logs, bad, index=index, bus=open_bus(kafka_url), registry_url=registry_url) as api,
    ):
        said = Feedback(feedback_id=canary, ts_ms=1, name="n", log_id=bad.log.log_id, comment=canary)
        await api.bus.publish(FEEDBACK, [Outgoing(wire.encode(said), key=said.feedback_id)])
        await index.add_feedback([said])
        await index.refresh()
        await api.client.post("/v1/datasets", json={"name": "all", "query": ""})
        assert (await api.client.post("/v1/datasets/all/versions", json={})).json()["rows"] == 21
        edit = {"add": ["topic:x"], "why": canary}
        assert (await api.client.post(f"/v1/logs/{bad.log.log_id}/tags", json=edit)).status_code == 200
        receipt = await erased(api, subject=canary)
        assert (receipt["status"], receipt["verified"], receipt["logs"]) == ("done", True, 1), receipt
        assert [(one["revision"], one["rows_removed"]) for one in receipt["versions"]] == [(2, 1)]
        stores = {line["store"]: line for line in receipt["stores"]}
        assert stores["topic llm.logs"]["kept_until_ms"] > time.time() * 1000
        assert stores["topic llm.logs.rejected"]["kept_until_ms"] > time.time() * 1000
        assert stores["topic llm.feedback"]["removed"] == 1
        assert "PostgreSQL" in stores["registry"]["note"]
        last = [message.value for message in await api.bus.tail(FEEDBACK, limit=50) if message.key == canary]
        assert last[0] == b""
        assert (await api.client.get("/v1/search", params={"q": f"user:{canary}"})).json()["total"] == 0
        with api.registry.connect() as connection:
            for table in ("edits", "erasure_requests", "erasure_items", "row_edits", "versions"):
                rows = connection.execute(text(f"SELECT * FROM {table}")).all()
                assert not [row for row in rows if canary in str(row)], table
