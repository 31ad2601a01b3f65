"""A person's tags on a log: set and taken off for good, whatever rules, models and backfills do to the log meanwhile."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tunemill.curator_api import ledger
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import NotFound
from tunemill.indexer.errors import IndexUnavailable
from tunemill.schemas.records import Tag, TaggedLog
from tunemill.schemas.stored import StoredLog

DEADLINE_S = 10.0  # the index waits for an engine that is away; a person does not

_KEPT = ("caller", "person:")  # who set a tag before, and still has when a person adds it


class TagEdit(NamedTuple):
    """What a person does to the tags of one log."""

    add: Sequence[str] = ()
    remove: Sequence[str] = ()


async def change_tags(
    curator: Curator, log_id: str, *, add: Sequence[str], remove: Sequence[str], by: str
) -> TaggedLog:
    """Add and remove tags, remember who did it, and give the log as it is then; findable by them after a refresh.

    Raises:
        NotFound: there is no such log, or it was erased.
        IndexUnavailable: the engine does not answer in time.
    """
    changed = await change_tags_of_many(curator, {log_id: TagEdit(add, remove)}, by=by)
    if log_id not in changed:
        raise NotFound("there is no such log")
    return changed[log_id]


async def change_tags_of_many(curator: Curator, edits: Mapping[str, TagEdit], *, by: str) -> dict[str, TaggedLog]:
    """Likewise for many logs, by log_id; those that are not there or were erased are left out.

    Raises:
        IndexUnavailable: the engine does not answer in time.
    """
    try:
        async with asyncio.timeout(DEADLINE_S):
            there = await _stored(curator, edits)  # nothing is remembered about a log that is not there
            open_edits = await asyncio.to_thread(_record, curator, {log_id: edits[log_id] for log_id in there}, by)
            changed: dict[str, TaggedLog] = {}
            while open_edits:
                done = await _changed(curator, open_edits, by)
                changed |= {log_id: tagged for log_id, tagged in done.items() if tagged is not None}
                open_edits = {log_id: edit for log_id, edit in open_edits.items() if log_id not in done}
            return changed
    except TimeoutError as error:
        raise IndexUnavailable(f"tags could not be changed in {DEADLINE_S:.0f} s") from error


def edited(tagged: TaggedLog, *, add: Sequence[str], remove: Sequence[str], by: str) -> TaggedLog:
    """The log after a person's edit. A tag that only a rule or a model had set becomes the person's."""
    kept = {tag.tag: tag for tag in tagged.tags if tag.tag not in remove}
    for name in add:
        if name not in kept or not kept[name].by.startswith(_KEPT):
            kept[name] = Tag(name, by)
    removed = [name for name in dict.fromkeys((*tagged.removed, *remove)) if name not in add]
    return msgspec.structs.replace(tagged, tags=tuple(kept.values()), removed=tuple(removed))


def _record(curator: Curator, edits: Mapping[str, TagEdit], by: str) -> dict[str, TagEdit]:
    """The edits of logs that are not erased, remembered."""
    project = curator.settings.project
    erased = ledger.erased_among(curator.registry, project, list(edits))
    kept = {log_id: edit for log_id, edit in edits.items() if log_id not in erased}
    acts = [(log_id, "tag", tag) for log_id, edit in kept.items() for tag in edit.add]
    acts += [(log_id, "untag", tag) for log_id, edit in kept.items() for tag in edit.remove]
    ledger.record_tags(curator.registry, project, acts, by=by)
    return kept


async def _stored(curator: Curator, log_ids: Iterable[str]) -> Mapping[str, StoredLog]:
    return (await curator.index.stored(log_ids=list(log_ids), trace_ids=[])).logs


async def _changed(curator: Curator, edits: Mapping[str, TagEdit], by: str) -> dict[str, TaggedLog | None]:
    """Each log as it is with its edit, None for one that is gone by now; without those that somebody else changed since they
    were read."""
    found = await _stored(curator, edits)
    wanted = {
        log_id: StoredLog(
            edited(stored.tagged, add=edits[log_id].add, remove=edits[log_id].remove, by=by), stored.version
        )
        for log_id, stored in found.items()
    }
    other = [log_id for log_id, one in wanted.items() if one.tagged != found[log_id].tagged]
    written = await curator.index.replace([wanted[log_id] for log_id in other]) if other else []
    missed = {log_id for log_id, outcome in zip(other, written, strict=True) if outcome is None}
    gone: dict[str, TaggedLog | None] = {log_id: None for log_id in edits if log_id not in found}
    return gone | {log_id: one.tagged for log_id, one in wanted.items() if log_id not in missed}
