"""Logs over HTTP, of any shape: one or many, in one request."""

from functools import partial
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from tunemill.curator_api import otlp_answer, otlp_api
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.intake import is_lines, receive
from tunemill.curator_api.payloads import Accepted
from tunemill.schemas.otlp_item import Signal
from tunemill.schemas.topics import LOGS
from tunemill.telemetry.metrics import REJECTED

router = APIRouter(prefix="/v1", tags=["logs"])

_NDJSON = "application/x-ndjson"
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
async def send_logs(request: Request, here: Here, _person: Person) -> Response:
    """Hand on logs of any accepted shape: one JSON object, an array, one object a line, one Avro record, or OTLP.

    What is counted as accepted is durable. What is rejected is named with its place, from 0, and becomes a dead letter, see
    `GET /v1/rejected`; only an item that is too large for a message is left out. In a body of type `application/x-ndjson` a
    line that is no JSON at all spoils nothing but itself.
    """
    signal = await _otlp_signal(request, here)
    if signal is not None:
        return await otlp_api.export(request, here, signal)
    return await _hand_on(request, here)


@router.post(
    "/litellm",
    status_code=202,
    response_model=Accepted,
    openapi_extra={"requestBody": {"required": True, "content": _JSON}},
)
async def send_litellm(request: Request, here: Here, _person: Person) -> Response:
    """LiteLLM's generic webhook, in each of its formats: `json_array`, `ndjson`, `single`. Answered like `POST /v1/logs`."""
    return await _hand_on(request, here)


async def _hand_on(request: Request, here: Curator) -> Response:
    body = await request.body()
    work = partial(receive, body, is_lines=is_lines(request.headers), examine=here.examine)
    received = await here.body_work.run(len(body), work)
    if received.messages:
        await here.publish(LOGS, received.messages)
    REJECTED.labels(stage="receive", code="too_large").inc(received.left_out)
    told = {"accepted": received.items - len(received.rejected), "rejected": received.rejected}
    return Response(msgspec.json.encode(told), 202, media_type="application/json")  # models of many items take long


async def _otlp_signal(request: Request, here: Curator) -> Signal | None:
    """What the body holds if it is OTLP; from then on errors are answered in its encoding, too."""
    if otlp_answer.encoding_of(request.scope) is not None:
        return "logs"
    if is_lines(request.headers):
        return None
    body = await request.body()
    signal = await here.body_work.run(len(body), partial(otlp_api.signal_of, body))
    if signal is not None:
        request.scope[otlp_answer.ENCODING] = "json"
    return signal
