"""OTLP over HTTP: what lies on the bus, and what an exporter is answered."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.curator_api import Running, running_api
from google.protobuf.json_format import MessageToJson, Parse
from google.rpc.status_pb2 import Status
from httpx import Response
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from prometheus_client import REGISTRY

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.curator_api import otlp_api
from tunemill.curator_api.intake import MAX_DEPTH
from tunemill.curator_api.settings import Settings
from tunemill.schemas import otlp
from tunemill.schemas.packing import split
from tunemill.schemas.topics import LOGS, Topic

PROTOBUF, JSON = "application/x-protobuf", "application/json"
TRACES = ["/v1/traces", "/api/public/otel/v1/traces"]
EVENTS = ["/v1/logs", "/api/public/otel/v1/logs"]
TRACE_ID = bytes(range(16))


def traces(*sizes: int) -> ExportTraceServiceRequest:
    """A request with a span for each of these sizes of its content."""
    spans = [
        Span(
            trace_id=TRACE_ID,
            span_id=bytes([0] * 7 + [number]),
            name=f"chat {number}",
            attributes=[KeyValue(key="gen_ai.prompt", value=AnyValue(string_value="x" * size))],
        )
        for number, size in enumerate(sizes, 1)
    ]
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])


def logs(*sizes: int) -> ExportLogsServiceRequest:
    """A request with a log record for each of these sizes of its body."""
    records = [
        LogRecord(
            trace_id=TRACE_ID,
            span_id=bytes([0] * 7 + [number]),
            event_name="gen_ai.user.message",
            body=AnyValue(string_value="x" * size),
        )
        for number, size in enumerate(sizes, 1)
    ]
    return ExportLogsServiceRequest(resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=records)])])


def encoded(message: Any, encoding: str) -> bytes:
    """Ids in OTLP's JSON are hexadecimal; none is looked at here, so that protobuf's own base64 does."""
    return bytes(message.SerializeToString()) if encoding == PROTOBUF else MessageToJson(message).encode()


def read(answer: Response, into: Any) -> Any:
    """The answer, held to be in the encoding that its type says."""
    if answer.headers["content-type"] == PROTOBUF:
        return into.FromString(answer.content)
    assert answer.headers["content-type"] == JSON
    return Parse(answer.content, into())


async def post(api: Running, path: str, body: bytes, encoding: str, **headers: str) -> Response:
    return await api.client.post(path, content=body, headers={"content-type": encoding, **headers})


async def on_the_bus(api: Running) -> list[Any]:
    messages = await api.bus.tail(LOGS, limit=99)
    return [item for message in reversed(messages) for part in parts(message.value) for item in otlp.items(part)]


def parts(message: bytes) -> Sequence[bytes]:
    return split(message) if message.startswith(b"{") else [message]


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON, f"{JSON}; charset=utf-8", "application/protobuf"])
@pytest.mark.parametrize(
    ("path", "request_of", "answer_of"),
    [(path, traces, ExportTraceServiceResponse) for path in TRACES]
    + [(path, logs, ExportLogsServiceResponse) for path in EVENTS],
)
async def test_every_record_lies_on_the_bus_and_the_answer_is_in_the_requests_encoding(
    tmp_path: Path, path: str, request_of: Any, answer_of: Any, encoding: str
) -> None:
    plain = JSON if encoding.startswith(JSON) else PROTOBUF
    async with running_api(tmp_path) as api:
        answer = await post(api, path, encoded(request_of(1, 2, 3), plain), encoding)
        assert (answer.status_code, answer.headers["content-type"]) == (200, plain)
        assert not read(answer, answer_of).HasField("partial_success")
        name = "span" if request_of is traces else "log_record"
        assert len([item[name] for item in await on_the_bus(api)]) == 3


async def test_spans_in_json_at_the_address_of_logs_are_spans(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await post(api, "/v1/logs", encoded(traces(1), JSON), JSON)
        assert not read(answer, ExportTraceServiceResponse).HasField("partial_success")
        assert [item["span"]["name"] for item in await on_the_bus(api)] == ["chat 1"]


async def test_a_log_that_speaks_of_otlp_is_a_log(tmp_path: Path) -> None:
    body = b'{"messages":[{"role":"user","content":"what is \\"resourceLogs\\"?"}],"extra":{"resourceLogs":1}}'
    async with running_api(tmp_path) as api:
        answer = await post(api, "/v1/logs", body, JSON)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
async def test_gzip_as_exporters_send_it(tmp_path: Path, encoding: str) -> None:
    async with running_api(tmp_path) as api:
        body = gzip.compress(encoded(traces(10), encoding))
        answer = await post(api, "/v1/traces", body, encoding, **{"content-encoding": "gzip"})
        assert (answer.status_code, len(await on_the_bus(api))) == (200, 1)


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
@pytest.mark.parametrize(("path", "request_of"), [("/v1/traces", traces), ("/v1/logs", logs)])
async def test_what_no_message_can_hold_is_a_partial_success_and_the_rest_is_durable(
    tmp_path: Path, path: str, request_of: Any, encoding: str
) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("tunemill_rejected_total", {"stage": "receive", "code": "too_large"}) or 0

    giant, before = LOGS.max_message_bytes, counted()
    async with running_api(tmp_path) as api:
        answer = await post(api, path, encoded(request_of(1, giant, 2), encoding), encoding)
        assert answer.status_code == 200
        if request_of is traces:
            told = read(answer, ExportTraceServiceResponse).partial_success
            assert told.rejected_spans == 1
        else:
            told = read(answer, ExportLogsServiceResponse).partial_success
            assert told.rejected_log_records == 1
        assert "place 1" in told.error_message
        assert counted() == before + 1
        assert len(await on_the_bus(api)) == 2


async def test_many_large_spans_are_cut_into_messages(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await post(api, "/v1/traces", encoded(traces(*[1_500_000] * 6), PROTOBUF), PROTOBUF)
        assert answer.status_code == 200
        messages = await api.bus.tail(LOGS, limit=99)
        assert len(messages) > 1
        assert max(len(message.value) for message in messages) <= LOGS.max_message_bytes
        assert len(await on_the_bus(api)) == 6


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
@pytest.mark.parametrize(("path", "request_of"), [("/v1/traces", traces), ("/v1/logs", logs)])
async def test_a_request_of_too_many_records_is_refused_with_the_limit(
    tmp_path: Path, path: str, request_of: Any, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_api, "MAX_ITEMS", 2)
    async with running_api(tmp_path) as api:
        most = await post(api, path, encoded(request_of(1, 2), encoding), encoding)
        answer = await post(api, path, encoded(request_of(1, 2, 3), encoding), encoding)
    assert (most.status_code, answer.status_code, read(answer, Status).code) == (200, 413, 3)
    assert "more than 2 spans or log records: send it in several" in read(answer, Status).message


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
async def test_traces_beside_logs_are_not_left_out_silently(tmp_path: Path, path: str) -> None:
    async with running_api(tmp_path) as api:
        both = {**json.loads(encoded(traces(1), JSON)), **json.loads(encoded(logs(1), JSON))}
        answer = await post(api, path, json.dumps(both).encode(), JSON)
        assert await api.bus.tail(LOGS, limit=9) == []
    assert (answer.status_code, read(answer, Status).code) == (400, 3)


async def test_protobuf_that_does_not_say_so_is_told_to(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await post(api, "/v1/traces", encoded(traces(1), PROTOBUF), "application/octet-stream")
    assert (answer.status_code, PROTOBUF in read(answer, Status).message) == (400, True)


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
@pytest.mark.parametrize("path", [*TRACES, *EVENTS])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"\x0a\xff", b"\xff\xfe", b'{"resourceLogs": 3}', b'{"resourceSpans": 3}']
)
async def test_an_odd_request_is_bad_data_or_nothing(tmp_path: Path, path: str, encoding: str, body: bytes) -> None:
    if (path, encoding) == ("/v1/logs", JSON) and body in (b"{}", b"[]"):
        return  # a log that says nothing, and no logs
    async with running_api(tmp_path) as api:
        answer = await post(api, path, body, encoding)
        assert await api.bus.tail(LOGS, limit=9) == []
        if answer.status_code == 200:
            assert (body, encoding) in {(b"", PROTOBUF), (b"{}", JSON)}, "an empty request is a request"
            return
        if answer.headers["content-type"] == "application/problem+json":
            assert (path, encoding) == ("/v1/logs", JSON), "it does not say that it is OTLP"
            return
        assert answer.status_code == 400
        assert read(answer, Status).code == 3


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
@pytest.mark.parametrize("path", [*TRACES, "/v1/logs"])
async def test_every_refusal_is_a_status_that_tells_an_exporter_whether_to_try_again(
    tmp_path: Path, path: str, encoding: str
) -> None:
    class Away(SqliteBus):
        async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
            raise BusUnavailable("away")

    body = encoded(logs(1) if path == "/v1/logs" else traces(1), encoding)
    settings = Settings(max_body_bytes=10_000)
    async with running_api(tmp_path, bus=Away(tmp_path / "bus.db"), settings=settings) as api:
        away = await post(api, path, body, encoding)
        assert (away.status_code, read(away, Status).code) == (503, 14)
        assert int(away.headers["retry-after"]) > 0
        if (path, encoding) == ("/v1/logs", JSON):
            return  # what was not read yet does not say that it is OTLP
        large = await post(api, path, b"x" * 10_001, encoding)
        assert (large.status_code, read(large, Status).code) == (413, 3)
        assert "10000" in read(large, Status).message
        foreign = await post(api, path, body, encoding, **{"content-encoding": "snappy"})
        assert (foreign.status_code, read(foreign, Status).code) == (415, 3)
        stranger = await post(api, path, body, encoding, authorization="Bearer nobody")
        assert (stranger.status_code, read(stranger, Status).code) == (401, 16)


async def test_json_that_is_nested_too_deep_is_bad_data(tmp_path: Path) -> None:
    body = b'{"resourceSpans":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"
    async with running_api(tmp_path) as api:
        answer = await post(api, "/v1/traces", body, JSON)
        assert (answer.status_code, str(MAX_DEPTH) in read(answer, Status).message) == (400, True)


async def test_langfuses_basic_authorization_is_let_in(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        body = encoded(traces(1), PROTOBUF)
        answer = await api.client.post(
            TRACES[1],
            content=body,
            headers={"content-type": PROTOBUF, "authorization": "-"},
        )
        assert answer.status_code == 401
        del api.client.headers["authorization"]
        answer = await api.client.post(
            TRACES[1], content=body, headers={"content-type": PROTOBUF}, auth=("pk-lf-anything", api.key)
        )
        assert answer.status_code == 200
