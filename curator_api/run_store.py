"""Training runs as the registry holds them. The trainer writes them; a person reads them and may ask one to stop."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, or_, select, update

from tunemill.curator_api.errors import Finished, NotFound, UnderWay, VersionRedacted
from tunemill.registry import audit_trail
from tunemill.registry.run_log import tell
from tunemill.registry.tables import now_ms, run_events, runs, versions
from tunemill.schemas.records import ENDED

RESUMABLE = ("failed", "cancelled")

Values = Mapping[str, Any]  # by column of the table


def find_runs(
    engine: Engine,
    project: str,
    *,
    limit: int,
    after: tuple[int, str] | None = None,
    name: str | None = None,
    status: str | None = None,
) -> Sequence[Values]:
    """Runs, the newest first, that come after this (created_ms, run_id); of one dataset, or of one status."""
    wanted: list[ColumnElement[bool]] = [runs.c.project == project]
    wanted += [column == value for column, value in ((runs.c.name, name), (runs.c.status, status)) if value is not None]
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
    going = and_(here, runs.c.status.not_in(ENDED), runs.c.cancel_requested_ms.is_(None))
    with engine.begin() as connection:
        if connection.execute(update(runs).where(going).values(cancel_requested_ms=now_ms())).rowcount:
            audit_trail.append(connection, project, "run.cancel", run_id, by=by)
    run = find_run(engine, project, run_id)
    if run["status"] in ENDED:
        raise Finished(f"the run is over: {run['status']}")
    return run


def resume(engine: Engine, project: str, run_id: str, *, by: str) -> Values:
    """Put a run that failed or was cancelled back into the queue; it goes on from its checkpoint where there is one.

    Raises:
        NotFound: there is no such run.
        UnderWay: it is not over.
        Finished: it came to its end, or no trainer ever took it on.
        VersionRedacted: the version's rows are not those that it was trained on any more.
    """
    here = and_(runs.c.project == project, runs.c.run_id == run_id)
    with engine.begin() as connection:
        run = connection.execute(select(runs).where(here).with_for_update()).mappings().one_or_none()
        if run is None:
            raise NotFound("there is no such run")
        _refuse_to_resume(connection, dict(run))
        fresh = {"status": "queued", "error": None, "cancel_requested_ms": None, "finished_ms": None}
        same = and_(here, runs.c.status == run["status"], runs.c.attempt == run["attempt"])
        if connection.execute(update(runs).where(same).values(fresh)).rowcount != 1:
            raise UnderWay("somebody else resumed the run in this moment")
        tell(connection, run_id, "the run waits again: a person asked for it", data=None)
        audit_trail.append(connection, project, "run.resume", run_id, by=by)
    return find_run(engine, project, run_id)


def _refuse_to_resume(connection: Connection, run: Values) -> None:
    if run["status"] not in ENDED:
        raise UnderWay(f"the run is not over: it is {run['status']}")
    if run["status"] not in RESUMABLE:
        raise Finished(f"the run came to its end: it {run['status']}; order another one with another seed")
    if run["attempt"] == 0:
        raise Finished("the run was refused before it began: order it again with what its error says put right")
    version = (
        versions.c.project == run["project"],
        versions.c.name == run["name"],
        versions.c.version == run["version"],
    )
    digest = connection.execute(select(versions.c.digest).where(*version)).scalar_one_or_none()
    if digest is not None and digest != run["digest"]:
        raise VersionRedacted("rows of the version were erased since: order a run on what it holds now")
