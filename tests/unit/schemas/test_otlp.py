"""OTLP requests, taken apart into items and cut into messages."""

import contextlib
import json
import math
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tunemill.schemas.otlp import cut, items
from tunemill.schemas.otlp_item import MAX_CUT_RECORDS, MAX_DEPTH, OtlpError

TRACE_ID, SPAN_ID = bytes(range(16)), bytes(range(8))
MEGABYTE = 2**20


def traces(*names: str) -> TracesData:
    """One resource, one scope, and a span of each name."""
    data = TracesData()
    resource = data.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    scope.scope.name = "my.library"
    for name in names:
        scope.spans.add(trace_id=TRACE_ID, span_id=SPAN_ID, name=name, start_time_unix_nano=5, end_time_unix_nano=7)
    return data


def logs() -> LogsData:
    data = LogsData()
    record = (
        data.resource_logs.add()
        .scope_logs.add()
        .log_records.add(trace_id=TRACE_ID, span_id=SPAN_ID, observed_time_unix_nano=9, event_name="gen_ai.choice")
    )
    record.body.kvlist_value.values.add(key="index").value.int_value = 1
    return data


def as_json(data: Any) -> bytes:
    """The request as OTLP/JSON, whose ids are hexadecimal where protobuf's JSON has base64."""
    value = MessageToDict(data)
    for resource in [*value.get("resourceSpans", []), *value.get("resourceLogs", [])]:
        for scope in [*resource.get("scopeSpans", []), *resource.get("scopeLogs", [])]:
            for record in [*scope.get("spans", []), *scope.get("logRecords", [])]:
                record |= {"traceId": TRACE_ID.hex().upper(), "spanId": SPAN_ID.hex()}
    return json.dumps(value).encode()


def refused(payload: bytes) -> str:
    with pytest.raises(OtlpError) as caught:
        items(payload)
    return caught.value.code


def test_a_span_becomes_an_item():
    data = traces("chat")
    span = data.resource_spans[0].scope_spans[0].spans[0]
    span.kind, span.parent_span_id, span.dropped_attributes_count = 3, b"p" * 8, 12
    span.status.code, span.status.message = 2, "it broke"
    span.events.add(name="exception", time_unix_nano=6).attributes.add(key="exception.type").value.string_value = "E"
    span.links.add(trace_id=TRACE_ID, span_id=b"l" * 8)
    assert items(data.SerializeToString()) == [
        {
            "resource": {"service.name": "shop"},
            "scope": {"name": "my.library", "version": ""},
            "span": {
                "trace_id": TRACE_ID.hex(),
                "span_id": SPAN_ID.hex(),
                "parent_span_id": (b"p" * 8).hex(),
                "name": "chat",
                "kind": "client",
                "start_ns": 5,
                "end_ns": 7,
                "attributes": {},
                "events": [{"name": "exception", "time_ns": 6, "attributes": {"exception.type": "E"}}],
                "is_error": True,
                "status_message": "it broke",
                "dropped_attributes": 12,
                "links": [{"trace_id": TRACE_ID.hex(), "span_id": (b"l" * 8).hex(), "attributes": {}}],
            },
        }
    ]


def test_a_log_record_becomes_an_item():
    (item,) = items(logs().SerializeToString())
    assert item["log_record"] == {
        "trace_id": TRACE_ID.hex(),
        "span_id": SPAN_ID.hex(),
        "time_ns": 9,  # it has none of its own: when it was observed
        "event_name": "gen_ai.choice",
        "body": {"index": 1},
        "attributes": {},
    }


def with_dropped_attributes() -> TracesData:
    data = traces("a")
    data.resource_spans[0].scope_spans[0].spans[0].dropped_attributes_count = 12
    return data


@pytest.mark.parametrize("data", [traces("a", "b"), with_dropped_attributes(), logs()])
def test_json_says_the_same_as_protobuf(data: Any):
    assert items(as_json(data)) == items(data.SerializeToString())
    assert items(b"\n " + as_json(data)) == items(data.SerializeToString())


def test_protobuf_that_begins_like_json_with_a_newline():
    data = traces("s" * 31)
    payload = data.SerializeToString()
    assert payload.startswith(b"\n{")
    assert items(payload)[0]["span"]["name"] == "s" * 31


def test_a_log_record_need_not_be_an_event():
    data = logs()
    data.resource_logs[0].scope_logs[0].log_records[0].event_name = ""
    for payload in (data.SerializeToString(), as_json(data)):
        assert items(payload)[0]["log_record"]["event_name"] is None


def test_every_kind_of_value():
    data = traces("chat")
    attributes = data.resource_spans[0].scope_spans[0].spans[0].attributes
    attributes.add(key="text").value.string_value = "é"
    attributes.add(key="yes").value.bool_value = True
    attributes.add(key="whole").value.int_value = -(2**63)
    attributes.add(key="half").value.double_value = 0.5
    attributes.add(key="endless").value.double_value = math.inf
    attributes.add(key="bytes").value.bytes_value = b"\xff\x00"
    attributes.add(key="nothing")
    array = attributes.add(key="array").value.array_value
    array.values.add().kvlist_value.values.add(key="deep").value.string_value = "er"
    expected = {
        "text": "é",
        "yes": True,
        "whole": -(2**63),
        "half": 0.5,
        "endless": None,
        "bytes": "/wA=",
        "nothing": None,
        "array": [{"deep": "er"}],
    }
    for payload in (data.SerializeToString(), as_json(data)):
        (item,) = items(payload)
        assert item["span"]["attributes"] == expected
        assert msgspec.json.decode(msgspec.json.encode(item)) == item


def test_keys_that_would_change_a_pages_objects_are_left_out():
    data = traces("chat")
    attributes = data.resource_spans[0].scope_spans[0].spans[0].attributes
    for key in ("a.__proto__.b", "constructor", "prototype", "kept"):
        attributes.add(key=key).value.string_value = "x"
    attributes.add(key="map").value.kvlist_value.values.add(key="__proto__").value.bool_value = True
    for payload in (data.SerializeToString(), as_json(data)):
        assert items(payload)[0]["span"]["attributes"] == {"kept": "x", "map": {}}


def test_text_that_is_no_utf8_is_mended_and_ids_and_bytes_are_not_touched():
    data = traces("broken")
    span = data.resource_spans[0].scope_spans[0].spans[0]
    span.trace_id = b"\xff" * 16
    span.attributes.add(key="raw").value.bytes_value = b"\xff"
    data.resource_spans[0].resource.entity_refs.add().id_keys.append("key")
    payload = data.SerializeToString().replace(b"broken", b"br\xe2\x82en").replace(b"key", b"k\xffy")
    (item,) = items(payload)
    assert item["span"]["name"] == "br\ufffden"
    assert (item["span"]["trace_id"], item["span"]["attributes"]) == ("ff" * 16, {"raw": "/w=="})
    assert cut(payload, is_json=False, signal="traces", max_bytes=MEGABYTE).records == 1


def test_a_span_with_broken_text_is_not_taken_for_a_log_record():
    data = traces("")  # whose fields a log record could have at the same places
    data.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="k").value.string_value = "broken"
    (item,) = items(data.SerializeToString().replace(b"broken", b"br\xffken"))
    assert item["span"]["attributes"] == {"k": "br\ufffdken"}


def test_odd_json_fields_spoil_no_others():
    span = {
        "traceId": 7,
        "name": ["no"],
        "startTimeUnixNano": "soon",
        "endTimeUnixNano": 2**64,
        "kind": "SPAN_KIND_SERVER",
        "status": {"code": "STATUS_CODE_ERROR", "message": 1},
        "attributes": [
            {"key": "plain", "value": "text"},
            {"key": "many", "value": {"intValue": "9" * 5000}},
            {"key": 5, "value": {"stringValue": "x"}},
            {"key": "odd", "value": {"arrayValue": {"values": 5}}},
            {"key": "wrong", "value": {"boolValue": "true"}},
            {"key": "list", "value": {"arrayValue": 5}},
            {"key": "map", "value": {"kvlistValue": []}},
            "nothing",
        ],
    }
    request = {"resourceSpans": [{"resource": 5, "scopeSpans": [{"scope": None, "spans": [span]}]}]}
    (item,) = items(json.dumps(request).encode())
    assert item["span"]["attributes"] == {
        "plain": "text",
        "many": None,
        "odd": [],
        "wrong": None,
        "list": None,
        "map": None,
    }
    found = item["span"]
    assert (found["trace_id"], found["name"], found["start_ns"], found["end_ns"]) == ("", "", 0, 0)
    record = {"observedTimeUnixNano": "7", "timeUnixNano": 5, "body": {"bytesValue": 5}}
    (item,) = items(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode())
    assert (item["log_record"]["time_ns"], item["log_record"]["body"]) == (5, None)
    assert (found["kind"], found["is_error"], found["status_message"]) == ("server", True, None)


def test_values_too_deep_are_cut_where_every_reader_refuses_them():
    value: dict[str, Any] = {"stringValue": "bottom"}
    for _ in range(MAX_DEPTH + 20):
        value = {"arrayValue": {"values": [value]}}
    span = {"traceId": TRACE_ID.hex(), "attributes": [{"key": "k", "value": value}]}
    request = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    (item,) = items(json.dumps(request).encode())
    assert json.dumps(item["span"]["attributes"]["k"]).count("[") == MAX_DEPTH


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"\n",
        b"\n\x05abc",
        b"{",
        b"[]",
        b"{}",
        b'\n{"messages": []}',
        b'{"resourceSpans": 5}',
        b'{"resourceSpans": [5]}',
        b'{"resourceLogs": [{"scopeLogs": {}}]}',
        traces().SerializeToString(),  # no span
        traces("a").SerializeToString()[:-3],
    ],
)
def test_what_is_no_request_is_refused(payload: bytes):
    assert refused(payload) == "not_otlp"


def test_more_items_than_a_reader_takes_are_never_made():
    data = traces("a", "b", "c")
    for payload in (data.SerializeToString(), as_json(data)):
        assert len(items(payload, most=3)) == 3
        with pytest.raises(OtlpError) as caught:
            items(payload, most=2)
        assert caught.value.code == "too_many"


def test_json_nested_beyond_any_reader_is_refused():
    assert refused(b'{"resourceSpans":' + b"[" * 100_000) in ("too_deep", "not_otlp")


@given(st.binary(max_size=300))
def test_no_bytes_make_it_stumble(payload: bytes):
    for bytes_ in (payload, b"\n" + payload):
        try:
            msgspec.json.encode(items(bytes_))
        except OtlpError as error:
            assert error.code in ("not_otlp", "too_deep")


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_torn_requests_do_not_make_it_stumble(place: int, piece: bytes):
    for data in (traces("a", "b"), logs()):
        for payload in (data.SerializeToString(), as_json(data)):
            at = place % len(payload)
            torn = payload[:at] + piece + payload[at + len(piece) :]
            with contextlib.suppress(OtlpError):
                msgspec.json.encode(items(torn))


def lines(message: bytes) -> list[bytes]:
    return message.split(b"\n") if message.startswith(b"{") else [message]


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("max_bytes", [400, 1000, MEGABYTE])
def test_a_request_is_cut_into_messages_that_hold_the_same_items(is_json: bool, max_bytes: int):
    data = traces(*(f"span {number}" for number in range(50)))
    data.MergeFrom(traces("another resource"))
    body = as_json(data) if is_json else data.SerializeToString()
    found = cut(body, is_json=is_json, signal="traces", max_bytes=max_bytes)
    assert (found.records, found.too_large) == (51, [])
    assert all(len(message) <= max_bytes for message in found.messages)
    assert (len(found.messages) == 1) == (max_bytes == MEGABYTE)
    assert [item for message in found.messages for line in lines(message) for item in items(line)] == items(body)


@pytest.mark.parametrize("is_json", [False, True])
def test_a_span_too_large_for_a_message_is_named_by_its_place(is_json: bool):
    data = traces("small", "large" * 200, "small too")
    body = as_json(data) if is_json else data.SerializeToString()
    found = cut(body, is_json=is_json, signal="traces", max_bytes=600)
    assert (found.records, [place for place, _ in found.too_large]) == (3, [1])
    assert "at most 600" in found.too_large[0].reason
    kept = [item["span"]["name"] for message in found.messages for line in lines(message) for item in items(line)]
    assert kept == ["small", "small too"]


def test_no_message_holds_more_records_than_its_reader_takes():
    data = traces(*("s" for _ in range(MAX_CUT_RECORDS + 1)))
    for is_json in (False, True):
        body = as_json(data) if is_json else data.SerializeToString()
        assert len(cut(body, is_json=is_json, signal="traces", max_bytes=MEGABYTE).messages) == 2


def test_log_records_are_cut_as_well():
    found = cut(logs().SerializeToString(), is_json=False, signal="logs", max_bytes=MEGABYTE)
    assert items(found.messages[0]) == items(logs().SerializeToString())


@pytest.mark.parametrize(("body", "is_json"), [(b"", False), (b"{}", True), (traces().SerializeToString(), False)])
def test_a_request_with_nothing_in_it_is_no_mistake(body: bytes, is_json: bool):
    assert cut(body, is_json=is_json, signal="traces", max_bytes=MEGABYTE) == ([], 0, [])


@pytest.mark.parametrize(
    ("body", "is_json"),
    [(b"nonsense", False), (b"nonsense", True), (b"[]", True), (b'{"resourceLogs": []}', True), (b"\xff", True)],
)
def test_a_body_of_something_else_is_refused(body: bytes, is_json: bool):
    with pytest.raises(OtlpError):
        cut(body, is_json=is_json, signal="traces", max_bytes=MEGABYTE)
