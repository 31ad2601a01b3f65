"""The index made anew from the logs that it holds and what people did to them. Begun again, it begins at the first log."""

import asyncio
from collections.abc import Sequence

import structlog

from tunemill.curator_api import job_store as store
from tunemill.curator_api import ledger
from tunemill.curator_api.edits import brought_up
from tunemill.curator_api.job_store import Job
from tunemill.curator_api.job_work import Jobs, NotTaken
from tunemill.indexer.errors import IndexRefused, IndexUnavailable, SearchIndexError
from tunemill.schemas.records import TaggedLog

_log = structlog.get_logger()


class _Told(Exception):
    """To stop."""


async def rebuild(on: Jobs, job: Job, stop: asyncio.Event) -> None:
    """Have the index rebuild itself; logs that were erased are left out."""

    async def change(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
        return await asyncio.to_thread(edited, on, logs)

    async def progress(logs: int) -> None:
        await asyncio.to_thread(store.advance, on.registry, job, [], seen=logs)
        if stop.is_set():
            raise _Told

    await asyncio.to_thread(store.begin_again, on.registry, job)
    try:
        done = await on.index.rebuild(change, progress=progress)
    except _Told:
        return
    except (IndexUnavailable, IndexRefused):
        raise
    except SearchIndexError as error:  # its text names no value of a log
        raise NotTaken(str(error)) from error
    await asyncio.to_thread(store.advance, on.registry, job, [], seen=0, changed=done.changed)
    await asyncio.to_thread(store.finish, on.registry, job, "done", result=done._asdict())
    _log.info("index_rebuilt", job_id=job.job_id, **done._asdict())


def edited(on: Jobs, logs: Sequence[TaggedLog]) -> list[TaggedLog]:
    """These logs with what people did to them and the index does not have yet; without those that were erased."""
    brought = brought_up(on.registry, on.project, logs)
    erased = ledger.erased_among(on.registry, on.project, [tagged.log.log_id for tagged in logs])
    return [tagged for tagged in brought if tagged.log.log_id not in erased]
