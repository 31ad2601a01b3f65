"""Names that people give to versions of a dataset, in the registry. A name can be moved to another version."""

import msgspec
from sqlalchemy import ColumnElement, Engine, and_, delete, select

from tunemill.curator_api import training_policies
from tunemill.curator_api.errors import NotFound
from tunemill.registry import audit_trail, conflicts
from tunemill.registry.tables import aliases, now_ms, versions


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A name for a version."""

    alias: str
    version: int
    by: str
    updated_ms: int


def find_all(engine: Engine, project: str, name: str) -> list[Alias]:
    """The aliases of a dataset, by name."""
    with engine.connect() as connection:
        rows = connection.execute(select(aliases).where(_of(project, name)).order_by(aliases.c.alias))
        return [msgspec.convert(row._mapping, Alias) for row in rows]


def find(engine: Engine, project: str, name: str, alias: str) -> int | None:
    """The version that an alias names; None where there is no such alias."""
    with engine.connect() as connection:
        here = and_(_of(project, name), aliases.c.alias == alias)
        return connection.execute(select(aliases.c.version).where(here)).scalar_one_or_none()


def put(engine: Engine, project: str, name: str, alias: str, version: int, *, by: str) -> Alias:
    """Give a version a name, which it takes from the version that has it.

    Raises:
        NotFound: there is no such version.
    """
    made = Alias(alias=alias, version=version, by=by, updated_ms=now_ms())
    there = select(versions.c.version).where(
        versions.c.project == project, versions.c.name == name, versions.c.version == version
    )
    with engine.begin() as connection:
        if connection.execute(there.with_for_update()).one_or_none() is None:
            raise NotFound(f"there is no version {version} of a dataset {name!r}")
        key = {"project": project, "name": name, "alias": alias}
        conflicts.put(connection, aliases, key, {"version": version, "by": by, "updated_ms": made.updated_ms})
        training_policies.arm(connection, project, name, version, alias=alias)
        audit_trail.append(connection, project, "alias.set", f"{name}@{alias} -> v{version}", by=by)
    return made


def remove(engine: Engine, project: str, name: str, alias: str, *, by: str) -> bool:
    """Forget a name; whether there was one."""
    with engine.begin() as connection:
        gone = connection.execute(delete(aliases).where(and_(_of(project, name), aliases.c.alias == alias))).rowcount
        if gone:
            audit_trail.append(connection, project, "alias.remove", f"{name}@{alias}", by=by)
    return bool(gone)


def _of(project: str, name: str) -> ColumnElement[bool]:
    return and_(aliases.c.project == project, aliases.c.name == name)
