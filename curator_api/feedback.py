"""What people and programs thought of an answer, over HTTP."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from tunemill.bus.port import Outgoing
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.errors import Unprocessable
from tunemill.curator_api.intake import cut, giant, is_lines
from tunemill.curator_api.payloads import FeedbackAccepted, FeedbackIn, RejectedItem
from tunemill.curator_api.problems import explained, responses
from tunemill.schemas import wire
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import Feedback
from tunemill.schemas.topics import FEEDBACK

router = APIRouter(prefix="/v1/feedback", tags=["feedback"])

_ReadOne = Callable[[int, bytes], Feedback | RejectedItem]

_SCHEMA = FeedbackIn.model_json_schema()
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [_SCHEMA, {"type": "array", "items": _SCHEMA}]}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


@router.post("", status_code=202, responses=responses(422), openapi_extra=_BODY)
async def send_feedback(request: Request, here: Here, person: Person) -> FeedbackAccepted:
    """Say what somebody thought of an answer: one JSON object, an array, or one object a line.

    What is counted as accepted is durable, and is shown with its log as soon as both are there, whichever comes first. A
    `feedback_id` that was sent before replaces what was said under it. If no item can be accepted, the answer is 422.
    """
    body, now_ms = await request.body(), time.time_ns() // 1_000_000
    reader = partial(_read_one, by=person, project=here.settings.project, now_ms=now_ms)
    read = await here.body_work.run(len(body), partial(_read, body, reader, is_lines=is_lines(request.headers)))
    accepted = [item for item in read if isinstance(item, Feedback)]
    rejected = [item for item in read if isinstance(item, RejectedItem)]
    if rejected and not accepted:
        problems = [problem.model_dump() for problem in rejected[:20]]
        raise Unprocessable(f"item {rejected[0].item}: {rejected[0].reason}", rejected=problems)
    if accepted:
        await here.publish(FEEDBACK, [Outgoing(wire.encode(item), item.feedback_id) for item in accepted])
    ids = [item.feedback_id for item in accepted]
    return FeedbackAccepted(accepted=len(accepted), feedback_ids=ids, rejected=rejected)


def _read(body: bytes, read_one: _ReadOne, *, is_lines: bool) -> Sequence[Feedback | RejectedItem]:
    """Each item as a record, or why it cannot be one."""
    return [read_one(place, item) for place, item in enumerate(cut(body, is_lines=is_lines))]


def _read_one(place: int, item: bytes, *, by: str, project: str, now_ms: int) -> Feedback | RejectedItem:
    if (verdict := giant(item)) is not None:
        code, reason = verdict
        return RejectedItem(item=place, code=code, reason=reason)
    try:
        taken = FeedbackIn.model_validate_json(item)
    except ValidationError as error:
        return RejectedItem(item=place, code="invalid", reason=explained(error.errors(include_input=False)))
    given = taken.model_dump(exclude_none=True)
    return Feedback(**{"feedback_id": new_id(), "ts_ms": now_ms, "by": by, "project": project, **given})
