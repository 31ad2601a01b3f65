"""Every log that matches a query is forgotten: gone from the index, kept out of every replay and draft. It cannot be taken back.

A page of logs at a time: 1. commit the erasures, with their events and counts, and have `erase` remove what else there is of these
logs; 2. delete from the index; 3. commit the place.
"""

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api import job_store as store
from tunemill.curator_api import ledger
from tunemill.curator_api.erasure_items import items_of
from tunemill.curator_api.erasure_store import Joining, join
from tunemill.curator_api.job_store import Job
from tunemill.curator_api.job_work import Jobs, pages, place_of, query_of
from tunemill.registry import rule_sets
from tunemill.schemas.records import TaggedLog

_log = structlog.get_logger()


async def delete_all(on: Jobs, job: Job, stop: asyncio.Event) -> None:
    """Forget the logs that match."""
    await on.index.refresh()  # what was written before is scanned
    async for page in pages(on, query_of(job), job):
        if stop.is_set():
            return
        log_ids = [tagged.log.log_id for tagged in page]
        await asyncio.to_thread(_erase, on, job, page)
        await on.index.delete(log_ids)
        await asyncio.to_thread(store.advance, on.registry, job, place_of(page[-1]), seen=0)
    await asyncio.to_thread(store.finish, on.registry, job, "done")
    _log.info("job_done", job_id=job.job_id)


def _erase(on: Jobs, job: Job, page: Sequence[TaggedLog]) -> None:
    log_ids = [tagged.log.log_id for tagged in page]
    private_data = on.tagging.private_data(rule_sets.in_force(on.registry, on.project).document)
    items = [item for tagged in page for item in items_of(tagged, private_data)]
    while True:
        try:
            with on.registry.begin() as connection:
                erased = ledger.erase_many(connection, on.project, log_ids, by=job.by)
                store.count(connection, job, seen=len(erased), changed=len(erased))
                if erased:
                    join(connection, on.project, Joining("query", job.query, len(erased)), items, by=job.by)
            return
        except IntegrityError:  # somebody else edited or erased one of them meanwhile
            continue
