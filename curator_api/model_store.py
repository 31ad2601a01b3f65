"""What a dataset's runs left, and the names in use, in the registry."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Engine, select

from tunemill.curator_api.errors import GateNotPassed, NoModel, NotFound
from tunemill.curator_api.run_store import Values
from tunemill.registry import audit_trail
from tunemill.registry import model_aliases as names
from tunemill.registry.tables import model_aliases, runs

WITH_MODEL = ("succeeded", "rejected")
MODELS_SHOWN = 100


class ModelAlias(msgspec.Struct, frozen=True, kw_only=True):
    """A name and the run whose result it stands for."""

    alias: str
    run_id: str
    by: str
    reason: str | None
    updated_ms: int


def find_aliases(engine: Engine, project: str, name: str) -> list[ModelAlias]:
    """The names in use of a dataset's models."""
    here = (model_aliases.c.project == project, model_aliases.c.name == name)
    with engine.connect() as connection:
        rows = connection.execute(select(model_aliases).where(*here).order_by(model_aliases.c.alias))
        return [msgspec.convert(row, ModelAlias) for row in rows.mappings()]


def find_models(engine: Engine, project: str, name: str) -> Sequence[Values]:
    """The newest runs of a dataset that left a model, and those that have a name, however old."""
    here = (runs.c.project == project, runs.c.name == name, runs.c.artefact_url.is_not(None))
    newest_first = select(runs).where(*here, runs.c.status.in_(WITH_MODEL)).order_by(runs.c.finished_ms.desc())
    named = select(model_aliases.c.run_id).where(model_aliases.c.project == project, model_aliases.c.name == name)
    with engine.connect() as connection:
        found = connection.execute(newest_first.limit(MODELS_SHOWN)).mappings().all()
        known = [row["run_id"] for row in found]
        older = connection.execute(newest_first.where(runs.c.run_id.in_(named), runs.c.run_id.not_in(known)))
        return [dict(row) for row in (*found, *older.mappings())]


def names_of_runs(engine: Engine, project: str) -> dict[str, list[str]]:
    """By run, the names that its model has, whatever the dataset."""
    named = select(model_aliases.c.run_id, model_aliases.c.alias).where(model_aliases.c.project == project)
    found: dict[str, list[str]] = {}
    with engine.connect() as connection:
        for run_id, alias in connection.execute(named.order_by(model_aliases.c.alias)):
            found.setdefault(run_id, []).append(alias)
    return found


def promote(engine: Engine, project: str, run_id: str, alias: str, *, override: str | None, by: str) -> None:
    """Give a run's result a name, which it takes from the run that has it.

    Raises:
        NotFound: there is no such run.
        NoModel: the run left nothing that could be used.
        GateNotPassed: a gate rejected it, and no reason is given why it is used all the same.
    """
    with engine.begin() as connection:
        run = _run(connection, project, run_id)
        if run["status"] not in WITH_MODEL:
            raise NoModel(f"the run left no model: it is {run['status']}", status_of_run=run["status"])
        rejected = run["status"] == "rejected"
        if rejected and override is None:
            raise GateNotPassed(
                "a gate rejected the result: read why, or give `override` a reason to use it all the same"
            )
        reason = override if rejected else None
        names.put(connection, project, run["name"], alias, run_id, by=by, reason=reason)
        target = f"{run['name']}/{alias} -> {run_id}"
        data = {"override": reason} if reason else None
        audit_trail.append(connection, project, "model.promote", target, by=by, data=data)


def _run(connection: Connection, project: str, run_id: str) -> Values:
    here = select(runs).where(runs.c.project == project, runs.c.run_id == run_id).with_for_update()
    row = connection.execute(here).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such run")
    return dict(row)
