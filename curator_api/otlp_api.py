"""OTLP over HTTP: the addresses that exporters of OpenTelemetry and of Langfuse send to."""

from functools import partial
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from tunemill.bus.port import Outgoing
from tunemill.curator_api import otlp_answer
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import BadRequest, TooLarge
from tunemill.curator_api.intake import MAX_ITEM_BYTES, MAX_ITEMS, refuse_deep
from tunemill.curator_api.otlp_answer import JSON, PROTOBUF, Encoding
from tunemill.curator_api.problems import EVERYWHERE
from tunemill.schemas import otlp
from tunemill.schemas.otlp_item import Cut, OtlpError, Signal
from tunemill.schemas.topics import LOGS
from tunemill.telemetry.metrics import REJECTED

router = APIRouter(tags=["logs"])

ANSWERS: dict[str, Any] = {
    JSON: {"schema": {"type": "object"}},
    PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
}
DESCRIBED: dict[str, Any] = {"requestBody": {"required": True, "content": ANSWERS}}
_ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"description": "An OTLP export response, in the request's encoding", "content": ANSWERS},
    **{
        status: {"description": "A google.rpc.Status, in the request's encoding", "content": ANSWERS}
        for status in EVERYWHERE
    },
}


@router.post("/v1/traces", response_class=Response, responses=_ANSWERED, openapi_extra=DESCRIBED)
async def send_traces(request: Request, here: Here, _person: Person) -> Response:
    """Hand on spans: an OTLP request, protobuf or JSON. Calls of models become logs; other spans are counted and not kept."""
    return await export(request, here, "traces")


@router.post("/api/public/otel/v1/traces", response_class=Response, responses=_ANSWERED, openapi_extra=DESCRIBED)
async def send_langfuse_traces(request: Request, here: Here, _person: Person) -> Response:
    """The same at the address that Langfuse's SDKs add to their host."""
    return await export(request, here, "traces")


@router.post("/api/public/otel/v1/logs", response_class=Response, responses=_ANSWERED, openapi_extra=DESCRIBED)
async def send_otlp_logs(request: Request, here: Here, _person: Person) -> Response:
    """Hand on OTLP log records, whose content belongs to spans. `POST /v1/logs` takes them, too."""
    return await export(request, here, "logs")


class _Request(msgspec.Struct):
    """The two members by which an OTLP request in JSON is known."""

    resourceLogs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # noqa: N815 - as OTLP spells them
    resourceSpans: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # noqa: N815


def signal_of(body: bytes) -> Signal | None:
    """What a JSON body holds, if it is one OTLP request."""
    if b'"resourceLogs"' not in body and b'"resourceSpans"' not in body:
        return None
    try:
        request = msgspec.json.decode(body, type=_Request)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if request.resourceLogs is not msgspec.UNSET:
        return "logs"
    return None if request.resourceSpans is msgspec.UNSET else "traces"


async def export(request: Request, here: Curator, signal: Signal) -> Response:
    """Publish an OTLP request's spans or log records, and answer as OTLP wants.

    Raises:
        BadRequest: the body is not a request of this signal.
        TooLarge: it holds too many of them.
    """
    body = await request.body()
    encoding = otlp_answer.encoding_of(request.scope) or "protobuf"
    cut = await here.body_work.run(len(body), partial(_cut, body, signal, encoding))
    if cut.messages:
        await here.publish(LOGS, [Outgoing(message) for message in cut.messages])
    REJECTED.labels(stage="receive", code="too_large").inc(len(cut.too_large))
    return otlp_answer.accepted(cut, signal, encoding)


def _cut(body: bytes, signal: Signal, encoding: Encoding) -> Cut:
    is_json = encoding == "json"
    if is_json:
        refuse_deep(body)
    try:
        return otlp.cut(body, is_json=is_json, signal=signal, max_bytes=MAX_ITEM_BYTES, most=MAX_ITEMS)
    except OtlpError as error:
        if error.code == "too_many":
            raise TooLarge(f"{error}: send it in several requests", limit=MAX_ITEMS) from error
        remedy = f"send an OTLP request with {signal}, in JSON, or in protobuf with Content-Type: {PROTOBUF}"
        raise BadRequest(f"{error}: {remedy}") from error
