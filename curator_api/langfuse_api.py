"""What the SDKs of Langfuse ask of a server, beside OpenTelemetry's traces: batches of events, scores, and whom they speak to.

Field names: https://github.com/langfuse/langfuse/tree/main/fern/apis/server/definition
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import BadRequest
from tunemill.curator_api.langfuse_batch import Examined, cut, examined, messages, scores_as_events
from tunemill.curator_api.problems import responses
from tunemill.schemas.topics import LOGS
from tunemill.telemetry.metrics import REJECTED

router = APIRouter(prefix="/api/public", tags=["langfuse"])


class EventTaken(BaseModel):
    """An event that is durable."""

    id: str
    status: int


class EventRefused(BaseModel):
    """An event that will not become a log or a part of one, and why."""

    id: str
    status: int
    message: str
    error: str


class IngestionOut(BaseModel):
    """What became of each event."""

    successes: list[EventTaken]
    errors: list[EventRefused]


class ScoreOut(BaseModel):
    """A score that is durable."""

    id: str


class OrganizationOut(BaseModel):
    """The SDKs want one."""

    id: str
    name: str


class ProjectOut(BaseModel):
    """The project that the key belongs to."""

    id: str
    name: str
    organization: OrganizationOut
    metadata: dict[str, str]


class ProjectsOut(BaseModel):
    """The one project."""

    data: list[ProjectOut]


class HealthOut(BaseModel):
    """The server answers."""

    status: str
    version: str


_BATCH: dict[str, Any] = {
    "type": "object",
    "required": ["batch"],
    "properties": {"batch": {"type": "array", "items": {"type": "object"}}},
}
_SCORES: dict[str, Any] = {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
_LIST_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"description": "It was a list, and each of its scores is durable"},
    207: {"description": "It was a list: `accepted` and `rejected` count its scores, `errors` say why"},
}


def _json_body(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/ingestion", status_code=207, responses=responses(400), openapi_extra=_json_body(_BATCH))
async def ingest(request: Request, here: Here, _person: Person) -> IngestionOut:
    """Hand on a batch of events, answered event by event: 201 is durable, 400 names the reason.

    An event that cannot be read becomes a dead letter, too, see `GET /v1/rejected`; what is no event at all is left out.
    """
    body = await request.body()
    events = await _hand_on(await here.body_work.run(len(body), partial(cut, body)), here)
    return IngestionOut(
        successes=[EventTaken(id=event.id, status=201) for event in events if not event.refusal],
        errors=[
            EventRefused(id=event.id, status=refusal.status, message=refusal.reason, error=refusal.code)
            for event in events
            if (refusal := event.refusal)
        ],
    )


@router.post(
    "/scores",
    response_model=ScoreOut,
    responses={**_LIST_ANSWERS, **responses(400)},
    openapi_extra=_json_body(_SCORES),
)
async def score(request: Request, here: Here, _person: Person) -> ScoreOut | Response:
    """Hand on a score: what somebody thought of a call, or of all calls of a trace. SDK 5 sends a list of them."""
    body, now = await request.body(), datetime.now(UTC).isoformat()
    items, is_list = await here.body_work.run(len(body), partial(scores_as_events, body, now=now))
    events = await _hand_on(items, here)
    refusals = [event.refusal for event in events if event.refusal]
    if not is_list:
        if refusals:
            raise BadRequest(refusals[0].reason)
        return ScoreOut(id=events[0].id)
    if not refusals:
        return JSONResponse({"message": "Accepted"}, 202)
    counts = {"accepted": len(events) - len(refusals), "rejected": len(refusals)}
    return JSONResponse({**counts, "errors": [{"message": refusal.reason} for refusal in refusals]}, 207)


@router.get("/projects")
def projects(here: Here, _person: Person) -> ProjectsOut:
    """The project that the key belongs to: by this the SDKs check their key."""
    name = here.settings.project
    organization = OrganizationOut(id="tunemill", name="tunemill")
    return ProjectsOut(data=[ProjectOut(id=name, name=name, organization=organization, metadata={})])


@router.get("/health")
def health(_person: Person) -> HealthOut:
    """That the server answers, in the words of Langfuse's."""
    return HealthOut(status="OK", version=version("tunemill"))


async def _hand_on(items: Sequence[bytes], here: Curator) -> Sequence[Examined]:
    """The events, published when this returns, and what is known about each."""
    events = await here.body_work.run(sum(map(len, items)), partial(examined, items, here.examine))
    outgoing = messages(events)
    if outgoing:
        await here.publish(LOGS, outgoing)
    for event in events:
        if event.refusal and not event.is_event:
            REJECTED.labels(stage="receive", code=event.refusal.code).inc()
    return events
