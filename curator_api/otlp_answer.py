"""What a sender of OTLP is answered, in the encoding it sent: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

from google.protobuf.json_format import MessageToJson
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from tunemill.schemas.otlp_item import Cut, Signal

Encoding = Literal["protobuf", "json"]

PROTOBUF, JSON = "application/x-protobuf", "application/json"
ENCODING = "tunemill.otlp"  # where the scope of a request holds the encoding, once its body has said that it is OTLP

_PROTOBUF_NAMES = frozenset({PROTOBUF, "application/protobuf", "application/vnd.google.protobuf"})
_CODES: Mapping[int, Any] = {
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    500: Code.INTERNAL,
    503: Code.UNAVAILABLE,
}


def encoding_of(scope: Scope) -> Encoding | None:
    """How a request's OTLP is encoded, by what it says of itself; None: it does not say that it is OTLP."""
    media_type = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _PROTOBUF_NAMES:
        return "protobuf"
    if scope["path"].endswith(("/v1/traces", "/otel/v1/logs")):
        return "json"
    encoding: Encoding | None = scope.get(ENCODING)
    return encoding


def accepted(cut: Cut, signal: Signal, encoding: Encoding) -> Response:
    """200; what was too large for a message is told as a partial success."""
    answer: Any = ExportTraceServiceResponse() if signal == "traces" else ExportLogsServiceResponse()
    if cut.too_large:
        told = answer.partial_success
        if signal == "traces":
            told.rejected_spans = len(cut.too_large)
        else:
            told.rejected_log_records = len(cut.too_large)
        first = cut.too_large[0]
        told.error_message = f"too large, the first of them at place {first.place}: {first.reason}"
    return _response(answer, 200, encoding)


def refused(status: int, detail: str, headers: Mapping[str, str], encoding: Encoding) -> Response:
    """A google.rpc.Status. Which refusals are worth another attempt, the HTTP status says."""
    code = _CODES.get(status, Code.INVALID_ARGUMENT)
    return _response(Status(code=code, message=detail), status, encoding, headers)


def _response(message: Any, status: int, encoding: Encoding, headers: Mapping[str, str] | None = None) -> Response:
    if encoding == "protobuf":
        return Response(message.SerializeToString(), status, headers, PROTOBUF)
    return Response(MessageToJson(message, indent=None), status, headers, JSON)
