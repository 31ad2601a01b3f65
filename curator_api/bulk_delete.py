"""Every log that matches a query is forgotten: gone from the index, kept out of every replay and draft. It cannot be taken back.

A page of logs at a time: 1. commit the erasures, with their events and counts; 2. delete from the index; 3. commit the place.
"""

import asyncio

import structlog
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api import job_store as store
from tunemill.curator_api import ledger
from tunemill.curator_api.job_store import Job
from tunemill.curator_api.job_work import Jobs, pages, place_of, query_of

_log = structlog.get_logger()


async def delete_all(on: Jobs, job: Job, stop: asyncio.Event) -> None:
    """Forget the logs that match."""
    await on.index.refresh()  # what was written before is scanned
    async for page in pages(on, query_of(job), job):
        if stop.is_set():
            return
        log_ids = [tagged.log.log_id for tagged in page]
        await asyncio.to_thread(_erase, on, job, log_ids)
        await on.index.delete(log_ids)
        await asyncio.to_thread(store.advance, on.registry, job, place_of(page[-1]), seen=0)
    await asyncio.to_thread(store.finish, on.registry, job, "done")
    _log.info("job_done", job_id=job.job_id)


def _erase(on: Jobs, job: Job, log_ids: list[str]) -> None:
    while True:
        try:
            with on.registry.begin() as connection:
                erased = ledger.erase_many(connection, on.project, log_ids, by=job.by)
                store.count(connection, job, seen=len(erased), changed=len(erased))
            return
        except IntegrityError:  # somebody else edited or erased one of them meanwhile
            continue
