"""No bytes make decoding or processing raise anything but a rejection with a code from the list."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.bus.port import Message as BusMessage
from tunemill.schemas import wire
from tunemill.schemas.records import Erasure, LogBatch, LogRecord, Message, RejectedLog, TaggedLog, ToolCall, Usage
from tunemill.streams.decode import MAX_DEPTH, MAX_RECORD_BYTES, decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import registry
from tunemill.streams.process import process
from tunemill.streams.rules import load_rules
from tunemill.streams.unpack import MAX_RECORDS

CODES = {
    *("empty", "not_json", "not_avro", "unknown_schema", "unknown_shape", "invalid"),
    *("too_large", "too_deep", "too_many", "bad_log_id", "bad_time", "not_otlp", "no_schema_registry", "elsewhere"),
}
RULES = load_rules()
GOOD = LogRecord(log_id="good", ts_ms=1, messages=(Message(role="user", content="hello"),))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(
    [
        *(
            "messages",
            "output",
            "request",
            "response",
            "choices",
            "message",
            "role",
            "content",
            "tool_calls",
            "function",
        ),
        *(
            "name",
            "arguments",
            "usage",
            "prompt_tokens",
            "error",
            "log_id",
            "ts_ms",
            "timestamp",
            "workload_id",
            "tags",
        ),
        *(
            "metadata",
            "prompt",
            "finish_reason",
            "text",
            "id",
            "model",
            "extra",
            "params",
            "project",
            "source",
            "refusal",
        ),
    ]
)
near_misses = st.recursive(  # what looks like a log, with any value in any place
    json_values,
    lambda inner: st.dictionaries(field_names, inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=30,
)


def message(value: bytes) -> BusMessage:
    return BusMessage(topic="llm.logs", partition=1, offset=7, key=None, value=value, ts_ms=1_780_000_000_000)


def outcomes(value: bytes) -> list[TaggedLog | RejectedLog]:
    return process([message(value)], RULES, now_ms=99)[0]


def check(value: bytes) -> None:
    """Each record ends as a log that later hops can write down, or as a rejection with a known code."""
    for result in outcomes(value):
        if isinstance(result, RejectedLog):
            assert result.stage == "decode"
            assert result.error_code in CODES, result.reason
        else:
            assert wire.decode(wire.encode(result), TaggedLog).log.log_id
            assert result.tag_status == "ok"


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_rejected(value: bytes):
    check(value)


@settings(deadline=None, max_examples=400)
@given(st.dictionaries(field_names, near_misses, max_size=8))
def test_any_near_miss_decodes_or_is_rejected(value: dict[str, Any]):
    check(json.dumps(value).encode())


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 80))
def test_torn_avro_is_rejected(noise: bytes, cut: int):
    check(wire.encode(GOOD)[:cut] + noise)
    check(wire.encode(LogBatch((GOOD, GOOD)))[:cut] + noise)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (b"\n", "empty"),
        (b"not json", "not_json"),
        (b'{"messages": [', "not_json"),
        (b"\xff\xfe{}", "not_json"),
        (b'{"messages":"\xff"}', "not_json"),
        (b'{"a":"\\ud800"}', "not_json"),
        (b'{"a":1e999}', "not_json"),
        (b'{"messages":' + b"9" * 10_000 + b"}", "not_json"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
        (b'{"messages":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "too_deep"),
        (b'{"messages":"' + b"x" * MAX_RECORD_BYTES + b'"}', "too_large"),
        (wire.encode(Erasure(erasure_id="e", ts_ms=1, log_id="l")), "unknown_schema"),
        (wire.MARKER + b"12345678", "unknown_schema"),
    ],
)
def test_odd_bytes(payload: bytes, code: str):
    with pytest.raises(Undecodable) as caught:
        decode(payload, ts_ms=1)
    assert caught.value.code == code


def test_avro_and_json_of_one_record_are_one_log():
    assert decode(wire.encode(GOOD), ts_ms=5) == decode(msgspec.json.encode(GOOD), ts_ms=5) == GOOD


texts = st.text(max_size=3)
objects = st.none() | st.dictionaries(texts, st.integers() | st.none() | texts, max_size=2)
messages = st.builds(
    Message,
    role=st.sampled_from(["user", "user", "user", "tool", "function", ""]),
    content=st.none() | texts,
    parts=st.none() | st.lists(objects, max_size=2),
    tool_calls=st.lists(st.builds(ToolCall, name=texts, arguments=texts, id=st.none() | texts), max_size=2).map(tuple),
    name=st.none() | texts,
    refusal=st.none() | texts,
    reasoning=st.none() | texts,
)
our_records = st.builds(
    LogRecord,
    log_id=st.sampled_from(["one", "two", ""]),
    ts_ms=st.integers(-1, 9),
    messages=st.lists(messages, max_size=2).map(tuple),
    output=st.lists(messages, max_size=1).map(tuple),
    source=texts,
    tools=st.none() | st.lists(objects, max_size=1),
    params=objects,
    usage=st.builds(Usage, input_tokens=st.none() | st.integers(-1, 2)),
    cost_usd=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    tags=st.lists(texts, max_size=2).map(tuple),
    metadata=st.dictionaries(texts, texts, max_size=2),
    extra=objects,
)


@settings(deadline=None, max_examples=150)
@given(our_records)
def test_our_own_spelling_is_read_as_any_other(record: LogRecord):
    payload = msgspec.json.encode(record)
    assert read_or_reason(payload) == read_or_reason(msgspec.json.decode(payload))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (b'"messages"', b'"x":0,"messages"'),
        (b'"content"', b'"contents"'),
        (b'"role":', b'"role":"a","role":'),
        (b'"role":', b'"refusal":null,"role":'),
        (b'"name"', b'"type":"custom","name"'),
        (b'"input_tokens"', b'"cached_tokens":1,"input_tokens"'),
        (b"1000", b"1000.0"),
        (b"1000", b"1e3"),
        (b'"k"', b'"k":1,"k"'),
        (b"[{", b"[ {"),
    ],
)
def test_what_is_nearly_our_own_spelling_loses_nothing(ours: bytes, theirs: bytes):
    payload = msgspec.json.encode(OURS)
    assert ours in payload
    payload = payload.replace(ours, theirs, 1)
    assert read_or_reason(payload) == read_or_reason(msgspec.json.decode(payload))


def read_or_reason(payload: bytes | dict[str, Any]) -> tuple[str, str] | LogRecord:
    try:
        log = decode(payload, ts_ms=7)
    except Undecodable as error:
        return error.code, str(error)
    assert isinstance(log, LogRecord)
    return msgspec.structs.replace(log, log_id=log.log_id[:4])  # a digest of the payload where there is none


OURS = LogRecord(
    log_id="one",
    ts_ms=1000,
    messages=(Message(role="user", content="hi", tool_calls=(ToolCall(name="f", arguments="{}"),)),),
    params={"b": 1, "a": None},
    usage=Usage(input_tokens=2),
    metadata={"k": "v"},
)


def test_our_own_spelling_is_read_without_a_detour(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "read", None)
    assert decode(msgspec.json.encode(OURS), ts_ms=7) == OURS


@pytest.mark.parametrize("field", ["tools", "params", "extra", "parts"])
@pytest.mark.parametrize("depth", range(MAX_DEPTH - 4, MAX_DEPTH + 2))
def test_what_is_too_deep_is_so_in_any_spelling(field: str, depth: int):
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    fields = {} if field == "parts" else {field: value}
    asked = Message(role="user", content="hi", parts=value if field == "parts" else None)
    payload = msgspec.json.encode(LogRecord(log_id="one", ts_ms=1, messages=(asked,), **fields))
    assert read_or_reason(payload) == read_or_reason(b" " + payload)
    assert isinstance(read_or_reason(payload), tuple) == (depth + (3 if field == "parts" else 1) > MAX_DEPTH)


def test_one_bad_record_does_not_touch_its_neighbours():
    good = msgspec.json.encode(GOOD)
    results = outcomes(b"\n".join([good, b'{"event":1}', good]))
    assert [type(result) for result in results] == [TaggedLog, RejectedLog, TaggedLog]
    rejected = results[1]
    assert isinstance(rejected, RejectedLog)
    assert (rejected.rejected_id, rejected.error_code, rejected.payload) == (
        "llm.logs:1:7:1",
        "unknown_shape",
        b'{"event":1}',
    )
    assert (rejected.ts_ms, rejected.topic, rejected.partition, rejected.offset) == (99, "llm.logs", 1, 7)


def test_a_record_in_an_avro_batch_is_held_to_the_same_limits():
    large = LogRecord(log_id="l", ts_ms=1, messages=(Message(role="user", content="x" * MAX_RECORD_BYTES),))
    results = outcomes(wire.encode(LogBatch((GOOD, large))))
    assert [getattr(result, "error_code", None) for result in results] == [None, "too_large"]


def test_a_message_of_countless_records_is_one_dead_letter():
    (result,) = outcomes(b"[" + b",".join([b"1"] * (MAX_RECORDS + 1)) + b"]")
    assert isinstance(result, RejectedLog)
    assert result.error_code == "too_many"


def test_secrets_in_a_rejected_record_are_masked_and_what_is_too_large_is_left_out():
    (result,) = outcomes(b'{"event":"key sk-aaaaaaaaaaaaaaaaaaaaaaaa\xc3\xbc"}')
    assert isinstance(result, RejectedLog)
    assert result.payload == b'{"event":"key [SECRET:api-key]\xc3\xbc"}'
    (result,) = outcomes(b"x" * (7 * 2**20))
    assert isinstance(result, RejectedLog)
    assert (result.error_code, result.payload, result.payload_bytes) == ("too_large", b"", 7 * 2**20)
