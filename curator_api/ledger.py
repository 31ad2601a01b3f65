"""Which logs people had erased, with an audit line for each, and of which answers and traces nothing may be said any more. Ids only.

An erasure takes what people did to the log along, and its next number: the last row of `edits` is then one of kind `erase`. Whoever
records an edit reads the log's numbers first and its erasure after: they see the erasure, or find their number taken.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, delete, func, insert, null, select, update
from sqlalchemy.exc import IntegrityError

from tunemill.registry import audit_trail, outbox
from tunemill.registry.tables import datasets, edits, erasures, now_ms, row_edits
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import Erasure
from tunemill.schemas.topics import ERASURES

_IDS_AT_ONCE = 500  # in one statement: SQLite takes no more than some thousand values


def erase(engine: Engine, project: str, log_id: str, *, by: str) -> str:
    """Have a log forgotten, and give the erasure's id; asking again gives the same one."""
    return erase_page(engine, project, [log_id], by=by)[log_id]


def erase_page(engine: Engine, project: str, log_ids: Sequence[str], *, by: str) -> dict[str, str]:
    """Have these logs forgotten, at most some hundred, and give the erasures' ids; those of logs that were erased before, too.

    One transaction: the ledger's rows, the events for everyone, and the removal of what people wrote in the logs' place.
    """
    while True:
        try:
            with engine.begin() as connection:
                erase_many(connection, project, log_ids, by=by)
                return _erasure_ids(connection, project, log_ids)
        except IntegrityError:  # somebody else erased or edited one between our look and our insert
            continue


def erase_many(connection: Connection, project: str, log_ids: Sequence[str], *, by: str) -> set[str]:
    """Likewise within the caller's transaction; those that were not erased before.

    Raises:
        IntegrityError: somebody else erased or edited one of them meanwhile; the whole transaction can be done again.
    """
    # Whoever edits a row of a log holds its dataset's row: their edit is there before we look, or finds the erasure.
    here = select(datasets.c.name).where(datasets.c.project == project).order_by(datasets.c.name)
    connection.execute(here.with_for_update())
    known = erased_in(connection, project, log_ids)
    fresh = sorted(set(log_ids) - known)
    if not fresh:
        return set()
    events = _enter(connection, project, fresh, by)
    for start in range(0, len(fresh), _IDS_AT_ONCE):
        some = fresh[start : start + _IDS_AT_ONCE]
        connection.execute(delete(row_edits).where(row_edits.c.project == project, row_edits.c.row_key.in_(some)))
        _close_edits(connection, project, some, by, events[0].ts_ms)
    _tell(connection, events)
    audit_trail.append(connection, project, "log.erase", *fresh, by=by)
    return set(fresh)


def erase_said(engine: Engine, project: str, about: Sequence[str], *, by: str) -> None:
    """Have what is said about these answers and traces forgotten, as `schemas.about` spells them; asking again changes nothing."""
    while True:
        try:
            with engine.begin() as connection:
                fresh = sorted(set(about) - erased_in(connection, project, about))
                _tell(connection, _enter(connection, project, fresh, by))
            return
        except IntegrityError:  # somebody else did so meanwhile
            continue


def keep_out(engine: Engine, project: str, row_keys: Sequence[str], *, by: str) -> None:
    """Imported rows that said what an erased log said: who publishes them just now is refused, and who imports them again finds
    them left out."""
    while True:
        try:
            with engine.begin() as connection:
                keep_many_out(connection, project, row_keys, by=by)
            return
        except IntegrityError:  # somebody else did so meanwhile
            continue


def keep_many_out(connection: Connection, project: str, row_keys: Sequence[str], *, by: str) -> None:
    """Likewise within the caller's transaction.

    Raises:
        IntegrityError: somebody else did so meanwhile; the whole transaction can be done again.
    """
    _enter(connection, project, sorted(set(row_keys) - erased_in(connection, project, row_keys)), by)


def is_erased(engine: Engine, project: str, log_id: str) -> bool:
    """Whether somebody had this log forgotten."""
    return bool(erased_among(engine, project, [log_id]))


def erased_among(engine: Engine, project: str, log_ids: Sequence[str]) -> set[str]:
    """Those of these logs that somebody had forgotten."""
    with engine.connect() as connection:
        return erased_in(connection, project, log_ids)


def erased_in(connection: Connection, project: str, log_ids: Sequence[str]) -> set[str]:
    """Likewise within the caller's transaction."""
    return set(_erasure_ids(connection, project, log_ids))


def _enter(connection: Connection, project: str, names: Sequence[str], by: str) -> list[Erasure]:
    """Put names into the ledger that it does not have; the event of each."""
    now = now_ms()
    events = [Erasure(erasure_id=new_id(), ts_ms=now, log_id=name, project=project) for name in names]
    rows = [
        {"erasure_id": one.erasure_id, "project": project, "log_id": one.log_id, "by": by, "ts_ms": now}
        for one in events
    ]
    if rows:
        connection.execute(insert(erasures), rows)
    return events


def _tell(connection: Connection, events: Sequence[Erasure]) -> None:
    for event in events:
        outbox.append(connection, ERASURES, event, event_id=event.erasure_id)


def _erasure_ids(connection: Connection, project: str, log_ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(log_ids), _IDS_AT_ONCE):
        some = erasures.c.log_id.in_(log_ids[start : start + _IDS_AT_ONCE])
        wanted = select(erasures.c.log_id, erasures.c.erasure_id).where(erasures.c.project == project, some)
        found.update((log_id, erasure_id) for log_id, erasure_id in connection.execute(wanted))
    return found


def _close_edits(connection: Connection, project: str, log_ids: Sequence[str], by: str, now: int) -> None:
    """Forget what people did to these logs, whose text it may hold, and let nobody do anything more to them.

    Numbers stay taken: whoever looked before, and is about to record under one of them, finds that out and looks again.
    """
    theirs = (edits.c.project == project, edits.c.log_id.in_(log_ids))
    newest = select(edits.c.log_id, func.max(edits.c.revision)).where(*theirs).group_by(edits.c.log_id)
    last: dict[str, int] = {}
    last.update((log_id, revision) for log_id, revision in connection.execute(newest))
    said = {"kind": "erase", "by": by, "ts_ms": now, "applied_ms": now}
    nothing = {"tag": null(), "value": null(), "why": null(), "job_id": null()}
    connection.execute(update(edits).where(*theirs).values(**said, **nothing))
    rows = [{**said, "project": project, "log_id": log_id, "revision": last.get(log_id, 0) + 1} for log_id in log_ids]
    connection.execute(insert(edits), rows)
