"""A person's tags on a log: set and taken off for good, whatever rules, models and backfills do to the log meanwhile."""

import asyncio
from collections.abc import Sequence

import msgspec

from tunemill.curator_api import ledger
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import NotFound
from tunemill.indexer.errors import IndexUnavailable
from tunemill.schemas.records import Tag, TaggedLog
from tunemill.schemas.stored import StoredLog

DEADLINE_S = 10.0  # the index waits for an engine that is away; a person does not

_KEPT = ("caller", "person:")  # who set a tag before, and still has when a person adds it


async def change_tags(
    curator: Curator, log_id: str, *, add: Sequence[str], remove: Sequence[str], by: str
) -> TaggedLog:
    """Add and remove tags, remember who did it, and give the log as it is then; findable by them after a refresh.

    Raises:
        NotFound: there is no such log, or it was erased.
        IndexUnavailable: the engine does not answer in time.
    """
    try:
        async with asyncio.timeout(DEADLINE_S):
            await _read(curator, log_id)  # nothing is remembered about a log that is not there
            await asyncio.to_thread(_record, curator, log_id, add, remove, by)
            while True:
                stored = await _read(curator, log_id)
                wanted = edited(stored.tagged, add=add, remove=remove, by=by)
                if wanted == stored.tagged or await _is_replaced(curator, StoredLog(wanted, stored.version)):
                    return wanted
    except TimeoutError as error:
        raise IndexUnavailable(f"the log's tags could not be changed in {DEADLINE_S:.0f} s") from error


def edited(tagged: TaggedLog, *, add: Sequence[str], remove: Sequence[str], by: str) -> TaggedLog:
    """The log after a person's edit. A tag that only a rule or a model had set becomes the person's."""
    kept = {tag.tag: tag for tag in tagged.tags if tag.tag not in remove}
    for name in add:
        if name not in kept or not kept[name].by.startswith(_KEPT):
            kept[name] = Tag(name, by)
    removed = [name for name in dict.fromkeys((*tagged.removed, *remove)) if name not in add]
    return msgspec.structs.replace(tagged, tags=tuple(kept.values()), removed=tuple(removed))


def _record(curator: Curator, log_id: str, add: Sequence[str], remove: Sequence[str], by: str) -> None:
    project = curator.settings.project
    if ledger.is_erased(curator.registry, project, log_id):
        raise NotFound("there is no such log")
    ledger.record_tags(curator.registry, project, log_id, add=add, remove=remove, by=by)


async def _read(curator: Curator, log_id: str) -> StoredLog:
    found = (await curator.index.stored(log_ids=[log_id], trace_ids=[])).logs.get(log_id)
    if found is None:
        raise NotFound("there is no such log")
    return found


async def _is_replaced(curator: Curator, wanted: StoredLog) -> bool:
    """False: somebody else changed the log since it was read."""
    return (await curator.index.replace([wanted]))[0] is not None
