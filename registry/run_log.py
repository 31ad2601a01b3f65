"""What a run has come to, told in the transaction that makes it so.

It is told in the run's events and on `runs.status`; its end also on `runs.finished` and to webhooks.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from tunemill.registry import outbox
from tunemill.registry.announce import announce
from tunemill.registry.tables import now_ms, run_events, runs
from tunemill.schemas.records import ENDED, RunFinished, RunStatus
from tunemill.schemas.topics import RUNS_FINISHED, RUNS_STATUS

_LEVELS = {"failed": "error", "rejected": "warn", "cancelled": "warn"}
_SCORES = ("before", "after", "retention", "gates")  # of the result


def tell(connection: Connection, run_id: str, message: str, *, data: Mapping[str, Any] | None) -> None:
    """Tell the state that the caller's open transaction has left the run in, under the next number of its events.

    Args:
        data: what is to be known of this step; holds no text of rows.

    Raises:
        IntegrityError: this attempt has ended before.
    """
    connection.execute(update(runs).where(runs.c.run_id == run_id).values(event_seq=runs.c.event_seq + 1))
    row = connection.execute(select(runs).where(runs.c.run_id == run_id)).mappings().one()
    event = {
        "run_id": run_id,
        "seq": row["event_seq"],
        "ts_ms": now_ms(),
        "level": _LEVELS.get(row["status"], "info"),
        "type": "message",
        "message": message,
        "data": {"status": row["status"], **(data or {})},
    }
    connection.execute(insert(run_events).values(event))
    status = _status(row, data)
    outbox.append(connection, RUNS_STATUS, status, event_id=status.event_id)
    if row["status"] in ENDED:
        end = _end(row)
        announce(connection, row["project"], RUNS_FINISHED, end, event_id=end.event_id)


def _status(row: RowMapping, data: Mapping[str, Any] | None) -> RunStatus:
    return RunStatus(
        event_id=f"{row['run_id']}:{row['event_seq']}",
        ts_ms=now_ms(),
        attempt=row["attempt"],
        data=data,
        **_in_both(row),
    )


def _end(row: RowMapping) -> RunFinished:
    recipe, result = row["recipe"], row["result"] or {}
    return RunFinished(
        event_id=f"{row['run_id']}:finished:{row['attempt']}",
        ts_ms=now_ms(),
        method=str(recipe.get("method", "")),
        base=str(recipe.get("base", "")),
        artefact_url=row["artefact_url"] or "",
        manifest_sha256=result.get("manifest_sha256", ""),
        scores={name: result[name] for name in _SCORES if name in result} or None,
        **_in_both(row),
    )


def _in_both(row: RowMapping) -> dict[str, Any]:
    """What every event of a run says as its row does."""
    return {name: row[name] for name in ("run_id", "run_key", "status", "name", "version", "digest", "project")}
