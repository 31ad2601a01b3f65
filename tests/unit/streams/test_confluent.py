"""Confluent's frames and the registry that holds their schemas."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fakes.http_server import Answer, Asked, json_answer, serving
from fakes.index_memory import MemoryIndex
from hypothesis import given
from hypothesis import strategies as st

from tunemill.bus.port import Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.schemas import wire
from tunemill.schemas.records import LogBatch, LogRecord, Message, ToolCall, Usage
from tunemill.schemas.topics import LOGS
from tunemill.streams.confluent import Schemas, WriterSchema, schema_ids
from tunemill.streams.decode import decode
from tunemill.streams.errors import RegistryUnavailable, Undecodable
from tunemill.streams.local import run_local
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules
from tunemill.streams.schema_registry import SchemaRegistry
from tunemill.streams.unpack import unpack

CAPTURES = Path(__file__).parent / "captures" / "confluent"
TS_MS = 1_780_000_000_000
LOG = LogRecord(
    log_id="one",
    ts_ms=5,
    messages=(Message(role="user", content="hello", parts=[{"type": "text", "text": "hello"}]),),
    output=(Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{", id="c"),)),),
    tools=[{"type": "function"}],
    params={"temperature": 0},
    usage=Usage(input_tokens=3),
    metadata={"k": "v"},
    extra={"mine": [1, 2]},
)
JSON = WriterSchema(avro=None)
TEXTS = {"type": "record", "name": "Call", "namespace": "shop", "fields": [{"name": "call", "type": "string"}]}


def frame(number: int, body: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + body


def avro(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return out.getvalue()


def record(**fields: Any) -> dict[str, Any]:
    """A schema with these fields, by their types."""
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}


def held(schema: Any) -> WriterSchema:
    return WriterSchema(avro=wire.parse_schema_text(json.dumps(schema)))


def own_schemas(*names: str) -> list[str]:
    return [wire.schema_text(name) for name in names]


def read(value: bytes, schemas: Schemas | None) -> LogRecord:
    (one,) = unpack(value, schemas)
    found = decode(one, ts_ms=TS_MS)
    assert isinstance(found, LogRecord)
    return found


def refused(value: bytes, schemas: Schemas | None) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        read(value, schemas)
    return caught.value


def test_what_confluents_client_writes():
    sent = json.loads((CAPTURES / "log_record.json").read_text(encoding="utf-8"))
    log = read(base64.b64decode(sent["value"]), {sent["id"]: held(sent["schema"])})
    asked = "Where is my parcel? 我的包裹"
    assert log.messages == (
        Message(role="user", content=asked, parts=[{"type": "text", "text": asked}]),
        Message(role="assistant", tool_calls=(ToolCall(name="parcel", arguments='{"id": 7}', id="c1"),)),
        Message(role="tool", content="in transit", tool_call_id="c1"),
    )
    assert (log.output, log.params) == ((Message(role="assistant", content="On its way."),), {"temperature": 0.5})
    assert (log.log_id, log.ts_ms, log.usage) == ("one", 1_780_000_000_000, Usage(input_tokens=9, output_tokens=4))
    assert (log.tools, log.extra) == ([{"type": "function", "function": {"name": "parcel"}}], None)


def test_our_own_schema_under_a_registrys_id():
    schema = wire.parse_schema_text(wire.schema_text("log_record"), own_schemas("tool_call", "message", "usage"))
    body = wire.encode(LOG)[wire.HEADER_BYTES :]
    assert read(frame(7, body), {7: WriterSchema(schema)}) == LOG


def test_a_batch_of_ours_is_many_logs():
    schema = wire.parse_schema_text(
        wire.schema_text("log_batch"), own_schemas("tool_call", "message", "usage", "log_record")
    )
    body = wire.encode(LogBatch((LOG, LOG)))[wire.HEADER_BYTES :]
    found = [decode(one, ts_ms=TS_MS) for one in unpack(frame(7, body), {7: WriterSchema(schema)})]
    assert found == [LOG, LOG]


def test_another_version_of_our_schema_lacks_fields_and_has_others():
    schema = record(
        messages={"type": "array", "items": {**record(role="string", content=["null", "string"]), "name": "M"}},
        model=["null", "string"],
        colour="string",
    )
    value = {"messages": [{"role": "user", "content": "hi"}], "model": None, "colour": "red"}
    log = read(frame(1, avro(schema, value)), {1: held(schema)})
    assert log.messages == (Message(role="user", content="hi"),)
    assert (log.model, log.ts_ms, log.extra) == (None, TS_MS, {"record": {"colour": "red"}})
    assert log.log_id == read(frame(1, avro(schema, value)), {1: held(schema)}).log_id


def test_a_pair_whose_halves_are_json_in_text():
    schema = record(request="string", response=["null", "string"], messages=["null", "string"], app="string")
    value = {
        "request": '{"messages": [{"role": "user", "content": "hi"}]}',
        "response": '{"choices": [{"message": {"role": "assistant", "content": "{hello}"}, "finish_reason": "stop"}]}',
        "messages": None,
        "app": "{shop}",
    }
    log = read(frame(1, avro(schema, value)), {1: held(schema)})
    assert (log.source, log.app) == ("openai_pair", "{shop}")
    assert log.output == (Message(role="assistant", content="{hello}"),)


def test_values_that_json_has_no_type_for():
    schema = record(
        messages={"type": "array", "items": {**record(role="string", content="string"), "name": "M"}},
        ts_ms={"type": "long", "logicalType": "timestamp-micros"},
        price={"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
        raw="bytes",
        rate="double",
        day={"type": "int", "logicalType": "date"},
    )
    value = {
        "messages": [{"role": "user", "content": "hi"}],
        "ts_ms": datetime(2026, 5, 28, 20, 26, 40, 123_000, UTC),
        "price": Decimal("1.25"),
        "raw": b"\xff\x00",
        "rate": float("nan"),
        "day": datetime(2026, 5, 28, tzinfo=UTC).date(),
    }
    log = read(frame(1, avro(schema, value)), {1: held(schema)})
    assert log.ts_ms == 1_780_000_000_123
    assert log.extra == {"record": {"price": 1.25, "raw": "/wA=", "day": "2026-05-28"}}


def test_json_of_one_record_or_many():
    line = b'{"messages":[{"role":"user","content":"hi"}]}'
    assert read(frame(3, line), {3: JSON}).messages == (Message(role="user", content="hi"),)
    assert len(unpack(frame(3, b"[" + line + b"," + line + b"]"), {3: JSON})) == 2


@pytest.mark.parametrize(
    ("value", "schemas", "code", "told"),
    [
        (frame(9, b"{}"), None, "no_schema_registry", "TUNEMILL_SCHEMA_REGISTRY_URL"),
        (b"\0\0\0", {}, "not_avro", "header"),
        (frame(9, b"{}"), {}, "unknown_schema", "9"),
        (frame(9, b"{}"), {9: "it is not there"}, "unknown_schema", "it is not there"),
        (frame(9, b"\x50"), {9: held(TEXTS)}, "not_avro", "torn"),
        (frame(9, avro(TEXTS, {"call": "x"}) + b"more"), {9: held(TEXTS)}, "not_avro", "left over"),
        (frame(9, avro(TEXTS, {"call": "x"})), {9: held(TEXTS)}, "unknown_shape", "no known shape"),
        (frame(9, avro("string", "x")), {9: held("string")}, "unknown_shape", "record"),
        (frame(9, b"not json"), {9: JSON}, "not_json", "JSON"),
        (frame(9, b""), {9: JSON}, "empty", "no bytes"),
    ],
)
def test_what_cannot_be_read_says_why(value: bytes, schemas: Schemas | None, code: str, told: str):
    error = refused(value, schemas)
    assert error.code == code
    assert told in str(error)


def test_a_schema_that_nests_without_end_is_cut_off():
    schema = record(inner=["null", "R"])
    value: dict[str, Any] = {"inner": None}
    for _ in range(70):
        value = {"inner": value}
    assert refused(frame(1, avro(schema, value)), {1: held(schema)}).code == "too_deep"


SCHEMAS = {
    0: JSON,
    1: held(TEXTS),
    2: held(record(messages={"type": "array", "items": "string"}, metadata={"type": "map", "values": "bytes"})),
    3: "not there",
}


@given(st.integers(0, 4), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(number: int, body: bytes):
    for value in (frame(number, body), frame(number, body)[: len(body)]):
        try:
            for one in unpack(value, SCHEMAS):
                decode(one, ts_ms=TS_MS)
        except Undecodable:
            pass


def test_the_ids_of_a_batch_are_asked_for_once_each():
    values = [frame(7, b"a"), frame(7, b"b"), frame(2**32 - 1, b""), b"\0\0", b"{}", b""]
    assert schema_ids(values) == {7, 2**32 - 1}


async def look_up(url: str, *ids: int, waits_s: tuple[float, ...] = ()) -> Schemas:
    registry = SchemaRegistry(url, waits_s=waits_s)
    try:
        return await registry.look_up(ids)
    finally:
        await registry.close()


async def test_a_schema_is_asked_for_once_and_an_unknown_one_with_each_batch():
    def answer(asked: Asked) -> Answer:
        return json_answer({"schema": json.dumps(TEXTS)}) if asked.path == "/schemas/ids/1" else Answer(404, b"{}")

    with serving(answer) as server:
        registry = SchemaRegistry(server.url)
        found = await registry.look_up({1, 2})
        assert await registry.look_up({1}) == {1: found[1]}
        await registry.look_up({1, 2})
        await registry.close()
    assert isinstance(found[1], WriterSchema)
    assert found[2] == "the schema registry does not know it"
    assert [asked.path for asked in server.asked] == ["/schemas/ids/1", "/schemas/ids/2", "/schemas/ids/2"]


async def test_schemas_that_it_refers_to_are_fetched_in_the_order_of_need():
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "text", "type": "string"}]}
    middle = {"type": "record", "name": "Middle", "fields": [{"name": "inner", "type": "Inner"}]}
    outer = record(middle="Middle", inner="Inner")
    paths = {
        "/schemas/ids/1": {
            "schema": json.dumps(outer),
            "references": [
                {"name": "Middle", "subject": "shop/middle", "version": 3},
                {"name": "Inner", "subject": "inner", "version": 1},
            ],
        },
        "/subjects/shop%2Fmiddle/versions/3": {
            "schema": json.dumps(middle),
            "references": [{"name": "Inner", "subject": "inner", "version": 1}],
        },
        "/subjects/inner/versions/1": {"schema": json.dumps(inner)},
    }
    with serving(lambda asked: json_answer(paths[asked.path])) as server:
        found = (await look_up(server.url, 1))[1]
    assert isinstance(found, WriterSchema)
    assert wire.read_avro(b"\x02a\x02b", found.avro) == {"middle": {"inner": {"text": "a"}}, "inner": {"text": "b"}}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"schema": "{", "schemaType": "AVRO"}, "no Avro schema"),
        ({"schema": "syntax = 'proto3'", "schemaType": "PROTOBUF"}, "type that is not read"),
        ({"schema": '"R"', "references": [{"name": "R", "subject": "gone", "version": 1}]}, "refers to"),
    ],
)
async def test_a_schema_that_cannot_be_used_says_why(answer: dict[str, Any], told: str):
    with serving(lambda asked: json_answer(answer) if asked.path.startswith("/schemas") else Answer(404)) as server:
        found = (await look_up(server.url, 1))[1]
    assert isinstance(found, str)
    assert told in found


async def test_schemas_that_refer_to_one_another_without_end_are_not_followed():
    answer = {"schema": '"R"', "references": [{"name": "R", "subject": "r", "version": 1}]}
    with serving(lambda _: json_answer(answer)) as server:
        found = (await look_up(server.url, 1))[1]
    assert isinstance(found, str)
    assert len(server.asked) < 20


async def test_what_looks_like_an_outage_is_tried_again():
    answers = iter([Answer(503), Answer(429), json_answer({"schema": "{}", "schemaType": "JSON"})])
    with serving(lambda _: next(answers)) as server:
        assert await look_up(server.url, 1, waits_s=(0.0, 0.0)) == {1: JSON}


@pytest.mark.parametrize(
    ("status", "body", "asked"),
    [(500, b"", 3), (401, b"", 1), (200, b"<html>", 1), (200, b'{"schema": 7}', 1)],
)
async def test_a_registry_that_gives_no_schema_stops_the_batch(status: int, body: bytes, asked: int):
    with serving(lambda _: Answer(status, body)) as server:
        with pytest.raises(RegistryUnavailable):
            await look_up(server.url, 1, waits_s=(0.0, 0.0))
        with pytest.raises(RegistryUnavailable):
            await look_up(server.url, 1, waits_s=(0.0, 0.0))
    assert len(server.asked) == 2 * asked


async def test_one_that_is_not_there_stops_the_batch():
    with serving(lambda _: Answer(500)) as server:
        url = server.url
    with pytest.raises(RegistryUnavailable) as caught:
        await look_up(url, 1)
    assert url.rpartition(":")[2] not in str(caught.value)


async def test_the_names_in_the_url_let_us_in_and_are_in_no_message():
    def answer(asked: Asked) -> Answer:
        is_known = asked.headers.get("authorization") == "Basic bWU6c2VjcmV0"
        return json_answer({"schema": "{}", "schemaType": "JSON"}) if is_known else Answer(401)

    with serving(answer) as server:
        named = server.url.replace("http://", "http://me:secret@")
        assert await look_up(named, 1) == {1: JSON}
        with pytest.raises(RegistryUnavailable) as caught:
            await look_up(server.url.replace("http://", "http://me:wrong@"), 1)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "registry:8081", "kafka://registry:8081", "http://", "http://[::1"])
async def test_an_address_that_is_no_url_is_refused_at_once(url: str):
    with pytest.raises(RegistryUnavailable):
        SchemaRegistry(url)


async def test_readiness_asks_the_registry():
    answers = iter([json_answer([]), Answer(500)])
    with serving(lambda _: next(answers)) as server:
        registry = SchemaRegistry(server.url)
        await registry.ping()
        with pytest.raises(RegistryUnavailable):
            await registry.ping()
        await registry.close()


FRAMED = frame(1, b'{"log_id":"framed","messages":[{"role":"user","content":"hi"}]}')


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SqliteBus]:
    bus = SqliteBus(tmp_path / "bus.db")
    await bus.create_topics([LOGS])
    await bus.publish(LOGS, [Outgoing(FRAMED)])
    yield bus
    await bus.close()


async def run_until(index: MemoryIndex, bus: SqliteBus, url: str) -> None:
    """The embedded loop, until the framed log is there or the loop has ended."""
    stop = asyncio.Event()
    loop = asyncio.create_task(run_local(bus, index, Rulebook(load_rules()), stop=stop, schema_registry_url=url))
    while not loop.done() and "framed" not in index.logs:
        await asyncio.wait([loop], timeout=0.01)
    stop.set()
    await loop


async def test_while_the_registry_refuses_us_a_message_waits(bus: SqliteBus):
    index = MemoryIndex()
    with serving(lambda _: Answer(401)) as server, pytest.raises(RegistryUnavailable):
        await run_until(index, bus, server.url)
    assert index.logs == {}
    with serving(lambda _: json_answer({"schema": "{}", "schemaType": "JSON"})) as server:
        await run_until(index, bus, server.url)
    assert set(index.logs) == {"framed"}
    assert len(server.asked) == 1
