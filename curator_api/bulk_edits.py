"""What a person says of every log that matches a query, its tags or its consent: recorded as that person's edits, and taken back.

A page of logs at a time: 1. read; 2. record what changes a log, unless this job did so before, and if nobody did anything to it
since it was read, else from 1; 3. let the index have it; 4. commit the place. Killed at any step, a page is done again, and
nothing in it twice.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from tunemill.curator_api import edit_store, job_work
from tunemill.curator_api import job_store as store
from tunemill.curator_api.edit_store import Act, EditRow
from tunemill.curator_api.edits import KEPT, apply, change_many, with_edits
from tunemill.curator_api.errors import EditedMeanwhile
from tunemill.curator_api.job_store import Job
from tunemill.curator_api.job_work import Jobs, pages, place_of, query_of
from tunemill.schemas.records import TaggedLog

_log = structlog.get_logger()


class Wanted(msgspec.Struct, frozen=True):
    """What is said of each log; `consent` None: nothing."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    consent: str | None = None


async def edit_all(on: Jobs, job: Job, stop: asyncio.Event) -> None:
    """Edit the logs that match, where that changes something."""
    wanted = msgspec.convert(job.work, Wanted)
    await on.index.refresh()  # what was written before is scanned
    await asyncio.to_thread(store.recount, on.registry, job)
    async for page in pages(on, query_of(job), job):
        if stop.is_set():
            return
        changed = await _edit_page(on, job, wanted, page)
        place = place_of(page[-1])
        await asyncio.to_thread(store.advance, on.registry, job, place, seen=len(page), changed=changed)
    await on.index.refresh()
    await asyncio.to_thread(store.finish, on.registry, job, "done")
    _log.info("job_done", job_id=job.job_id)


async def take_back(on: Jobs, job: Job, stop: asyncio.Event) -> None:
    """Undo its edits in their order, where they are still the last word."""
    await asyncio.to_thread(store.recount, on.registry, job)
    seq = int(job.place[0]) if job.place else 0
    while rows := await asyncio.to_thread(
        edit_store.of_job, on.registry, job.job_id, after_seq=seq, limit=job_work.PAGE
    ):
        if stop.is_set():
            return
        await _take_back_page(on, job, rows)
        seq = rows[-1].seq
        await asyncio.to_thread(store.advance, on.registry, job, [seq], seen=0)
    await on.index.refresh()
    await asyncio.to_thread(store.finish, on.registry, job, "undone")
    _log.info("job_undone", job_id=job.job_id)


def acts_on(tagged: TaggedLog, wanted: Wanted) -> list[Act]:
    """What is to be done to a log so that it is as wanted; of a tag that a rule or a caller had set, with who had."""
    setters = {tag.tag: tag.by for tag in tagged.tags}
    acts = [
        Act("tag", name, value=setters.get(name))
        for name in wanted.add
        if name in tagged.removed or not setters.get(name, "").startswith(KEPT)
    ]
    acts += [
        Act("untag", name, value=setters.get(name))
        for name in wanted.remove
        if name in setters or name not in tagged.removed
    ]
    if wanted.consent is not None and wanted.consent != tagged.consent:
        acts.append(Act("consent", value=wanted.consent))
    return acts


def acts_back(row: EditRow, history: Sequence[EditRow]) -> list[Act]:
    """What takes an edit back; nothing where somebody said something else since.

    Args:
        history: everything that people did to this log, in order.
    """
    same = [other for other in history if _subject(other) == _subject(row)]
    if not same or same[-1].revision != row.revision:
        return []
    before = same[-2] if len(same) > 1 else None
    if row.kind == "consent":
        return [Act("consent", value=before.value if before else None)]
    if before is not None and before.kind in ("tag", "untag"):
        return [Act(before.kind, row.tag)]
    return [Act("reset", row.tag, value=row.value)]


async def _edit_page(on: Jobs, job: Job, wanted: Wanted, page: Sequence[TaggedLog]) -> int:
    """How many logs it changed."""
    logs = {tagged.log.log_id: tagged for tagged in page}
    while True:
        history = await asyncio.to_thread(edit_store.edits_of, on.registry, on.project, list(logs), texts=False)
        done_before = [log_id for log_id, rows in history.items() if any(row.job_id == job.job_id for row in rows)]
        acts = {
            log_id: acts_on(with_edits(tagged, history.get(log_id, ())), wanted)
            for log_id, tagged in logs.items()
            if log_id not in done_before
        }
        acts = {log_id: some for log_id, some in acts.items() if some}
        expected = {log_id: _last(history.get(log_id, ()), logs[log_id].revision) for log_id in acts}
        try:
            return await _change(on, job, acts, done_before, expected, by=job.by, why=job.why)
        except EditedMeanwhile:
            stored = (await on.index.stored(log_ids=list(logs), trace_ids=[])).logs
            logs = {log_id: found.tagged for log_id, found in stored.items()}


async def _take_back_page(on: Jobs, job: Job, rows: Sequence[EditRow]) -> None:
    by = (job.result or {}).get("undone_by", job.by)
    log_ids = list(dict.fromkeys(row.log_id for row in rows))
    while True:
        history = await asyncio.to_thread(edit_store.edits_of, on.registry, on.project, log_ids, texts=False)
        acts: dict[str, list[Act]] = {}
        for row in rows:
            if back := acts_back(row, history.get(row.log_id, ())):
                acts.setdefault(row.log_id, []).extend(back)
        stored = (await on.index.stored(log_ids=list(acts), trace_ids=[])).logs
        indexed = {log_id: one.tagged.revision for log_id, one in stored.items()}
        expected = {log_id: _last(history[log_id], indexed.get(log_id, 0)) for log_id in acts}
        done_before = [log_id for log_id in log_ids if log_id not in acts]
        try:
            await _change(on, job, acts, done_before, expected, by=by, why=f"undo of {job.job_id}")
        except EditedMeanwhile:
            continue
        return


async def _change(
    on: Jobs,
    job: Job,
    acts: Mapping[str, Sequence[Act]],
    done_before: Sequence[str],
    expected: Mapping[str, int],
    *,
    by: str,
    why: str | None,
) -> int:
    """Record these acts and let the index have them, and what was recorded before; how many logs were changed."""
    await asyncio.to_thread(store.renew, on.registry, job)  # whoever lost the lease records nothing
    its = job.job_id if job.status == "running" else None  # what takes it back is not part of it
    changed = await change_many(on, acts, by=by, why=why, job_id=its, expected=expected) if acts else {}
    if done_before:
        await apply(on, done_before)
    return len(changed)


def _last(rows: Sequence[EditRow], indexed: int) -> int:
    """A log's last revision; that of the index may be higher: the retention forgets rows before it drops a log."""
    return max(rows[-1].revision if rows else 0, indexed)


def _subject(row: EditRow) -> tuple[str, str | None]:
    """What an edit is about: a tag, or the consent, or the messages."""
    return ("tag" if row.tag else row.kind, row.tag)
