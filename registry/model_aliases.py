"""Names of models in use: which run's result a dataset's `candidate`, `champion` or other name stands for. Only SQL."""

from sqlalchemy import Connection, and_, delete, insert

from tunemill.registry.tables import model_aliases, now_ms

CANDIDATE = "candidate"  # the run that succeeded last; nobody else sets it


def put(
    connection: Connection, project: str, name: str, alias: str, run_id: str, *, by: str, reason: str | None = None
) -> None:
    """Give a run's result a name within the caller's transaction; the run that had it has it no more.

    Args:
        name: the dataset.
        reason: why a person set it against a gate.
    """
    here = and_(model_aliases.c.project == project, model_aliases.c.name == name, model_aliases.c.alias == alias)
    connection.execute(delete(model_aliases).where(here))
    line = {"project": project, "name": name, "alias": alias, "run_id": run_id, "by": by, "reason": reason}
    connection.execute(insert(model_aliases).values(**line, updated_ms=now_ms()))
