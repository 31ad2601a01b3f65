"""What is taken out of topics: whole records, in their places, whatever they are packed in, and nothing of others."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import running_api
from fakes.index_memory import MemoryIndex
from fakes.stream_worker import StreamWorker

from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Message, Outgoing
from tunemill.curator_api.scrub import Erased, names_one, scrub
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.packing import pack
from tunemill.schemas.records import Feedback, LogBatch, LogRecord
from tunemill.schemas.records import Message as Said
from tunemill.schemas.told import TAKEN_OUT
from tunemill.schemas.topics import FEEDBACK, LOGS, REJECTED
from tunemill.streams.decode import decode
from tunemill.streams.formats.shape import NotACall
from tunemill.streams.told import told_in
from tunemill.streams.unpack import records_in

ERASED = Erased(log_ids=frozenset({"bad", "worse"}), answers=frozenset({"r-bad"}), traces=frozenset({"t-bad"}))


def log(log_id: str, **more: Any) -> LogRecord:
    return LogRecord(log_id=log_id, ts_ms=1, messages=(Said(role="user", content="hello"),), **more)


@pytest.fixture
async def bus(tmp_path: Path) -> Any:
    opened = open_bus(f"sqlite:{tmp_path / 'bus.db'}")
    yield opened
    await opened.close()


async def held(bus: Bus, topic: Any = LOGS) -> list[Message]:
    return sorted(await bus.tail(topic, limit=99), key=lambda message: message.offset)


PACKED = {
    "lines": pack([log("good"), log("bad"), log("kept")]),
    "array": b"[\n" + b",\n".join(msgspec.json.format(msgspec.json.encode(log(one))) for one in ("good", "bad", "kept")) + b"]",
    "avro": wire.encode(LogBatch(logs=(log("good"), log("bad"), log("kept")))),
    "langfuse": msgspec.json.encode({"batch": [
        {"id": one, "type": "generation-create", "timestamp": "2024-01-01T00:00:00Z",
         "body": {"id": one, "input": [{"role": "user", "content": "q"}], "output": "a"}}
        for one in ("good", "bad", "kept")
    ]}),
}  # fmt: skip


@pytest.mark.parametrize("how", PACKED)
async def test_a_record_of_many_goes_and_the_others_keep_their_places(bus: Bus, how: str) -> None:
    await bus.publish(LOGS, [Outgoing(PACKED[how], key="k")])
    lines = await scrub(bus, told_in, ERASED)
    assert (lines[0].store, lines[0].removed) == ("topic llm.logs", 1)
    (message,) = await held(bus)
    assert [told.log_id for told in told_in(message.value)] == ["good", None, "kept"]
    assert b"bad" not in message.value
    assert records_in(message.value)[1] == TAKEN_OUT
    counts = await StreamWorker(bus, MemoryIndex()).work()
    assert counts[Outcome.INDEXED] + counts[Outcome.MERGED] == 2
    assert not await held(bus, REJECTED)
    assert [line.removed for line in await scrub(bus, told_in, ERASED)] == [0, 0, 0]


def test_what_stands_in_the_place_of_a_record_is_no_call() -> None:
    assert isinstance(decode(TAKEN_OUT, ts_ms=0), NotACall)


async def test_a_message_of_nothing_else_is_passed_over_by_every_reader(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = StreamWorker(api.bus, MemoryIndex())
        await worker.publish(pack([log("bad")]), pack([log("bad"), log("worse")]), b'{"torn": "bad', b"torn, too")
        await worker.work()
        assert (await api.client.get("/v1/rejected")).json()["total"] == 2
        said = Feedback(feedback_id="f", ts_ms=1, name="n", response_id="r-bad", comment="c")
        other = Feedback(feedback_id="g", ts_ms=1, name="n", response_id="r-good")
        await api.bus.publish(FEEDBACK, [Outgoing(wire.encode(one), one.feedback_id) for one in (said, other)])
        await scrub(api.bus, told_in, ERASED)
        assert [message.is_scrubbed for message in await held(api.bus)] == [True, True, True, False]
        assert [message.is_scrubbed for message in await held(api.bus, FEEDBACK)] == [True, False]
        fresh = StreamWorker(api.bus, MemoryIndex())
        assert await fresh.work("fresh") == {Outcome.REJECTED: 1, Outcome.INDEXED: 1}  # torn, too; the other feedback
        await api.app.state.curator.dead_letters.forget()  # type: ignore[attr-defined]
        (letter,) = (await api.client.get("/v1/rejected")).json()["rejected"]
        assert letter["offset"] == 3
        sent = await api.client.post("/v1/rejected/redrive", json={"stage": "decode"})
        assert sent.json()["redriven"] == 1


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b'{"log_id": "bad", "x": 1}', True),
        (b'{"in": {"a": ["x", "t-bad"]}}', True),
        (b'{"text": "a bad day"}', False),  # a part of a text is no name
        (b'{"log_id": "bad', True),
        (b'{"log_id": "badly', False),
        (b"\xc3\x01..t-bad..", True),
        (b'{"a": "b"}', False),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_payload_names_a_log_only_whole(payload: bytes, named: bool, many: bool) -> None:
    if many and payload.startswith(b"\xc3"):
        return  # among very many names only words are looked up
    others = {f"other-{number}" for number in range(500)} if many else set()
    assert names_one(payload, ERASED.names | others) is named


async def test_of_a_trace_only_what_is_said_of_ended_ones_goes(bus: Bus) -> None:
    def note(trace_id: str) -> bytes:
        event = {"id": trace_id, "type": "trace-create", "timestamp": "2024-01-01T00:00:00Z"}
        return msgspec.json.encode(event | {"body": {"id": trace_id, "userId": "somebody"}})

    await bus.publish(LOGS, [Outgoing(note("t-bad")), Outgoing(note("t-good"))])
    await scrub(bus, told_in, ERASED)
    assert [message.is_scrubbed for message in await held(bus)] == [True, False]
    await scrub(bus, told_in, Erased(log_ids=frozenset(), subject="somebody"))
    assert [message.is_scrubbed for message in await held(bus)] == [True, True]
