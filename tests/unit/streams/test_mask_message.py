"""What goes on a bus that keeps it holds no secret, and is read as what was sent."""

import json

import msgspec
import pytest
from fakes.places import EXAMPLES, leaves, put
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tunemill.bus.port import Message as BusMessage
from tunemill.schemas import wire
from tunemill.schemas.records import Feedback, LogBatch, LogRecord, Message, RejectedLog, TaggedLog
from tunemill.schemas.topics import LOGS
from tunemill.streams.mask import MaskedPiece
from tunemill.streams.mask_message import mask_message
from tunemill.streams.process import Result, process
from tunemill.streams.rules import load_rules

SECRET = "sk-" + "a1B2" * 8
RULES = load_rules()
LOG = LogRecord(log_id="a", ts_ms=1, messages=(Message(role="user", content=f"my key {SECRET}"),))
PLAIN = LogRecord(log_id="b", ts_ms=1, messages=(Message(role="user", content="hello"),))


def read(value: bytes) -> list[Result]:
    return process([BusMessage(LOGS.name, 0, 0, None, value, 1)], RULES, now_ms=1)[0]


def log_id_of(result: Result) -> str:
    assert isinstance(result, TaggedLog | MaskedPiece)
    return result.log.log_id if isinstance(result, TaggedLog) else result.piece.log.log_id


@pytest.mark.parametrize(
    "value",
    [
        msgspec.json.encode(LOG) + b"\n" + msgspec.json.encode(PLAIN),
        json.dumps([msgspec.to_builtins(LOG), msgspec.to_builtins(PLAIN)], indent=1).encode(),
        wire.encode(LogBatch((LOG, PLAIN))),
        wire.encode(LOG),
        msgspec.json.encode(LOG).replace(b"sk-", rb"\u0073k-") + b"\n" + msgspec.json.encode(PLAIN),
    ],
    ids=["lines", "array", "batch", "avro", "escaped"],
)
def test_logs_are_tagged_and_stored_as_if_they_had_come_as_they_were_sent(value: bytes):
    masked = mask_message(value)
    assert SECRET.encode() not in masked
    assert b"\\u0073k-" not in masked
    assert read(masked) == read(value)
    assert mask_message(masked) == masked


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_shape_is_read_the_same(name: str):
    for path, value in leaves(EXAMPLES[name]):
        if isinstance(value, str):
            sent = json.dumps(put(EXAMPLES[name], path, f"{value} {SECRET}")).encode()
            masked = mask_message(sent)
            assert SECRET.encode() not in masked
            assert [type(one) for one in read(masked)] == [type(one) for one in read(sent)]


def test_spans_in_protobuf_are_masked_and_keep_their_ids():
    data = TracesData()
    span = data.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="chat")
    for key, value in (("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "m"), ("note", SECRET)):
        span.attributes.add(key=key).value.string_value = value
    sent = data.SerializeToString()
    masked = mask_message(sent)
    assert SECRET.encode() not in masked
    assert [log_id_of(one) for one in read(masked)] == [log_id_of(one) for one in read(sent)]


def test_many_spans_of_one_large_source_are_all_kept():
    data = TracesData()
    data.resource_spans.add().resource.attributes.add(key="host").value.string_value = "x" * 20_000
    spans = data.resource_spans[0].scope_spans.add().spans
    for number in range(1, 301):
        span = spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8), name="chat")
        span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
        span.attributes.add(key="gen_ai.request.model").value.string_value = "m"
        span.attributes.add(key="note").value.string_value = SECRET
    sent = data.SerializeToString()
    masked = mask_message(sent)
    assert SECRET.encode() not in masked
    assert len(masked) <= len(sent)
    assert [log_id_of(one) for one in read(masked)] == [log_id_of(one) for one in read(sent)]


def test_ids_that_hold_secrets_stay_apart_and_what_is_beside_is_left_alone():
    other = "sk-" + "c3D4" * 8
    logs = [msgspec.structs.replace(PLAIN, log_id=log_id) for log_id in (SECRET, other)]
    sent = b"\n".join(map(msgspec.json.encode, logs))
    masked = mask_message(sent)
    assert SECRET.encode() not in masked
    assert [log_id_of(one) for one in read(masked)] == [log_id_of(one) for one in read(sent)]


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (f"no JSON, {SECRET}".encode(), b"no JSON, [SECRET:api-key]"),
        (rb'{"torn": "\u0073k-' + b"a1B2" * 8 + b'"', b'{"withheld":"it may hold a secret, and cannot be masked"}'),
    ],
)
def test_what_nobody_can_read_is_masked_as_a_text_or_withheld(value: bytes, left: bytes):
    assert mask_message(value) == left
    (letter,) = read(left)
    assert isinstance(letter, RejectedLog)


@pytest.mark.parametrize("first", [SECRET, SECRET.replace("sk-", r"\u0073k-")])
def test_a_value_whose_name_comes_again_is_not_kept(first: str):
    assert mask_message(f'{{"note": "{first}", "note": "x"}}'.encode()) == b'{"note":"x"}'


def test_numbers_and_escapes_beside_words_about_secrets_stay_as_they_were_sent():
    sent = rb'{"messages": [{"role": "user", "content": "\u003cb\u003e password"}], "temperature": 1.50, "n": 1e2}'
    assert mask_message(sent) == sent


def test_feedback_is_masked_and_what_holds_no_secret_is_the_same_message():
    said = Feedback(feedback_id="f", ts_ms=1, name="good", log_id="a", comment=f"it told me {SECRET}")
    assert wire.decode(mask_message(wire.encode(said)), Feedback).comment == "it told me [SECRET:api-key]"
    plain = b'[ {"messages": [] , "password": "the word"} ]'
    assert mask_message(plain) == plain
