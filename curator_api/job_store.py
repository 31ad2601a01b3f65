"""Backfills in the registry: who works on which, how far it is, and what it did to which log.

    running -> done | failed | cancelled        done | failed | cancelled -> undoing -> undone | failed | cancelled

One backfill of a project is worked on at a time, the oldest first, by whoever holds its lease. Whoever lost it, or was told to
stop, learns so from `LeaseLost` at the next step. What is done to a log is a row before it is done.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, func, insert, or_, select, update

from tunemill.curator_api.errors import Finished, NotFound, UnderWay
from tunemill.curator_api.tag_changes import TagChange, then
from tunemill.registry.tables import audit, job_changes, jobs, now_ms
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import Tag

LEASE_MS = 30_000  # how long a backfill lies idle after its process was killed

Status = Literal["running", "done", "failed", "cancelled", "undoing", "undone"]
ACTIVE: tuple[Status, ...] = ("running", "undoing")

Pairs = tuple[tuple[str, str], ...]


class LeaseLost(Exception):
    """The backfill is no longer ours: cancelled, or taken over after our lease ended."""


class Backfill(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one revision applied to the logs that match a query."""

    backfill_id: str
    query: str
    revision: int
    status: Status
    total: int
    seen: int
    changed: int
    place: list[Any] | None  # where it is: [ts_ms, log_id], for an undo [log_id]
    lease_owner: str | None
    error: dict[str, str] | None
    by: str
    created_ms: int
    finished_ms: int | None


def start(engine: Engine, project: str, *, query: str, revision: int, total: int, by: str) -> Backfill:
    """Have a backfill done, by this process or another."""
    values = {
        "job_id": new_id(),
        "project": project,
        "kind": "rules",
        "query": query,
        "revision": revision,
        "status": "running",
        "total": total,
        "seen": 0,
        "changed": 0,
        "by": by,
        "created_ms": now_ms(),
    }
    with engine.begin() as connection:
        connection.execute(insert(jobs).values(values))
        _audit(connection, project, str(values["job_id"]), "start", by)
    return find(engine, project, str(values["job_id"]))


def find(engine: Engine, project: str, backfill_id: str) -> Backfill:
    """The backfill with this id.

    Raises:
        NotFound: there is none.
    """
    with engine.connect() as connection:
        return _find(connection, project, backfill_id)


def find_all(engine: Engine, project: str, *, limit: int) -> list[Backfill]:
    """The newest backfills, newest first."""
    newest = select(jobs).where(jobs.c.project == project).order_by(jobs.c.job_id.desc())
    with engine.connect() as connection:
        return [_backfill(row) for row in connection.execute(newest.limit(limit))]


def cancel(engine: Engine, project: str, backfill_id: str, *, by: str) -> Backfill:
    """Stop a backfill, or its undoing, where it is. What it did so far stays, and can be undone.

    Raises:
        NotFound: there is no such backfill.
        Finished: it is over.
    """
    values = {"status": "cancelled", "finished_ms": now_ms()}  # the lease stays with whoever is writing just now
    with engine.begin() as connection:
        if not _update(connection, _in(project, backfill_id, *ACTIVE), values):
            found = _find(connection, project, backfill_id)
            raise Finished(f"the backfill is {found.status}")
        _audit(connection, project, backfill_id, "cancel", by)
        return _find(connection, project, backfill_id)


def undo(engine: Engine, project: str, backfill_id: str, *, by: str) -> Backfill:
    """Have everything taken back that a backfill did, where nobody changed it since.

    Raises:
        NotFound: there is no such backfill.
        Finished: it is undone.
        UnderWay: it is still running.
    """
    values = {"status": "undoing", "place": None, "finished_ms": None, "error": None}
    with engine.begin() as connection:
        if not _update(connection, _in(project, backfill_id, "done", "failed", "cancelled"), values):
            found = _find(connection, project, backfill_id)
            if found.status == "running":
                raise UnderWay("the backfill is running: cancel it first")
            raise Finished(f"the backfill is {found.status}")
        _audit(connection, project, backfill_id, "undo", by)
        return _find(connection, project, backfill_id)


def claim(engine: Engine, project: str, owner: str) -> Backfill | None:
    """Take the oldest backfill that is not finished; None when there is none, or somebody else is at work."""
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
        return _backfill(connection.execute(select(jobs).where(here)).one())


def renew(engine: Engine, claimed: Backfill) -> None:
    """Keep the lease for a while.

    Raises:
        LeaseLost: it is not ours any more.
    """
    _step(engine, claimed, {})


def note_changes(engine: Engine, claimed: Backfill, changes: Mapping[str, TagChange]) -> None:
    """Write down what is about to be done to these logs, by log_id. What was noted before about one is not lost.

    Raises:
        LeaseLost: it is not ours any more; nothing is noted, and nothing may be done.
    """
    with engine.begin() as connection:
        known = _known(connection, claimed.backfill_id, list(changes))
        fresh = [log_id for log_id in changes if log_id not in known]
        _fence(connection, claimed, {"changed": jobs.c.changed + len(fresh)})
        if fresh:
            rows = [_change_row(claimed.backfill_id, log_id, changes[log_id]) for log_id in fresh]
            connection.execute(insert(job_changes), rows)
        for log_id, before in known.items():
            row = _change_row(claimed.backfill_id, log_id, then(before, changes[log_id]))
            here = _change(claimed.backfill_id, log_id)
            connection.execute(update(job_changes).where(here).values(added=row["added"], taken=row["taken"]))


def advance(engine: Engine, claimed: Backfill, place: Sequence[Any], *, seen: int) -> None:
    """Everything up to this place is done.

    Args:
        seen: how many logs that were more.

    Raises:
        LeaseLost: it is not ours any more.
    """
    _step(engine, claimed, {"place": list(place), "seen": jobs.c.seen + seen})


def finish(engine: Engine, claimed: Backfill, status: Status, *, error: Mapping[str, str] | None = None) -> None:
    """End it, with its lease.

    Raises:
        LeaseLost: it is not ours any more.
    """
    ended = {"status": status, "error": error, "finished_ms": now_ms(), "lease_owner": None, "lease_until_ms": None}
    with engine.begin() as connection:
        _fence(connection, claimed, ended)


def let_go(engine: Engine, claimed: Backfill) -> None:
    """Give the lease back, if we have it, so that whoever comes next need not wait."""
    here = and_(jobs.c.job_id == claimed.backfill_id, jobs.c.lease_owner == claimed.lease_owner)
    with engine.begin() as connection:
        _update(connection, here, {"lease_owner": None, "lease_until_ms": None})


def changes_after(engine: Engine, backfill_id: str, log_id: str, *, limit: int) -> dict[str, TagChange]:
    """What was done to the next logs, by log_id and in its order."""
    here = and_(job_changes.c.job_id == backfill_id, job_changes.c.log_id > log_id)
    rows = select(job_changes).where(here).order_by(job_changes.c.log_id).limit(limit)
    with engine.connect() as connection:
        return {row.log_id: _tag_change(row) for row in connection.execute(rows)}


def count_undone(engine: Engine, backfill: Backfill) -> int:
    """How many of its changes are taken back by now."""
    if backfill.status == "undone":
        return backfill.changed
    if backfill.status != "undoing" or not backfill.place:
        return 0
    here = and_(job_changes.c.job_id == backfill.backfill_id, job_changes.c.log_id <= backfill.place[0])
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(job_changes).where(here)).scalar_one()


def _step(engine: Engine, claimed: Backfill, values: Mapping[str, Any]) -> None:
    with engine.begin() as connection:
        _fence(connection, claimed, values)


def _fence(connection: Connection, claimed: Backfill, values: Mapping[str, Any]) -> None:
    """Change the backfill and renew its lease, if it is ours and goes on."""
    ours = and_(
        jobs.c.job_id == claimed.backfill_id,
        jobs.c.lease_owner == claimed.lease_owner,
        jobs.c.status == claimed.status,
    )
    if not _update(connection, ours, {"lease_until_ms": now_ms() + LEASE_MS, **values}):
        raise LeaseLost


def _update(connection: Connection, here: ColumnElement[bool], values: Mapping[str, Any]) -> bool:
    return connection.execute(update(jobs).where(here).values(**values)).rowcount == 1


def _in(project: str, backfill_id: str, *statuses: Status) -> ColumnElement[bool]:
    return and_(jobs.c.project == project, jobs.c.job_id == backfill_id, jobs.c.status.in_(statuses))


def _find(connection: Connection, project: str, backfill_id: str) -> Backfill:
    here = (jobs.c.project == project, jobs.c.job_id == backfill_id)
    row = connection.execute(select(jobs).where(*here)).one_or_none()
    if row is None:
        raise NotFound("there is no such backfill")
    return _backfill(row)


def _known(connection: Connection, backfill_id: str, log_ids: Sequence[str]) -> dict[str, TagChange]:
    here = and_(job_changes.c.job_id == backfill_id, job_changes.c.log_id.in_(log_ids))
    return {row.log_id: _tag_change(row) for row in connection.execute(select(job_changes).where(here))}


def _change(backfill_id: str, log_id: str) -> ColumnElement[bool]:
    return and_(job_changes.c.job_id == backfill_id, job_changes.c.log_id == log_id)


def _change_row(backfill_id: str, log_id: str, change: TagChange) -> dict[str, Any]:
    pairs = {name: [[tag.tag, tag.by] for tag in getattr(change, name)] for name in ("added", "taken")}
    return {"job_id": backfill_id, "log_id": log_id, **pairs}


def _tag_change(row: Row[Any]) -> TagChange:
    return TagChange(*(tuple(Tag(*pair) for pair in pairs) for pairs in (row.added, row.taken)))


def _audit(connection: Connection, project: str, backfill_id: str, action: str, by: str) -> None:
    values = {"ts_ms": now_ms(), "project": project, "by": by, "action": f"backfill.{action}", "target": backfill_id}
    connection.execute(insert(audit).values(**values))


def _backfill(row: Row[Any]) -> Backfill:
    values = {**row._mapping, "backfill_id": row.job_id}
    return msgspec.convert({name: values[name] for name in Backfill.__struct_fields__}, Backfill)
