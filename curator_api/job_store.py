"""Work on many logs, in the registry: who does which, how far it is, and what the rules' own work did to which log.

    running -> done | failed | cancelled        done | failed | cancelled -> undoing -> undone | failed | cancelled

One job of a project is worked on at a time, the oldest first, by whoever holds its lease. Whoever lost it, or was told to
stop, learns so from `LeaseLost` at the next step. What is done to a log is a row before it is done.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api.errors import Finished, NotFound, UnderWay, Unprocessable
from tunemill.curator_api.tag_changes import TagChange, then
from tunemill.registry import audit_trail
from tunemill.registry.tables import edits, job_changes, jobs, now_ms
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import Tag

LEASE_MS = 30_000  # how long a job lies idle after its process was killed

Status = Literal["running", "done", "failed", "cancelled", "undoing", "undone"]
ACTIVE: tuple[Status, ...] = ("running", "undoing")

_COUNTS = {"seen": jobs.c.seen, "changed": jobs.c.changed}

Pairs = tuple[tuple[str, str], ...]


class LeaseLost(Exception):
    """The job is no longer ours: cancelled, or taken over after our lease ended."""


class Request(NamedTuple):
    """What a caller names a request by, so that sending it again asks for nothing more."""

    key: str
    digest: str  # of what it asks for


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Work on the logs that match a query."""

    job_id: str
    kind: str
    query: str
    work: dict[str, Any] | None  # what to do to each log, by kind
    why: str | None
    revision: int | None  # of the rules, if it applies some
    status: Status
    total: int
    seen: int
    changed: int
    place: list[Any] | None  # where it is, by kind
    result: dict[str, Any] | None  # what came of it, by kind
    lease_owner: str | None
    error: dict[str, str] | None
    by: str
    created_ms: int
    finished_ms: int | None


def start(
    engine: Engine,
    project: str,
    *,
    kind: str,
    query: str,
    total: int,
    by: str,
    work: Mapping[str, Any] | None = None,
    why: str | None = None,
    revision: int | None = None,
    request: Request | None = None,
) -> Job:
    """Have work done, by this process or another.

    Args:
        query: which logs; as `to_text` writes it, so that it means later what it means now.
        work: what to do to each log, by kind.
        revision: of the rules, if it applies some.
        request: what its caller named it by: the job that is there already is given, if there is one.

    Raises:
        Unprocessable: something else was asked for by this name.
    """
    values = {
        "job_id": new_id(),
        "project": project,
        "kind": kind,
        "query": query,
        "work": None if work is None else dict(work),
        "why": why,
        "revision": revision,
        "status": "running",
        "total": total,
        "seen": 0,
        "changed": 0,
        "by": by,
        "created_ms": now_ms(),
        "idempotency_key": request and request.key,
        "request_digest": request and request.digest,
    }
    try:
        with engine.begin() as connection:
            connection.execute(insert(jobs).values(values))
            audit_trail.append(connection, project, "job.start", str(values["job_id"]), by=by)
    except IntegrityError:
        if request is not None and (begun := find_begun(engine, project, request)):
            return begun
        raise
    return find(engine, project, str(values["job_id"]))


def find(engine: Engine, project: str, job_id: str) -> Job:
    """The job with this id.

    Raises:
        NotFound: there is none.
    """
    with engine.connect() as connection:
        return _find(connection, project, job_id)


def find_begun(engine: Engine, project: str, request: Request) -> Job | None:
    """The job that a request with this name began.

    Raises:
        Unprocessable: it asked for something else.
    """
    here = (jobs.c.project == project, jobs.c.idempotency_key == request.key)
    with engine.connect() as connection:
        row = connection.execute(select(jobs).where(*here)).one_or_none()
    if row is not None and row.request_digest != request.digest:
        raise Unprocessable("something else was asked for with this Idempotency-Key: send another one")
    return None if row is None else _job(row)


def find_all(engine: Engine, project: str, *, limit: int, kind: str | None = None) -> list[Job]:
    """The newest jobs, newest first; of one kind, or of all."""
    here = jobs.c.project == project if kind is None else and_(jobs.c.project == project, jobs.c.kind == kind)
    newest = select(jobs).where(here).order_by(jobs.c.job_id.desc())
    with engine.connect() as connection:
        return [_job(row) for row in connection.execute(newest.limit(limit))]


def cancel(engine: Engine, project: str, job_id: str, *, by: str) -> Job:
    """Stop a job, or its undoing, where it is. What it did so far stays, and can be undone.

    Raises:
        NotFound: there is no such job.
        Finished: it is over.
    """
    # The lease stays with whoever is writing just now.
    values = {"status": "cancelled", "finished_ms": now_ms(), **_counts_at_the_end(job_id)}
    with engine.begin() as connection:
        if not _update(connection, _in(project, job_id, *ACTIVE), values):
            found = _find(connection, project, job_id)
            raise Finished(f"the job is {found.status}")
        audit_trail.append(connection, project, "job.cancel", job_id, by=by)
        return _find(connection, project, job_id)


def undo(engine: Engine, project: str, job_id: str, *, by: str) -> Job:
    """Have everything taken back that a job did, where nobody changed it since.

    Raises:
        NotFound: there is no such job.
        Finished: it is undone.
        UnderWay: it is still running.
    """
    values = {
        "status": "undoing",
        "place": None,
        "finished_ms": None,
        "error": None,
        "result": {"undone_by": by},
    }
    with engine.begin() as connection:
        if not _update(connection, _in(project, job_id, "done", "failed", "cancelled"), values):
            found = _find(connection, project, job_id)
            if found.status == "running":
                raise UnderWay("the job is running: cancel it first")
            raise Finished(f"the job is {found.status}")
        audit_trail.append(connection, project, "job.undo", job_id, by=by)
        return _find(connection, project, job_id)


def claim(engine: Engine, project: str, owner: str) -> Job | None:
    """Take the oldest job that is not finished; None when there is none, or somebody else is at work."""
    unfinished = and_(jobs.c.project == project, jobs.c.status.in_(ACTIVE))
    held = and_(jobs.c.project == project, jobs.c.lease_until_ms >= now_ms(), jobs.c.lease_owner != owner)
    with engine.begin() as connection:
        locked = select(jobs).where(or_(unfinished, held)).order_by(jobs.c.job_id).with_for_update()
        rows = connection.execute(locked).all()
        waiting = [row for row in rows if row.status in ACTIVE]
        if not waiting or any(row.lease_owner not in (None, owner) and row.lease_until_ms >= now_ms() for row in rows):
            return None
        here = jobs.c.job_id == waiting[0].job_id
        _update(connection, here, {"lease_owner": owner, "lease_until_ms": now_ms() + LEASE_MS})
        return _job(connection.execute(select(jobs).where(here)).one())


def renew(engine: Engine, claimed: Job) -> None:
    """Keep the lease for a while.

    Raises:
        LeaseLost: it is not ours any more.
    """
    _step(engine, claimed, {})


def note_changes(engine: Engine, claimed: Job, changes: Mapping[str, TagChange]) -> None:
    """Write down what is about to be done to these logs, by log_id. What was noted before about one is not lost.

    Raises:
        LeaseLost: it is not ours any more; nothing is noted, and nothing may be done.
    """
    with engine.begin() as connection:
        known = _known(connection, claimed.job_id, list(changes))
        fresh = [log_id for log_id in changes if log_id not in known]
        _fence(connection, claimed, {})
        if fresh:
            rows = [_change_row(claimed.job_id, log_id, changes[log_id]) for log_id in fresh]
            connection.execute(insert(job_changes), rows)
        for log_id, before in known.items():
            row = _change_row(claimed.job_id, log_id, then(before, changes[log_id]))
            here = _change(claimed.job_id, log_id)
            connection.execute(update(job_changes).where(here).values(added=row["added"], taken=row["taken"]))


def count_noted(engine: Engine, job_id: str, log_ids: Sequence[str]) -> int:
    """Of how many of these logs it was noted that something is done to them: by this process, or by one that was killed."""
    here = and_(job_changes.c.job_id == job_id, job_changes.c.log_id.in_(log_ids))
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(job_changes).where(here)).scalar_one()


def advance(engine: Engine, claimed: Job, place: Sequence[Any], *, seen: int, changed: int = 0) -> None:
    """Everything up to this place is done.

    Args:
        seen: how many logs that were more.
        changed: how many of them were changed.

    Raises:
        LeaseLost: it is not ours any more.
    """
    more = {"seen": jobs.c.seen + seen, "changed": jobs.c.changed + changed}
    _step(engine, claimed, {"place": list(place), **more})


def count(connection: Connection, claimed: Job, *, seen: int, changed: int) -> None:
    """Count more logs within the caller's transaction, which does to them what is counted.

    Raises:
        LeaseLost: it is not ours any more; the transaction must not be committed.
    """
    _fence(connection, claimed, {"seen": jobs.c.seen + seen, "changed": jobs.c.changed + changed})


def recount(engine: Engine, claimed: Job) -> None:
    """Count the logs that it edited: whoever was killed between an edit and `advance` did not.

    Raises:
        LeaseLost: it is not ours any more.
    """
    _step(engine, claimed, {"changed": count_edited(engine, claimed.job_id)})


def count_edited(engine: Engine, job_id: str, *, upto_seq: int | None = None) -> int:
    """How many logs a job edited; by its edits up to one of them, or by all."""
    here = edits.c.job_id == job_id if upto_seq is None else and_(edits.c.job_id == job_id, edits.c.seq <= upto_seq)
    with engine.connect() as connection:
        return connection.execute(select(func.count(edits.c.log_id.distinct())).where(here)).scalar_one()


def under_way(engine: Engine, project: str) -> str | None:
    """The job whose turn it is, that all others which are not finished wait for."""
    here = and_(jobs.c.project == project, jobs.c.status.in_(ACTIVE))
    with engine.connect() as connection:
        job_id: str | None = connection.execute(select(func.min(jobs.c.job_id)).where(here)).scalar_one()
    return job_id


def begin_again(engine: Engine, claimed: Job) -> None:
    """Count from nothing: it cannot go on where it was left.

    Raises:
        LeaseLost: it is not ours any more.
    """
    _step(engine, claimed, {"seen": 0, "changed": 0})


def finish(
    engine: Engine,
    claimed: Job,
    status: Status,
    *,
    error: Mapping[str, str] | None = None,
    result: Mapping[str, Any] | None = None,
) -> None:
    """End it, with its lease.

    Args:
        result: what came of it; None: nothing more than was said before.

    Raises:
        LeaseLost: it is not ours any more.
    """
    ended = {"status": status, "error": error, "finished_ms": now_ms(), "lease_owner": None, "lease_until_ms": None}
    with engine.begin() as connection:
        ended |= _counts_at_the_end(claimed.job_id)
        _fence(connection, claimed, ended if result is None else {**ended, "result": dict(result)})


def let_go(engine: Engine, claimed: Job) -> None:
    """Give the lease back, if we have it, so that whoever comes next need not wait."""
    here = and_(jobs.c.job_id == claimed.job_id, jobs.c.lease_owner == claimed.lease_owner)
    with engine.begin() as connection:
        _update(connection, here, {"lease_owner": None, "lease_until_ms": None})


def changes_after(engine: Engine, job_id: str, log_id: str, *, limit: int) -> dict[str, TagChange]:
    """What was done to the next logs, by log_id and in its order."""
    here = and_(job_changes.c.job_id == job_id, job_changes.c.log_id > log_id)
    rows = select(job_changes).where(here).order_by(job_changes.c.log_id).limit(limit)
    with engine.connect() as connection:
        return {row.log_id: _tag_change(row) for row in connection.execute(rows)}


def count_undone(engine: Engine, job: Job) -> int:
    """How many of its changes of rules' tags are taken back by now."""
    if job.status == "undone":
        return job.changed
    if job.status != "undoing" or not job.place:
        return 0
    here = and_(job_changes.c.job_id == job.job_id, job_changes.c.log_id <= job.place[0])
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(job_changes).where(here)).scalar_one()


def count_edits_undone(engine: Engine, job: Job) -> int:
    """How many logs have its edits taken back by now."""
    if job.status == "undone":
        return job.changed
    return count_edited(engine, job.job_id, upto_seq=job.place[0]) if job.status == "undoing" and job.place else 0


def pace(job: Job) -> tuple[float | None, float | None]:
    """How many logs a second it has seen since it was asked for, and how many seconds are left."""
    elapsed_s = ((job.finished_ms or now_ms()) - job.created_ms) / 1000
    per_s = job.seen / elapsed_s if job.status in ("running", "done") and elapsed_s > 0 else None
    left = max(0, job.total - job.seen)
    return per_s, left / per_s if job.status == "running" and per_s else None


def _step(engine: Engine, claimed: Job, values: Mapping[str, Any]) -> None:
    with engine.begin() as connection:
        _fence(connection, claimed, values)


def _fence(connection: Connection, claimed: Job, values: Mapping[str, Any]) -> None:
    """Change the job and renew its lease, if it is ours and goes on."""
    ours = and_(
        jobs.c.job_id == claimed.job_id,
        jobs.c.lease_owner == claimed.lease_owner,
        jobs.c.status == claimed.status,
    )
    if not _update(connection, ours, {"lease_until_ms": now_ms() + LEASE_MS, **values}):
        raise LeaseLost


def _update(connection: Connection, here: ColumnElement[bool], values: Mapping[str, Any]) -> bool:
    return connection.execute(update(jobs).where(here).values(**values)).rowcount == 1


def _counts_at_the_end(job_id: str) -> dict[str, Any]:
    """What was noted of logs is counted, too, where a job ends within a page, which `advance` counts at its end."""
    noted = select(func.count()).select_from(job_changes).where(job_changes.c.job_id == job_id).scalar_subquery()
    return {name: case((noted > counted, noted), else_=counted) for name, counted in _COUNTS.items()}


def _in(project: str, job_id: str, *statuses: Status) -> ColumnElement[bool]:
    return and_(jobs.c.project == project, jobs.c.job_id == job_id, jobs.c.status.in_(statuses))


def _find(connection: Connection, project: str, job_id: str) -> Job:
    here = (jobs.c.project == project, jobs.c.job_id == job_id)
    row = connection.execute(select(jobs).where(*here)).one_or_none()
    if row is None:
        raise NotFound("there is no such job")
    return _job(row)


def _known(connection: Connection, job_id: str, log_ids: Sequence[str]) -> dict[str, TagChange]:
    here = and_(job_changes.c.job_id == job_id, job_changes.c.log_id.in_(log_ids))
    return {row.log_id: _tag_change(row) for row in connection.execute(select(job_changes).where(here))}


def _change(job_id: str, log_id: str) -> ColumnElement[bool]:
    return and_(job_changes.c.job_id == job_id, job_changes.c.log_id == log_id)


def _change_row(job_id: str, log_id: str, change: TagChange) -> dict[str, Any]:
    pairs = {name: [[tag.tag, tag.by] for tag in getattr(change, name)] for name in ("added", "taken")}
    return {"job_id": job_id, "log_id": log_id, **pairs}


def _tag_change(row: Row[Any]) -> TagChange:
    return TagChange(*(tuple(Tag(*pair) for pair in pairs) for pairs in (row.added, row.taken)))


def _job(row: Row[Any]) -> Job:
    return msgspec.convert({name: row._mapping[name] for name in Job.__struct_fields__}, Job)
