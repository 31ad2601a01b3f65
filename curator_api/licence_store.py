"""The project's table of models in the registry: whether what each of them says may be trained on.

Every function blocks on SQL.
"""

from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Engine, Row, and_, delete, select

from tunemill.registry import audit_trail, conflicts
from tunemill.registry.tables import audit, model_licences, now_ms


class ModelLicence(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said of a model, or of all whose names begin alike."""

    model: str  # may end in *
    trainable: Literal["yes", "no"]
    note: str | None
    by: str
    updated_ms: int


def put(
    engine: Engine, project: str, model: str, trainable: Literal["yes", "no"], note: str | None, *, by: str
) -> ModelLicence:
    """Say of a model whether its output may be trained on, in place of what was said before, with an audit line."""
    said = ModelLicence(model=model, trainable=trainable, note=note, by=by, updated_ms=now_ms())
    with engine.begin() as connection:
        conflicts.put(connection, model_licences, {"project": project, "model": model}, msgspec.to_builtins(said))
        audit_trail.append(connection, project, "licence.put", model, by=by)
    return said


def find_all(engine: Engine, project: str) -> list[ModelLicence]:
    """The whole table, by model."""
    mine = select(model_licences).where(model_licences.c.project == project).order_by(model_licences.c.model)
    with engine.connect() as connection:
        return [_licence(row) for row in connection.execute(mine)]


def changed_since(engine: Engine, project: str, ms: int) -> bool:
    """Whether anything was said about a model, or taken back, at this time or later."""
    said = and_(audit.c.project == project, audit.c.action.in_(("licence.put", "licence.delete")), audit.c.ts_ms >= ms)
    with engine.connect() as connection:
        return connection.execute(select(audit.c.seq).where(said).limit(1)).first() is not None


def remove(engine: Engine, project: str, model: str, *, by: str) -> bool:
    """Forget what was said of a model, with an audit line; whether something was."""
    with engine.begin() as connection:
        if not connection.execute(delete(model_licences).where(_of(project, model))).rowcount:
            return False
        audit_trail.append(connection, project, "licence.delete", model, by=by)
    return True


def _of(project: str, model: str) -> ColumnElement[bool]:
    return and_(model_licences.c.project == project, model_licences.c.model == model)


def _licence(row: Row[Any]) -> ModelLicence:
    return msgspec.convert({name: row._mapping[name] for name in ModelLicence.__struct_fields__}, ModelLicence)
