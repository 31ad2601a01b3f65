"""Dead letters over HTTP: what could not be processed, and why."""

from typing import Annotated

from fastapi import APIRouter, Query

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.payloads import RejectedOut, RejectedPage
from tunemill.curator_api.problems import responses
from tunemill.schemas import wire
from tunemill.schemas.records import RejectedLog
from tunemill.schemas.topics import REJECTED

router = APIRouter(prefix="/v1/rejected", tags=["rejected"])


@router.get("", responses=responses(422))
async def list_rejected(
    here: Here, _person: Person, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> RejectedPage:
    """The newest dead letters, newest first, without their payloads."""
    messages = await here.bus.tail(REJECTED, limit=limit)
    letters = [wire.decode(message.value, RejectedLog) for message in messages]
    mine = [letter for letter in letters if letter.project == here.settings.project]
    return RejectedPage(rejected=[RejectedOut.model_validate(letter) for letter in mine])
