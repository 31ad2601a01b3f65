"""A log over HTTP: see it, tag it, have it forgotten."""

import asyncio
from collections.abc import Iterable
from typing import Annotated

import structlog
from fastapi import APIRouter, Path

from tunemill.curator_api import ledger
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.edits import change
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.payloads import ErasureOut, FeedbackOut, LogId, LogOut, TagsIn, TagsOut
from tunemill.curator_api.problems import responses
from tunemill.indexer.errors import SearchIndexError
from tunemill.schemas.records import Feedback, LogRecord, TaggedLog

router = APIRouter(prefix="/v1/logs", tags=["logs"])

_log = structlog.get_logger()

ThisLog = Annotated[LogId, Path()]  # may hold slashes: whoever made the log chose its id


@router.get("/{log_id:path}", responses=responses(404, 422))
async def get_log(log_id: ThisLog, here: Here, _person: Person) -> LogOut:
    """One log, normalised, with its tags and who set them, and what was said about it."""
    tagged = await find_log(here, log_id)
    return log_out(tagged, await here.index.feedback_of(tagged.log))


@router.delete("/{log_id:path}", status_code=202, responses=responses(422))
async def erase_log(log_id: ThisLog, here: Here, person: Person) -> ErasureOut:
    """Have a log forgotten: gone from search now, kept out of every replay and draft. A log still on its way counts, too."""
    found = await here.index.get(log_id) is not None
    erasure_id = await asyncio.to_thread(ledger.erase, here.registry, here.settings.project, log_id, by=person)
    try:
        await here.index.delete([log_id])
    except SearchIndexError as error:  # the ledger holds, and the stream deletes it when it reads the event
        _log.warning("erasure_left_to_the_stream", erasure_id=erasure_id, error=type(error).__name__)
    return ErasureOut(erasure_id=erasure_id, found=found)


@router.post("/{log_id:path}/tags", responses=responses(400, 404, 422))
async def edit_tags(log_id: ThisLog, tags: TagsIn, here: Here, person: Person) -> TagsOut:
    """Add and remove tags. No rule and no model takes off what was added, or sets again what was removed."""
    acts = [*(Act("untag", tag) for tag in tags.remove), *(Act("tag", tag) for tag in tags.add)]
    tagged = await change(here, log_id, acts, by=person)
    await here.index.refresh()
    return TagsOut(tags=[tag.tag for tag in tagged.tags])


async def find_log(curator: Curator, log_id: str) -> TaggedLog:
    """The log with this id.

    Raises:
        NotFound: there is none, or it was erased.
    """
    tagged = await curator.index.get(log_id)
    if tagged is None or await asyncio.to_thread(ledger.is_erased, curator.registry, curator.settings.project, log_id):
        raise NotFound("there is no such log")
    return tagged


def log_out(tagged: TaggedLog, feedback: Iterable[Feedback]) -> LogOut:
    """A log as the API gives it."""
    record = {field: getattr(tagged.log, field) for field in LogRecord.__struct_fields__}
    return LogOut.model_validate(
        {
            **record,
            "tags": [tag.tag for tag in tagged.tags],
            "tagged_by": {tag.tag: tag.by for tag in tagged.tags},
            "tag_status": tagged.tag_status,
            "language": tagged.language,
            "content_digest": tagged.content_digest,
            "feedback": [{field: getattr(item, field) for field in FeedbackOut.model_fields} for item in feedback],
        }
    )
