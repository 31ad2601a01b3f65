"""A project's word on how long logs are kept, in the registry. Every function blocks on SQL."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Engine, null, select, update

from tunemill.registry import audit_trail, conflicts
from tunemill.registry.tables import edits, now_ms, retention

_IDS_AT_ONCE = 500  # in one statement: SQLite takes no more than some thousand values


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Which logs go. Both None: none."""

    max_age_days: int | None = None
    max_bytes: int | None = None
    by: str | None = None
    updated_ms: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether no log is ever dropped."""
        return self.max_age_days is None and self.max_bytes is None


def policy_of(engine: Engine, project: str) -> Policy:
    """What is in force."""
    with engine.connect() as connection:
        row = connection.execute(select(retention).where(retention.c.project == project)).one_or_none()
    return Policy() if row is None else Policy(**{name: row._mapping[name] for name in Policy.__struct_fields__})


def set_policy(engine: Engine, project: str, *, max_age_days: int | None, max_bytes: int | None, by: str) -> Policy:
    """Put another one in force."""
    limits = {"max_age_days": max_age_days, "max_bytes": max_bytes}
    with engine.begin() as connection:
        conflicts.put(connection, retention, {"project": project}, {**limits, "by": by, "updated_ms": now_ms()})
        audit_trail.append(connection, project, "retention.set", project, by=by, data=limits)
    return policy_of(engine, project)


def forget_texts(engine: Engine, project: str, log_ids: Sequence[str]) -> None:
    """Forget what people wrote in the place of these logs' messages, and why. Their numbers stay taken."""
    with engine.begin() as connection:
        for start in range(0, len(log_ids), _IDS_AT_ONCE):
            theirs = (edits.c.project == project, edits.c.log_id.in_(log_ids[start : start + _IDS_AT_ONCE]))
            written = (*theirs, edits.c.kind == "messages")
            connection.execute(update(edits).where(*written).values(value=null(), why=null()))
