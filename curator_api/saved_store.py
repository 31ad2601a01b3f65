"""Saved searches in the registry: search texts with a name. They hold what somebody typed, and no text of a log.

Every function blocks on SQL.
"""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, Row, and_, delete, select

from tunemill.registry import audit_trail, conflicts
from tunemill.registry.tables import now_ms, saved_searches


class SavedSearch(msgspec.Struct, frozen=True, kw_only=True):
    """A search text with a name."""

    name: str
    query: str
    by: str  # who changed it last
    created_ms: int
    updated_ms: int


def put(engine: Engine, project: str, name: str, query: str, *, by: str) -> SavedSearch:
    """Keep a search under a name, in place of what was there, with an audit line."""
    now = now_ms()
    key, values = {"project": project, "name": name}, {"query": query, "by": by, "updated_ms": now}
    with engine.begin() as connection:
        conflicts.put(connection, saved_searches, key, values, at_first={"created_ms": now})
        audit_trail.append(connection, project, "search.save", name, by=by)
        return _saved(connection.execute(select(saved_searches).where(_of(project, name))).one())


def find(engine: Engine, project: str, name: str) -> SavedSearch | None:
    """The search of this name."""
    with engine.connect() as connection:
        row = connection.execute(select(saved_searches).where(_of(project, name))).one_or_none()
    return None if row is None else _saved(row)


def find_all(engine: Engine, project: str) -> list[SavedSearch]:
    """Every saved search of the project, by name."""
    mine = select(saved_searches).where(saved_searches.c.project == project)
    with engine.connect() as connection:
        return [_saved(row) for row in connection.execute(mine.order_by(saved_searches.c.name))]


def remove(engine: Engine, project: str, name: str, *, by: str) -> bool:
    """Forget a search, with an audit line; whether it was there."""
    with engine.begin() as connection:
        if not connection.execute(delete(saved_searches).where(_of(project, name))).rowcount:
            return False
        audit_trail.append(connection, project, "search.delete", name, by=by)
    return True


def _of(project: str, name: str) -> ColumnElement[bool]:
    return and_(saved_searches.c.project == project, saved_searches.c.name == name)


def _saved(row: Row[Any]) -> SavedSearch:
    return msgspec.convert({name: row._mapping[name] for name in SavedSearch.__struct_fields__}, SavedSearch)
