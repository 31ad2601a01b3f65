"""A log over HTTP: see it with its history, tag it, edit it, take an edit back, have it forgotten."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Path, Query

from tunemill.curator_api import edit_store, ledger
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.edit_payloads import LogEditIn, MessageIn, RevertIn, TagsIn, TagsOut
from tunemill.curator_api.edit_store import Act, EditRow, History
from tunemill.curator_api.edited_messages import checked_edit
from tunemill.curator_api.edits import brought_up, change
from tunemill.curator_api.erasure_items import items_of
from tunemill.curator_api.erasure_store import Item, forget_one
from tunemill.curator_api.errors import EditedMeanwhile, NotFound
from tunemill.curator_api.gather import policy
from tunemill.curator_api.neighbours import neighbours
from tunemill.curator_api.payloads import ErasureOut, FeedbackOut, LogId, LogOut, MessagesOut, NeighboursOut
from tunemill.curator_api.private import let_in
from tunemill.curator_api.problems import responses
from tunemill.indexer.errors import SearchIndexError
from tunemill.schemas.records import Edit, Feedback, LogRecord, Message, TaggedLog

router = APIRouter(prefix="/v1/logs", tags=["logs"])

NO_HISTORY = History((), frozenset())

_log = structlog.get_logger()

EDITS_SHOWN = 200

ThisLog = Annotated[LogId, Path()]  # may hold slashes: whoever made the log chose its id
AtRevision = Annotated[
    int | None, Query(ge=0, le=2**31 - 1, description="with the messages and the answer that it had then")
]


@router.get("/{log_id:path}", responses=responses(404, 422))
async def get_log(log_id: ThisLog, here: Here, _person: Person, revision: AtRevision = None) -> LogOut:
    """One log, normalised, as people edited it, with its tags and who set them, what was said about it and who did what to it."""
    tagged = await find_log(here, log_id)
    if revision is not None:
        value = await _messages_at(here, tagged, revision)
        tagged = msgspec.structs.replace(tagged, edit=None if value is None else msgspec.convert(value, Edit))
    return await _shown(here, tagged)


@router.delete("/{log_id:path}", status_code=202, responses=responses(422))
async def erase_log(log_id: ThisLog, here: Here, person: Person) -> ErasureOut:
    """Have a log forgotten: gone from search now, kept out of every replay and draft. A log still on its way counts, too.

    Topics, versions and what is left on disks follow within a minute or so: `GET /v1/erasures`.
    """
    seen = await here.index.get(log_id)
    erasure_id = await asyncio.to_thread(_forget, here, log_id, seen, person)
    try:
        await here.index.delete([log_id])
    except SearchIndexError as error:  # the ledger holds, and the stream deletes it when it reads the event
        _log.warning("erasure_left_to_the_stream", erasure_id=erasure_id, error=type(error).__name__)
    return ErasureOut(erasure_id=erasure_id, found=seen is not None)


@router.patch("/{log_id:path}", responses=responses(404, 409, 413, 422))
async def edit_log(log_id: ThisLog, wanted: LogEditIn, here: Here, person: Person) -> LogOut:
    """Put other messages, another answer or another consent in place of the log's. What came is kept, and every revision.

    409 `edited-meanwhile` where the log's revision is not `expected_revision`; `revision` says what it is.
    """
    while True:
        seen = await find_log(here, log_id)
        acts = await _acts(here, seen, wanted)
        named = wanted.expected_revision
        half = (wanted.messages is None) != (wanted.output is None)  # the other half is that of the log as we saw it
        expected = seen.revision if half and named is None else named
        try:
            await change(here, log_id, acts, by=person, why=wanted.why, expected=expected)
        except EditedMeanwhile:
            if named is None:
                continue
            raise
        await here.index.refresh()
        return await _shown(here, await find_log(here, log_id))


@router.post("/{log_id:path}/tags", responses=responses(400, 404, 409, 422))
async def edit_tags(log_id: ThisLog, tags: TagsIn, here: Here, person: Person) -> TagsOut:
    """Add and remove tags. No rule and no model takes off what was added, or sets again what was removed."""
    acts = [*(Act("untag", tag) for tag in tags.remove), *(Act("tag", tag) for tag in tags.add)]
    tagged = await change(here, log_id, acts, by=person, why=tags.why, expected=tags.expected_revision)
    await here.index.refresh()
    return TagsOut(tags=[tag.tag for tag in tagged.tags], revision=tagged.revision)


@router.post("/{log_id:path}/revert", responses=responses(404, 409, 422))
async def revert_log(log_id: ThisLog, wanted: RevertIn, here: Here, person: Person) -> LogOut:
    """Give the log the messages and the answer that it had at a revision, as a new one. Tags and consent stay as they are."""
    value = await _messages_at(here, await find_log(here, log_id), wanted.revision)
    acts = [Act("messages", value=value)]
    await change(here, log_id, acts, by=person, why=wanted.why, expected=wanted.expected_revision)
    await here.index.refresh()
    return await _shown(here, await find_log(here, log_id))


async def find_log(curator: Curator, log_id: str) -> TaggedLog:
    """The log with this id, with all that people did to it.

    Raises:
        NotFound: there is none, or it was erased.
    """
    tagged = await curator.index.get(log_id)
    if tagged is None:
        raise NotFound("there is no such log")
    return await asyncio.to_thread(_as_edited, curator, tagged)


def _as_edited(curator: Curator, tagged: TaggedLog) -> TaggedLog:
    if ledger.is_erased(curator.registry, curator.project, tagged.log.log_id):
        raise NotFound("there is no such log")
    return brought_up(curator.registry, curator.project, [tagged])[0]  # the index may not have the last edits yet


async def _messages_at(curator: Curator, tagged: TaggedLog, revision: int) -> Any:
    if revision > tagged.revision:
        raise NotFound(f"the log has no revision {revision}: its last is {tagged.revision}")
    log_id = tagged.log.log_id
    return await asyncio.to_thread(edit_store.messages_at, curator.registry, curator.project, log_id, revision)


def _forget(curator: Curator, log_id: str, seen: TaggedLog | None, person: str) -> str:
    items = [Item("log", log_id)] if seen is None else items_of(seen, policy(curator))
    return forget_one(curator.registry, curator.project, log_id, items, found=seen is not None, by=person)


async def _acts(curator: Curator, tagged: TaggedLog, wanted: LogEditIn) -> list[Act]:
    acts = [Act("consent", value=wanted.consent)] if wanted.sets_consent else []
    if wanted.messages is None and wanted.output is None:
        return acts
    shown = tagged.shown
    edit = Edit(
        messages=shown.messages if wanted.messages is None else _messages(wanted.messages),
        output=shown.output if wanted.output is None else _messages(wanted.output),
    )

    def checked() -> Edit:
        return checked_edit(tagged.log, shown, edit, let_in=let_in(policy(curator)))

    size = len(msgspec.json.encode(edit))
    return [*acts, Act("messages", value=msgspec.to_builtins(await curator.body_work.run(size, checked)))]


def _messages(messages: Sequence[MessageIn]) -> tuple[Message, ...]:
    return msgspec.convert([message.model_dump() for message in messages], tuple[Message, ...])


async def _shown(curator: Curator, tagged: TaggedLog) -> LogOut:
    here = (curator.registry, curator.project, tagged.log.log_id)
    feedback, around, history = await asyncio.gather(
        curator.index.feedback_of(tagged.log),
        neighbours(curator, tagged),
        asyncio.to_thread(edit_store.history, *here, upto=tagged.revision, limit=EDITS_SHOWN),
    )
    return log_out(tagged, feedback, history, around)


def log_out(
    tagged: TaggedLog,
    feedback: Iterable[Feedback] = (),
    history: History = NO_HISTORY,
    around: NeighboursOut | None = None,
) -> LogOut:
    """A log as the API gives it."""
    record = {field: getattr(tagged.shown, field) for field in LogRecord.__struct_fields__}
    return LogOut.model_validate(
        {
            **record,
            "tags": [tag.tag for tag in tagged.tags],
            "tagged_by": {tag.tag: tag.by for tag in tagged.tags},
            "tag_status": tagged.tag_status,
            "language": tagged.language,
            "content_digest": tagged.content_digest,
            "feedback": [{field: getattr(item, field) for field in FeedbackOut.model_fields} for item in feedback],
            "revision": tagged.revision,
            "original": None if tagged.edit is None else MessagesOut.model_validate(tagged.log),
            "consent_said": tagged.consent,
            "edits": [_edit_out(row, history) for row in history.rows],
            "neighbours": around,
        }
    )


def _edit_out(row: EditRow, history: History) -> dict[str, Any]:
    said = {"value": row.value if row.kind == "consent" else None, "as_it_came": row.revision in history.as_it_came}
    return msgspec.structs.asdict(row) | said
