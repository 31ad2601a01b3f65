"""Names of models in use: which run's result a dataset's `candidate`, `champion` or other name stands for. Only SQL."""

from sqlalchemy import Connection

from tunemill.registry import conflicts
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
    of = {"project": project, "name": name, "alias": alias}
    now = {"run_id": run_id, "by": by, "reason": reason, "updated_ms": now_ms()}
    conflicts.put(connection, model_aliases, of, now)
