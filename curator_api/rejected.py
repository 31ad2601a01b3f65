"""Dead letters over HTTP: what could not be processed, where and why; and send it again."""

import base64
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.open_letters import counts
from tunemill.curator_api.payloads import (
    RedriveIn,
    RedriveOut,
    RejectedCount,
    RejectedDetail,
    RejectedOut,
    RejectedPage,
)
from tunemill.curator_api.problems import responses
from tunemill.curator_api.redrive import redrive

router = APIRouter(prefix="/v1/rejected", tags=["rejected"])

Wanted = Annotated[str | None, Query(max_length=249)]


@router.get("", responses=responses(422))
async def list_rejected(
    here: Here,
    _person: Person,
    *,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    stage: Wanted = None,
    error_code: Wanted = None,
    topic: Wanted = None,
    until_ms: Annotated[int | None, Query(ge=0)] = None,
) -> RejectedPage:
    """The dead letters that were not sent again since, the newest first, without payloads; and how many there are of each kind."""
    letters = await here.dead_letters.read()
    found = letters.matching(stage=stage, error_code=error_code, topic=topic, until_ms=until_ms)
    return RejectedPage(
        rejected=[RejectedOut.model_validate(one.letter) for one in found[:limit]],
        total=len(found),
        counts=[RejectedCount(stage=at, error_code=code, count=many) for (at, code), many in counts(found).items()],
        older=letters.older,
    )


@router.get("/{rejected_id}", responses=responses(404, 422))
async def get_rejected(
    rejected_id: Annotated[str, Path(max_length=512)], here: Here, _person: Person
) -> RejectedDetail:
    """One dead letter with its payload, in which secrets are masked."""
    found = (await here.dead_letters.read()).get(rejected_id)
    if found is None:
        raise NotFound("there is no such dead letter, or it was sent again")
    payload = (await here.dead_letters.payloads([found.place])).get(found.place, b"")
    text, encoding = _shown(payload)
    letter = RejectedOut.model_validate(found.letter).model_dump()
    return RejectedDetail(**letter, payload=text, payload_encoding=encoding)


@router.post("/redrive", responses=responses(422))
async def redrive_rejected(wanted: RedriveIn, here: Here, _person: Person) -> RedriveOut:
    """Send records again to the topics that they came from: those with these ids, or all of a stage, a code or a topic.

    What is rejected again is a dead letter with the same id and one attempt more. Sending one twice makes a duplicate, no second log.
    """
    async with here.redriving:
        letters = await here.dead_letters.read()
        if wanted.ids is not None:
            named = [letters.get(rejected_id) for rejected_id in dict.fromkeys(wanted.ids)]
        else:
            named = [*letters.matching(stage=wanted.stage, error_code=wanted.error_code, topic=wanted.topic)]
        found = [one for one in named if one is not None]
        sent = await redrive(found, here.bus, here.dead_letters, here.records_in)
    return RedriveOut(redriven=sent, no_payload=len(found) - sent, not_found=len(named) - len(found))


def _shown(payload: bytes) -> tuple[str | None, Literal["text", "base64"] | None]:
    """The payload as text if it is text, else in base64; and which."""
    if not payload:
        return None, None
    try:
        return payload.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode(), "base64"
