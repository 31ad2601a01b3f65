"""What people did to logs: tags they set, logs they had erased. In the registry, with an audit line for each act; ids only."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from tunemill.registry import outbox
from tunemill.registry.tables import audit, datasets, edits, erasures, now_ms, row_edits
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import Erasure
from tunemill.schemas.topics import ERASURES

_IDS_AT_ONCE = 500  # in one statement: SQLite takes no more than some thousand values


def record_tags(engine: Engine, project: str, acts: Iterable[tuple[str, str, str]], *, by: str) -> None:
    """Remember which tags a person added and removed: log_id, `tag` or `untag`, and the tag."""
    now = now_ms()
    rows = [
        {"project": project, "log_id": log_id, "kind": kind, "tag": tag, "by": by, "ts_ms": now}
        for log_id, kind, tag in acts
    ]
    while rows:
        try:
            with engine.begin() as connection:
                connection.execute(insert(edits), _numbered(connection, project, rows))
            return
        except IntegrityError:  # somebody else took a number between our look and our insert
            continue


def _numbered(connection: Connection, project: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with its log's next revision."""
    last: dict[str, int] = {}
    log_ids = list(dict.fromkeys(row["log_id"] for row in rows))
    for start in range(0, len(log_ids), _IDS_AT_ONCE):
        some = edits.c.log_id.in_(log_ids[start : start + _IDS_AT_ONCE])
        newest = select(edits.c.log_id, func.max(edits.c.revision)).where(edits.c.project == project, some)
        last.update((log_id, number) for log_id, number in connection.execute(newest.group_by(edits.c.log_id)))
    numbered = []
    for row in rows:
        last[row["log_id"]] = last.get(row["log_id"], 0) + 1
        numbered.append({**row, "revision": last[row["log_id"]]})
    return numbered


def erase(engine: Engine, project: str, log_id: str, *, by: str) -> str:
    """Have a log forgotten, and give the erasure's id; asking again gives the same one.

    One transaction: the ledger's row, the event for everyone, and the removal of what people wrote in the log's place.
    """
    try:
        with engine.begin() as connection:
            return _erasure_id(connection, project, log_id) or _erase(connection, project, log_id, by)
    except IntegrityError:  # somebody else erased it between our look and our insert
        with engine.connect() as connection:
            found = _erasure_id(connection, project, log_id)
        if found is None:
            raise
        return found


def is_erased(engine: Engine, project: str, log_id: str) -> bool:
    """Whether somebody had this log forgotten."""
    with engine.connect() as connection:
        return _erasure_id(connection, project, log_id) is not None


def erased_among(engine: Engine, project: str, log_ids: Sequence[str]) -> set[str]:
    """Those of these logs that somebody had forgotten."""
    found: set[str] = set()
    with engine.connect() as connection:
        for start in range(0, len(log_ids), _IDS_AT_ONCE):
            some = erasures.c.log_id.in_(log_ids[start : start + _IDS_AT_ONCE])
            found.update(connection.scalars(select(erasures.c.log_id).where(erasures.c.project == project, some)))
    return found


def _erasure_id(connection: Connection, project: str, log_id: str) -> str | None:
    here = (erasures.c.project == project, erasures.c.log_id == log_id)
    return connection.execute(select(erasures.c.erasure_id).where(*here)).scalar_one_or_none()


def _erase(connection: Connection, project: str, log_id: str, by: str) -> str:
    # Whoever edits a row of the log holds its dataset's row: their edit is there before we look, or finds the erasure.
    here = (datasets.c.project == project,)
    connection.execute(select(datasets.c.name).where(*here).order_by(datasets.c.name).with_for_update())
    event = Erasure(erasure_id=new_id(), ts_ms=now_ms(), log_id=log_id, project=project)
    row = {"erasure_id": event.erasure_id, "project": project, "log_id": log_id, "by": by, "ts_ms": event.ts_ms}
    connection.execute(insert(erasures).values(row))
    connection.execute(delete(row_edits).where(row_edits.c.project == project, row_edits.c.row_key == log_id))
    outbox.append(connection, ERASURES, event, event_id=event.erasure_id)
    connection.execute(
        insert(audit).values(ts_ms=event.ts_ms, project=project, by=by, action="log.erase", target=log_id)
    )
    return event.erasure_id
