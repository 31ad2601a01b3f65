"""Training runs as the registry holds them. The trainer writes them; a person reads them and may ask one to stop."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, insert, or_, select, update

from tunemill.curator_api.errors import Finished, NotFound
from tunemill.registry.tables import audit, now_ms, run_events, runs

OVER = frozenset({"succeeded", "rejected", "failed", "cancelled"})

Values = Mapping[str, Any]  # by column of the table


def find_runs(engine: Engine, project: str, *, limit: int, after: tuple[int, str] | None) -> Sequence[Values]:
    """Runs, the newest first, that come after this (created_ms, run_id)."""
    wanted: list[ColumnElement[bool]] = [runs.c.project == project]
    if after is not None:
        created_ms, run_id = after
        same_time = and_(runs.c.created_ms == created_ms, runs.c.run_id < run_id)
        wanted.append(or_(runs.c.created_ms < created_ms, same_time))
    newest_first = (runs.c.created_ms.desc(), runs.c.run_id.desc())
    with engine.connect() as connection:
        found = connection.execute(select(runs).where(*wanted).order_by(*newest_first).limit(limit))
        return [dict(row) for row in found.mappings()]


def find_run(engine: Engine, project: str, run_id: str) -> Values:
    """One run.

    Raises:
        NotFound: there is no such run.
    """
    with engine.connect() as connection:
        here = and_(runs.c.project == project, runs.c.run_id == run_id)
        row = connection.execute(select(runs).where(here)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such run")
    return dict(row)


def find_events(engine: Engine, run_id: str, *, limit: int, after_seq: int) -> Sequence[Values]:
    """A run's events after this one, in order."""
    wanted = and_(run_events.c.run_id == run_id, run_events.c.seq > after_seq)
    with engine.connect() as connection:
        ordered = select(run_events).where(wanted).order_by(run_events.c.seq).limit(limit)
        return [dict(row) for row in connection.execute(ordered).mappings()]


def request_cancel(engine: Engine, project: str, run_id: str, *, by: str) -> Values:
    """Ask for a run to be stopped; the trainer does it at its next step. Asking again changes nothing.

    Raises:
        NotFound: there is no such run.
        Finished: it is over.
    """
    here = and_(runs.c.project == project, runs.c.run_id == run_id)
    going = and_(here, runs.c.status.not_in(OVER), runs.c.cancel_requested_ms.is_(None))
    now = now_ms()
    with engine.begin() as connection:
        if connection.execute(update(runs).where(going).values(cancel_requested_ms=now)).rowcount:
            connection.execute(
                insert(audit).values(ts_ms=now, project=project, by=by, action="run.cancel", target=run_id)
            )
    run = find_run(engine, project, run_id)
    if run["status"] in OVER:
        raise Finished(f"the run is over: {run['status']}")
    return run
