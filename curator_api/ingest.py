"""Logs over HTTP, of any shape: one or many, in one request."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from tunemill.curator_api import otlp_answer, otlp_api
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.intake import Received, receive
from tunemill.curator_api.payloads import Accepted, RejectedItem
from tunemill.schemas.otlp_item import Signal
from tunemill.schemas.topics import LOGS
from tunemill.telemetry.metrics import REJECTED

router = APIRouter(prefix="/v1", tags=["logs"])

_NDJSON = "application/x-ndjson"
_LINES = frozenset({_NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_ONE_OR_MANY = {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
_JSON: dict[str, Any] = {"application/json": {"schema": _ONE_OR_MANY}, _NDJSON: {"schema": {"type": "string"}}}
_ALSO: dict[str, Any] = {
    name: {"schema": {"type": "string", "format": "binary"}} for name in ("avro/binary", otlp_answer.PROTOBUF)
}
_OTLP: dict[int | str, dict[str, Any]] = {
    200: {"description": "It was OTLP: an export response, in the request's encoding", "content": otlp_api.ANSWERS}
}


@router.post(
    "/logs",
    status_code=202,
    response_model=Accepted,
    responses=_OTLP,
    openapi_extra={"requestBody": {"required": True, "content": {**_JSON, **_ALSO}}},
)
async def send_logs(request: Request, here: Here, _person: Person) -> Accepted | Response:
    """Hand on logs of any accepted shape: one JSON object, an array, one object a line, one Avro record, or OTLP.

    What is counted as accepted is durable. What is rejected is named with its place, from 0, and becomes a dead letter, see
    `GET /v1/rejected`; only an item that is too large for a message is left out. In a body of type `application/x-ndjson` a
    line that is no JSON at all spoils nothing but itself.
    """
    is_lines = _media_type(request) in _LINES
    signal = await _otlp_signal(request, is_lines)
    if signal is not None:
        return await otlp_api.export(request, here, signal)
    return await _hand_on(await request.body(), here, is_lines=is_lines)


@router.post("/litellm", status_code=202, openapi_extra={"requestBody": {"required": True, "content": _JSON}})
async def send_litellm(request: Request, here: Here, _person: Person) -> Accepted:
    """LiteLLM's generic webhook, in each of its formats: `json_array`, `ndjson`, `single`. Answered like `POST /v1/logs`."""
    return await _hand_on(await request.body(), here, is_lines=_media_type(request) in _LINES)


async def _hand_on(body: bytes, here: Curator, *, is_lines: bool) -> Accepted:
    received = await asyncio.to_thread(receive, body, is_lines=is_lines, examine=here.examine)
    if received.messages:
        await here.bus.publish(LOGS, received.messages)
    return _accepted(received)


def _accepted(received: Received) -> Accepted:
    too_large = sum(rejection.code == "too_large" for rejection in received.rejected)
    REJECTED.labels(stage="receive", code="too_large").inc(too_large)
    rejected = [RejectedItem(**rejection._asdict()) for rejection in received.rejected]
    return Accepted(accepted=received.items - len(rejected), rejected=rejected)


async def _otlp_signal(request: Request, is_lines: bool) -> Signal | None:
    """What the body holds if it is OTLP; from then on errors are answered in its encoding, too."""
    encoding = otlp_answer.encoding_of(request.scope)
    if encoding is not None or is_lines:
        return None if encoding is None else "logs"
    signal = await asyncio.to_thread(otlp_api.signal_of, await request.body())
    if signal is not None:
        request.scope[otlp_answer.ENCODING] = "json"
    return signal


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
