"""Messages of OpenTelemetry, from bytes to readings: traces and logs, protobuf and JSON, in whatever dialect their spans are."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from clients.case import model_of, response_id
from clients.chat_cases import TABLE
from fakes.spans import CAPTURES, attribute_values
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tunemill.bus.port import Message as BusMessage
from tunemill.schemas import otlp, wire
from tunemill.schemas.ids import span_log_id
from tunemill.schemas.records import LogBatch, LogRecord, Message, RejectedLog
from tunemill.schemas.trace import TraceNote
from tunemill.streams.decode import decode, examine
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import NotACall, Piece, Reading
from tunemill.streams.process import process
from tunemill.streams.rules import load_rules
from tunemill.streams.unpack import MAX_RECORDS, unpack

TS_MS = 1_780_000_000_123
START_NS = 1_780_000_000_500_000_000
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ASKED = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}])
CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.input.messages": ASKED}
CAPTURED = sorted(path for pattern in ("*/traces-*.json", "*/logs-*.json") for path in CAPTURES.glob(pattern))


def item(attributes: dict[str, Any] | None = None, **span: Any) -> dict[str, Any]:
    """A span as `unpack` hands it on."""
    return {
        "resource": {"service.name": "shop", "telemetry.sdk.name": "opentelemetry", "host.name": "h"},
        "scope": {"name": "some.library", "version": "1.0"},
        "span": {
            "trace_id": TRACE_ID,
            "span_id": SPAN_ID,
            "parent_span_id": "00f067aa0ba902b7",
            "name": "chat m",
            "kind": "client",
            "start_ns": START_NS,
            "end_ns": START_NS + 1_500_000,
            "attributes": CALL if attributes is None else attributes,
            "events": [],
            "is_error": False,
            "status_message": None,
            **span,
        },
    }


def piece(attributes: dict[str, Any] | None = None, **span: Any) -> Piece:
    found = decode(item(attributes, **span), ts_ms=TS_MS)
    assert isinstance(found, Piece)
    return found


def log_of(attributes: dict[str, Any] | None = None, **span: Any) -> LogRecord:
    return piece(attributes, **span).log


def read_all(payload: bytes) -> list[Reading]:
    return [decode(record, ts_ms=TS_MS) for record in unpack(payload)]


def as_protobuf(request: bytes) -> bytes:
    """An OTLP/JSON request of traces in protobuf."""
    data = TracesData()
    for one in otlp.items(request):
        span, resource = one["span"], data.resource_spans.add()
        scope = resource.scope_spans.add()
        scope.scope.name = one["scope"]["name"]
        resource.resource.attributes.add(key="service.name").value.string_value = one["resource"]["service.name"]
        made = scope.spans.add(
            trace_id=bytes.fromhex(span["trace_id"]),
            span_id=bytes.fromhex(span["span_id"]),
            name=span["name"],
            start_time_unix_nano=span["start_ns"],
            end_time_unix_nano=span["end_ns"],
        )
        for key, value in span["attributes"].items():
            if isinstance(value, str):
                made.attributes.add(key=key).value.string_value = value
    return data.SerializeToString()


def test_a_call_is_a_part_of_its_log():
    part = piece()
    assert (part.rank, part.message_ns, part.choices, part.note) == (1, (), (), None)
    assert part.log == LogRecord(
        log_id=span_log_id(TRACE_ID, SPAN_ID),
        ts_ms=START_NS // 1_000_000,
        messages=(Message(role="user", content="hi"),),
        source="otlp",
        app="shop",
        model="m",
        latency_ms=1.5,
        trace_id=TRACE_ID,
        extra={
            "span": {
                "name": "chat m",
                "kind": "client",
                "span_id": SPAN_ID,
                "parent_span_id": "00f067aa0ba902b7",
                "scope": "some.library",
                "scope_version": "1.0",
            },
            "resource": {"host.name": "h"},
        },
    )


def test_how_many_attributes_a_span_lost_on_its_way_is_kept():
    assert log_of(dropped_attributes=12).extra["span"]["dropped_attributes"] == 12
    assert "dropped_attributes" not in log_of().extra["span"]


def test_what_no_field_holds_goes_to_extra():
    events = [
        {"name": "gen_ai.choice", "time_ns": 1, "attributes": {"message": "read"}},
        {"name": "retry", "time_ns": 2, "attributes": {"attempt": 2}},
    ]
    log = log_of({**CALL, "tier": "gold", "empty": "", "nested": {"a": [1]}}, events=events, links=[{"trace_id": "x"}])
    assert log.extra["attributes"] == {"tier": "gold", "nested": {"a": [1]}}
    assert log.extra["events"] == [{"name": "retry", "time_ns": 2, "attributes": {"attempt": 2}}]
    assert log.extra["span"]["links"] == [{"trace_id": "x"}]


def test_what_would_lead_to_a_person_beside_the_callers_own_id_is_not_kept():
    trace = {
        "name": "exception",
        "time_ns": 1,
        "attributes": {"exception.type": "E", "exception.stacktrace": "/home/ann"},
    }
    log = log_of({**CALL, "user.email": "a@b.c", "client.address": "10.0.0.1", "user.id": "u"}, events=[trace])
    assert log.user_id == "u"
    assert "attributes" not in log.extra
    assert log.extra["events"][0]["attributes"] == {"exception.type": "E"}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"attributes": {**CALL, "error.type": "RateLimitError"}}, "RateLimitError"),
        ({"attributes": {**CALL, "error.type": "<class 'openai.RateLimitError'>"}}, "RateLimitError"),
        ({"events": [{"name": "exception", "time_ns": 1, "attributes": {"exception.type": "E"}}]}, "E"),
        ({"attributes": {**CALL, "error.type": "_OTHER"}, "status_message": "Error code: 429 - no"}, "429"),
        ({"status_message": "what the user had written"}, "unnamed"),
        ({}, "unnamed"),
    ],
)
def test_a_failed_call_names_the_kind_of_error_only(said: dict[str, Any], error: str):
    log = log_of(is_error=True, **said)
    assert (log.status, log.error) == ("error", error)
    assert (log.extra.get("error") or {}).get("message") == said.get("status_message")


def test_a_dialects_own_word_about_an_error_goes_first():
    said = {"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": "Error code: 429 - no"}
    attributes = {"langfuse.observation.type": "generation", **said, "error.type": "E"}
    log = log_of(attributes, is_error=True, status_message="the span's own")
    assert (log.status, log.error, log.extra["error"]) == ("error", "429", {"message": "Error code: 429 - no"})


def test_an_error_type_alone_is_an_error():
    assert log_of({**CALL, "error.type": "timeout"}).status == "error"


@pytest.mark.parametrize(
    ("times", "ts_ms", "latency_ms"),
    [
        ({"start_ns": 0, "end_ns": 0}, TS_MS, None),
        ({"start_ns": 0, "end_ns": START_NS}, START_NS // 1_000_000, None),
        ({"start_ns": START_NS, "end_ns": START_NS - 1}, START_NS // 1_000_000, None),
        ({"start_ns": START_NS, "end_ns": START_NS}, START_NS // 1_000_000, 0.0),
        ({"start_ns": 2**64 - 1, "end_ns": 2**64 - 1}, (2**64 - 1) // 1_000_000, 0.0),
    ],
)
def test_times(times: dict[str, int], ts_ms: int, latency_ms: float | None):
    log = log_of(**times)
    assert (log.ts_ms, log.latency_ms) == (ts_ms, latency_ms)


@pytest.mark.parametrize(
    "span",
    [
        {"trace_id": ""},
        {"trace_id": "0" * 32},
        {"span_id": "0" * 16},
        {"trace_id": TRACE_ID[:-1]},
        {"span_id": SPAN_ID + "00"},
        {"span_id": "not hexadecimal!"},
        {"trace_id": 5},
        {"start_ns": "soon"},
        {"attributes": []},
        {"events": [{"name": "x"}]},
        {"name": None},
    ],
)
def test_a_span_that_is_none_is_rejected(span: dict[str, Any]):
    with pytest.raises(Undecodable) as caught:
        decode(item(**span), ts_ms=TS_MS)
    assert caught.value.code == "invalid"


@pytest.mark.parametrize("time_ns", [-1, 2**64, 10**400])
def test_a_start_that_otlp_cannot_write_is_rejected(time_ns: int):
    with pytest.raises(Undecodable) as caught:
        decode(item(start_ns=time_ns), ts_ms=TS_MS)
    assert caught.value.code == "bad_time"
    assert log_of(end_ns=time_ns).latency_ms is None


def test_an_application_without_a_name():
    one = item()
    for name in ("unknown_service:python", 5, ""):
        one["resource"]["service.name"] = name
        found = decode(one, ts_ms=TS_MS)
        assert isinstance(found, Piece)
        assert (found.log.app, found.log.extra["resource"]) == (None, {"host.name": "h"})


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"db.system": "postgresql"}, "span"),
        ({"gen_ai.operation.name": "embeddings"}, "embeddings"),
        ({"openinference.span.kind": "RETRIEVER"}, "retrieval"),
        ({"traceloop.span.kind": "workflow"}, "chain"),
        ({"langfuse.observation.type": "agent"}, "agent"),
    ],
)
def test_what_is_no_call_says_of_which_kind_it_is(attributes: dict[str, Any], kind: str):
    assert decode(item(attributes), ts_ms=TS_MS) == NotACall(kind)


@pytest.mark.parametrize(
    ("attributes", "note"),
    [
        ({"user.id": "u", "session.id": "s"}, {"user_id": "u", "session_id": "s"}),
        ({"enduser.id": "u"}, {"user_id": "u"}),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "c"}, {"session_id": "c"}),
        ({"langfuse.trace.tags": ["a"], "langfuse.observation.type": "span"}, {"tags": ("a",)}),
    ],
)
def test_who_called_may_be_said_once_for_a_trace(attributes: dict[str, Any], note: dict[str, Any]):
    assert decode(item(attributes), ts_ms=TS_MS) == TraceNote(trace_id=TRACE_ID, **note)


def test_what_a_call_says_for_its_whole_trace_goes_with_it():
    part = piece({"langfuse.observation.type": "generation", "langfuse.user.id": "u", "gen_ai.conversation.id": "c"})
    assert (part.note, part.log.user_id) == (TraceNote(trace_id=TRACE_ID, user_id="u"), "u")
    assert piece({**CALL, "user.id": "u"}).note is None


def test_dialects_of_one_span_are_united():
    log = log_of(
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "theirs",
            "llm.invocation_parameters": '{"temperature": 1, "top_p": 0.5}',
            "metadata": '{"k": "v"}',
            "tag.tags": ["a", "b"],
            "langfuse.trace.tags": ["b", "c"],
            "langfuse.trace.metadata.tier": "gold",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "ours",
            "gen_ai.request.temperature": 0,
            "gen_ai.request.seed": 7,
            "gen_ai.response.id": "r",
            "llm.token_count.prompt_details.audio": 1,
            "gen_ai.usage.cache_read.input_tokens": 2,
            "gen_ai.input.messages": ASKED,
            "user.id": "u",
        }
    )
    assert (log.model, log.response_id, log.user_id) == ("theirs", "r", "u")
    assert (set(log.tags), log.metadata) == ({"a", "b", "c"}, {"k": "v", "tier": "gold"})
    assert log.params == {"temperature": 1, "top_p": 0.5, "seed": 7}
    assert log.messages == (Message(role="user", content="hi"),)
    assert log.extra["usage"] == {"prompt_details.audio": 1, "cache_read.input_tokens": 2}
    assert "attributes" not in log.extra


def calls_in(client: str, encode: Callable[[bytes], bytes]) -> dict[str, LogRecord]:
    """The calls that this client told, by case."""
    calls = {}
    for case in TABLE:
        payload = encode((CAPTURES / client / f"traces-{case.name}.json").read_bytes())
        (calls[case.name],) = [part.log for part in read_all(payload) if isinstance(part, Piece)]
    return calls


@pytest.mark.parametrize("encode", [lambda payload: payload, as_protobuf], ids=["json", "protobuf"])
@pytest.mark.parametrize(
    "client",
    ["openinference", "openllmetry", "openllmetry_old", "otel_openai_span", "langfuse3", "langfuse4", "langfuse5"],
)
def test_each_client_tells_each_call_once(client: str, encode: Callable[[bytes], bytes]):
    calls = calls_in(client, encode)
    assert [log.model for log in calls.values()] == [model_of(name, client) for name in calls]
    assert {name for name, log in calls.items() if log.status == "error"} <= {"error"}
    assert all(log.messages and log.ts_ms > 1_700_000_000_000 for log in calls.values())
    if not client.startswith("langfuse"):  # which tells no id of the answer
        assert calls["plain"].response_id == response_id(calls["plain"].model or "")


def test_a_message_may_hold_requests_one_after_another():
    paths = [CAPTURES / "otel_openai_span" / f"traces-{name}.json" for name in ("plain", "tools")]
    one, other = (path.read_bytes().strip() for path in paths)
    both = read_all(one) + read_all(other)
    assert len([part for part in both if isinstance(part, Piece)]) == 2
    assert read_all(one + b"\n" + other) == both
    assert read_all(b"[" + one + b"," + other + b"]") == both
    assert [type(part) for part in read_all(as_protobuf(one) + as_protobuf(other))] == [type(part) for part in both]
    log = b'{"messages": [{"role": "user", "content": "about \\"resourceSpans\\" and \\"batch\\""}]}'
    assert read_all(one + b"\n" + log)[-1] == decode(log, ts_ms=TS_MS)


def test_an_item_can_be_sent_again_by_itself():
    (record, _) = unpack((CAPTURES / "otel_openai_span" / "traces-plain.json").read_bytes())
    payload = msgspec.json.encode(record)
    assert unpack(payload) == [payload]
    assert decode(payload, ts_ms=TS_MS) == decode(record, ts_ms=TS_MS)


def test_a_broken_request_is_rejected_as_what_it_was_meant_to_be():
    good = b'{"messages":[{"role":"user","content":"hi"}]}'
    whole = as_protobuf((CAPTURES / "otel_openai_span" / "traces-plain.json").read_bytes())
    for payload in (whole[:-5], b"\nnonsense"):
        with pytest.raises(Undecodable) as caught:
            unpack(payload)
        assert caught.value.code == "not_otlp"
    records = unpack(good + b'\n{"resourceSpans": 5}')
    assert isinstance(decode(records[0], ts_ms=TS_MS), LogRecord)
    with pytest.raises(Undecodable) as caught:
        decode(records[1], ts_ms=TS_MS)
    assert caught.value.code == "not_otlp"
    inside = b'{"resourceSpans": [], "messages": []}'
    assert examine(b'{"a": ' + inside + b"}") == ("unknown_shape", caught_reason(b'{"a": 1}'))


def caught_reason(payload: bytes) -> str:
    verdict = examine(payload)
    assert verdict is not None
    return verdict[1]


def test_a_message_of_countless_spans_is_rejected_before_they_are_made():
    spans = TracesData()
    scope = spans.resource_spans.add().scope_spans.add()
    for _ in range(MAX_RECORDS + 1):
        scope.spans.add(span_id=b"12345678")
    line = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{}] * (MAX_RECORDS // 2 + 1)}]}]}).encode()
    for payload in (spans.SerializeToString(), line + b"\n" + line):
        with pytest.raises(Undecodable) as caught:
            unpack(payload)
        assert caught.value.code == "too_many"


def test_a_batch_of_langfuse_is_taken_apart_and_a_log_with_a_field_of_that_name_is_not():
    assert unpack(b'{"batch": [{"a": 1}, {"b": 2}], "metadata": null}') == [b'{"a": 1}', b'{"b": 2}']
    log = b'{"batch": [1], "messages": [{"role": "user", "content": "hi"}]}'
    assert unpack(log) == [log]
    pair = b'{"batch": [1], "request": {}}'
    assert unpack(pair) == [pair]
    for odd in (b'{"batch": 5}', b'{"batch": [1'):
        assert unpack(odd) == [odd]


def test_avro_batches_are_taken_apart_as_before():
    log = LogRecord(log_id="a", ts_ms=1, messages=(Message(role="user", content="hi"),))
    assert unpack(wire.encode(LogBatch((log, log)))) == [log, log]


def test_examine_tells_why_a_record_would_be_rejected_and_nothing_of_what_it_holds():
    assert examine(b'{"messages":[{"role":"user","content":"hi"}]}') is None
    assert examine((CAPTURES / "otel_openai_span" / "traces-plain.json").read_bytes()) is None
    verdict = examine(b'{"secret": "text"}')
    assert verdict is not None
    assert verdict[0] == "unknown_shape"
    assert "text" not in verdict[1]
    assert examine(b"\n\x05") == ("not_otlp", "the bytes are no OTLP request, neither protobuf nor JSON")


def test_other_shapes_may_have_fields_of_these_names():
    for name in ("resource", "span", "log_record"):
        log = decode(json.dumps({"messages": [{"role": "user", "content": "hi"}], name: "x"}).encode(), ts_ms=TS_MS)
        assert isinstance(log, LogRecord)
        assert log.extra == {"record": {name: "x"}}


def test_values_nested_beyond_the_limit_are_rejected_alone():
    value: dict[str, Any] = {"stringValue": "bottom"}
    for _ in range(80):
        value = {"kvlistValue": {"values": [{"key": "k", "value": value}]}}
    spans = [
        {"traceId": TRACE_ID, "spanId": SPAN_ID, "name": name, "attributes": [{"key": "k", "value": found}]}
        for name, found in (("deep", value), ("flat", {"stringValue": "x"}))
    ]
    deep, flat = unpack(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode())
    with pytest.raises(Undecodable) as caught:
        decode(deep, ts_ms=TS_MS)
    assert caught.value.code == "too_deep"
    assert decode(flat, ts_ms=TS_MS) == NotACall("span")


RULES = load_rules()


def codes(payload: bytes) -> set[str]:
    message = BusMessage(topic="llm.logs", partition=0, offset=0, key=None, value=payload, ts_ms=TS_MS)
    results = process([message], RULES, now_ms=1)[0]
    return {result.error_code for result in results if isinstance(result, RejectedLog)}


@given(st.sampled_from(CAPTURED), st.integers(0, 1_000_000), st.binary(min_size=1, max_size=6), st.booleans())
def test_torn_captures_are_read_or_rejected(path: Any, place: int, noise: bytes, is_protobuf: bool):
    payload = path.read_bytes()
    if is_protobuf and path.name.startswith("traces"):
        with contextlib.suppress(KeyError):
            payload = as_protobuf(payload)
    at = place % len(payload)
    assert "internal" not in codes(payload[:at] + noise + payload[at + len(noise) :])
    assert "internal" not in codes(payload[:at])


_DIALECT_NAMES = st.sampled_from(
    [
        *("gen_ai.operation.name", "gen_ai.input.messages", "gen_ai.prompt", "gen_ai.prompt.0.content", "user.id"),
        *("openinference.span.kind", "llm.input_messages.0.message.role", "input.value", "llm.request.type"),
        *("traceloop.span.kind", "langfuse.observation.type", "langfuse.observation.input", "session.id", "error.type"),
        *("gen_ai.usage.output_tokens", "langfuse.trace.metadata.k", "metadata", "tag.tags", "llm.model_name"),
    ]
)
_WORDS = st.sampled_from(["chat", "LLM", "generation", "x", "", "embeddings"])
_EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["exception", "gen_ai.choice", "gen_ai.user.message", "x"]),
            "time_ns": st.integers(0, 2**64),
            "attributes": st.dictionaries(
                st.sampled_from(["content", "message", "exception.type"]), attribute_values, max_size=3
            ),
        }
    ),
    max_size=3,
)


@given(
    st.dictionaries(_DIALECT_NAMES, _WORDS | attribute_values, max_size=7),
    _EVENTS,
    st.booleans(),
    st.none() | st.text(max_size=20),
)
def test_any_span_is_read_or_rejected(
    attributes: dict[str, Any], events: list[dict[str, Any]], is_error: bool, status_message: str | None
):
    one = item(attributes, events=events, is_error=is_error, status_message=status_message)
    with contextlib.suppress(Undecodable):
        found = decode(one, ts_ms=TS_MS)
        if isinstance(found, Piece):
            assert wire.decode(wire.encode(found.log), LogRecord).log_id == span_log_id(TRACE_ID, SPAN_ID)


@given(
    st.recursive(
        attribute_values,
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    "span",
                    "log_record",
                    "resource",
                    "scope",
                    "trace_id",
                    "span_id",
                    "attributes",
                    "events",
                    "resourceSpans",
                    "scopeSpans",
                ]
            ),
            inner,
            max_size=5,
        ),
        max_leaves=12,
    )
)
def test_any_item_is_read_or_rejected(value: Any):
    codes_found = codes(json.dumps(value).encode())
    assert "internal" not in codes_found
