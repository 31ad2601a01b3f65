"""Who may work on which run: a lease in the `runs` table and a fencing token (`attempt`) that every write must show.

    queued -> preparing -> running -> evaluating -> succeeded | rejected | failed | cancelled

Every change of state is one transaction, in which `registry.run_log` tells it. A trainer that dies lets its lease end; the
next one takes the run over with a higher token, and whatever the dead one still writes is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, RowMapping, insert, or_, select, update

from tunemill.registry import model_aliases
from tunemill.registry.conflicts import insert_into
from tunemill.registry.run_log import tell
from tunemill.registry.tables import now_ms, redactions, run_events, runs, versions
from tunemill.schemas.records import ENDED
from tunemill.telemetry.metrics import RUNS
from tunemill.trainer.errors import InvalidRecipe, LeaseLost, OutOfMemory, TrainerError
from tunemill.trainer.identity import Identity
from tunemill.trainer.recipe import Recipe, VersionRows, resolve

QUEUED = "queued"
_BY = "trainer"
ACTIVE = ("preparing", "running", "evaluating")
MAX_FAILURES = 3  # a run that killed three workers will kill the fourth


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that is ours while the lease is renewed."""

    run_id: str
    attempt: int  # the fencing token
    owner: str
    project: str
    name: str
    version: int
    digest: str
    manifest_url: str
    recipe: Recipe
    failures: int  # workers that died over it
    sources_url: str = ""
    revision: int | None = None  # of the version; None: the registry has none with this digest
    squeeze: int = 0  # of those, how many for want of memory
    identity: Identity | None = None  # what it was ordered with; None: an earlier release took the order


def claim_next(engine: Engine, owner: str, *, lease_ms: int) -> Claim | None:
    """Take the oldest run of the highest priority that waits, or whose trainer let its lease end; None when there is nothing to do.

    A waiting run that somebody cancelled is ended here, as is one that has used up its attempts, or whose recipe is no longer one.
    """
    while (row := _next_row(engine)) is not None:
        claim = _try_claim(engine, row, owner, lease_ms)
        if claim is None:
            continue  # another trainer was faster, or the run has ended: look again
        return claim
    return None


def renew(engine: Engine, claim: Claim, *, lease_ms: int) -> bool:
    """Keep the lease for another `lease_ms`; says whether somebody asked to cancel the run.

    Raises:
        LeaseLost: another trainer has it.
    """
    with engine.begin() as connection:
        _fenced(connection, claim, {"lease_until_ms": now_ms() + lease_ms})
        asked = connection.execute(select(runs.c.cancel_requested_ms).where(runs.c.run_id == claim.run_id)).scalar_one()
    return asked is not None


def started_by(engine: Engine, claim: Claim, job: str) -> None:
    """Keep what works on the run, and as which job, for a person who looks for it there.

    Raises:
        LeaseLost: another trainer has it.
    """
    with engine.begin() as connection:
        _fenced(connection, claim, {"launcher": job})


def move(
    engine: Engine, claim: Claim, status: str, message: str, *, data: Mapping[str, Any] | None = None, **columns: Any
) -> None:
    """Change the run's state, tell it in its events and on `runs.status`: one transaction. One that succeeds is the `candidate`.

    Raises:
        LeaseLost: another trainer has it; nothing was written.
    """
    if status in ENDED:
        columns |= {"finished_ms": now_ms(), "lease_owner": None, "lease_until_ms": None}
    with engine.begin() as connection:
        _fenced(connection, claim, {"status": status, **columns})
        if status == "succeeded":
            model_aliases.put(connection, claim.project, claim.name, model_aliases.CANDIDATE, claim.run_id, by=_BY)
        tell(connection, claim.run_id, message, data=data)
    _count(status)


def release(engine: Engine, claim: Claim, message: str) -> None:
    """Put the run back in the queue, with nobody's failure: its checkpoint waits for the next trainer."""
    move(engine, claim, QUEUED, message, lease_owner=None, lease_until_ms=None)


def fail_attempt(engine: Engine, claim: Claim, error: TrainerError) -> str:
    """End the run, or put it back in the queue when another attempt may help. Says which: failed or queued."""
    failures = claim.failures + 1
    again = error.retryable and failures < MAX_FAILURES
    squeeze = claim.squeeze + (error.code == OutOfMemory.code)
    described = {**describe_error(error), "failures": failures, **({OutOfMemory.code: squeeze} if squeeze else {})}
    status = QUEUED if again else "failed"
    message = f"attempt {claim.attempt} failed: {error.message}" + ("; it is tried again" if again else "")
    move(engine, claim, status, message, data=described, error=described, lease_owner=None, lease_until_ms=None)
    return status


def note(engine: Engine, claim: Claim, entries: list[dict[str, Any]], progress: Mapping[str, Any] | None) -> None:
    """Copy what the worker said into the run's events and its progress; the state stays.

    Args:
        entries: each with `level`, `type`, `message`, `data` and `ts_ms`.
    """
    with engine.begin() as connection:
        seq = _fenced(connection, claim, {"progress": progress} if progress else {}, events=len(entries))
        if entries:
            first = seq - len(entries) + 1
            rows = [{**entry, "run_id": claim.run_id, "seq": first + i} for i, entry in enumerate(entries)]
            connection.execute(insert(run_events), rows)


def untold(engine: Engine, claim: Claim, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the entries that are not among the run's events."""
    known = select(run_events.c.ts_ms, run_events.c.message).where(run_events.c.run_id == claim.run_id)
    with engine.connect() as connection:
        told = {(row.ts_ms, row.message) for row in connection.execute(known)}
    return [entry for entry in entries if (entry["ts_ms"], entry["message"]) not in told]


def is_redacted(engine: Engine, claim: Claim) -> bool:
    """Whether rows that the run is trained on, or is measured by, were erased since it was asked for."""
    named = [rows.digest for rows in (claim.recipe.replay, claim.recipe.retention) if isinstance(rows, VersionRows)]
    replaced = (redactions.c.project == claim.project, redactions.c.replaces_digest.in_([claim.digest, *named]))
    with engine.connect() as connection:
        return connection.execute(select(redactions.c.redaction_id).where(*replaced).limit(1)).first() is not None


def describe_error(error: TrainerError) -> dict[str, Any]:
    """An error as the registry keeps it."""
    return {"code": error.code, "message": error.message, "remedy": error.remedy}


def insert_run(engine: Engine, values: Mapping[str, Any], message: str) -> bool:
    """Add a run under its `run_key` unless one is there; says whether it was added. Works alike on SQLite and PostgreSQL."""
    with engine.begin() as connection:
        unless_there = insert_into(connection, runs).values(**values).on_conflict_do_nothing(index_elements=["run_key"])
        # PostgreSQL's driver does not tell how many rows there were.
        added = connection.execute(unless_there.returning(runs.c.run_id)).first() is not None
        if added:
            tell(connection, values["run_id"], message, data=values.get("error"))
    if added:
        _count(values["status"])
    return added


def _next_row(engine: Engine) -> RowMapping | None:
    abandoned = runs.c.status.in_(ACTIVE) & (runs.c.lease_until_ms < now_ms())
    waiting = or_(runs.c.status == QUEUED, abandoned)
    order = (runs.c.priority.desc(), runs.c.created_ms, runs.c.run_id)
    with engine.connect() as connection:
        return connection.execute(select(runs).where(waiting).order_by(*order).limit(1)).mappings().first()


def _try_claim(engine: Engine, row: RowMapping, owner: str, lease_ms: int) -> Claim | None:
    """Compare and set: only the trainer that finds the row as it was read gets it."""
    was_abandoned = row["status"] in ACTIVE
    failures = int((row["error"] or {}).get("failures", 0)) + was_abandoned
    attempt = row["attempt"] + 1
    recipe, ending = _recipe_or_end(row, failures)
    values: dict[str, Any] = {"attempt": attempt}
    if ending:
        values |= {**ending, "finished_ms": now_ms(), "lease_owner": None, "lease_until_ms": None}
    else:
        values |= {"status": "preparing", "lease_owner": owner, "lease_until_ms": now_ms() + lease_ms}
        values |= {"started_ms": row["started_ms"] or now_ms()}
        values |= {"error": {**(row["error"] or {}), "failures": failures} if failures else None}
    seen = (runs.c.run_id == row["run_id"], runs.c.attempt == row["attempt"], runs.c.status == row["status"])
    with engine.begin() as connection:
        if connection.execute(update(runs).where(*seen).values(**values)).rowcount != 1:
            return None
        text = f"attempt {attempt} starts" if not ending else f"the run is {ending['status']}"
        if was_abandoned:
            text += "; its trainer had gone silent"
        tell(connection, row["run_id"], text, data=values.get("error") if ending else None)
        revision = _revision(connection, row)
    if recipe is None:
        _count(ending["status"])
        return None
    return _claim(row, recipe, owner, attempt, failures, revision=revision)


def _recipe_or_end(row: RowMapping, failures: int) -> tuple[Recipe | None, dict[str, Any]]:
    """What the run is trained by; or None, and the columns of its end where no worker is to be started."""
    if row["cancel_requested_ms"] is not None:
        return None, {"status": "cancelled"}
    if failures >= MAX_FAILURES:
        remedy = "look at the worker's memory and its log in the work folder"
        message = f"{failures} attempts ended without a result"
        error = {"code": "worker_died", "message": message, "remedy": remedy, "failures": failures}
        return None, {"status": "failed", "error": error}
    try:
        return resolve(row["recipe"]), {}
    except InvalidRecipe as error:  # an earlier release took it
        return None, {"status": "failed", "error": describe_error(error)}


def _revision(connection: Connection, row: RowMapping) -> int | None:
    """Which revision of its version the run is on: the files that its digest names."""
    same = [versions.c[name] == row[name] for name in ("project", "name", "version", "digest")]
    return connection.execute(select(versions.c.revision).where(*same)).scalar_one_or_none()


def _claim(row: RowMapping, recipe: Recipe, owner: str, attempt: int, failures: int, *, revision: int | None) -> Claim:
    return Claim(
        run_id=row["run_id"],
        attempt=attempt,
        owner=owner,
        project=row["project"],
        name=row["name"],
        version=row["version"],
        digest=row["digest"],
        manifest_url=row["manifest_url"],
        recipe=recipe,
        failures=failures,
        sources_url=row["sources_url"],
        revision=revision,
        squeeze=int((row["error"] or {}).get(OutOfMemory.code, 0)),
        identity=None if row["identity"] is None else msgspec.convert(row["identity"], Identity),
    )


def _count(status: str) -> None:
    if status in ENDED:
        RUNS.labels(status).inc()


def _fenced(connection: Connection, claim: Claim, values: Mapping[str, Any], *, events: int = 0) -> int:
    """Update the run if the token still holds, with room for `events` event numbers; gives the last number."""
    ours = (runs.c.run_id == claim.run_id, runs.c.attempt == claim.attempt, runs.c.status.in_(ACTIVE))
    changed = update(runs).where(*ours).values(**values, event_seq=runs.c.event_seq + events)
    if connection.execute(changed).rowcount != 1:
        raise LeaseLost(
            f"run {claim.run_id}: attempt {claim.attempt} no longer holds it", "another trainer goes on with it"
        )
    return int(connection.execute(select(runs.c.event_seq).where(runs.c.run_id == claim.run_id)).scalar_one())
