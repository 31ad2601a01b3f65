"""When a dataset's new versions are trained on by themselves, in the registry. What waits by a policy is sent by `training_due`."""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tunemill.registry import audit_trail
from tunemill.registry.tables import now_ms, training_policies

VERSION = "version"  # train on every new version; else `alias:<alias>`: on whatever that name is given to


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What is trained when, and what waits."""

    name: str  # of the dataset
    train_on: str
    recipe: dict[str, Any]
    quiet_s: int
    priority: int
    due_ms: int | None = None
    due_version: int | None = None
    by: str
    updated_ms: int


def find(engine: Engine, project: str, name: str) -> Policy | None:
    """The policy of a dataset; None: it is trained on by hand only."""
    with engine.connect() as connection:
        return _find(connection, project, name)


def put(engine: Engine, project: str, policy: Policy) -> Policy:
    """Have a dataset trained on by this policy from now on. What waited for the same thing still does, by the new one."""
    while True:
        try:
            with engine.begin() as connection:
                return _put(connection, project, policy)
        except IntegrityError:  # somebody else made one between our look and our insert
            continue


def remove(engine: Engine, project: str, name: str, *, by: str) -> bool:
    """Train by hand only, also not on what waits; whether there was a policy."""
    with engine.begin() as connection:
        gone = connection.execute(delete(training_policies).where(_of(project, name))).rowcount
        if gone:
            audit_trail.append(connection, project, "training.remove", name, by=by)
    return bool(gone)


def arm(connection: Connection, project: str, name: str, version: int, *, alias: str | None = None) -> None:
    """Have a version trained on after the quiet period, if a policy says so; within the transaction that makes or names it.

    Whatever waited is forgotten for it: of a burst of versions one run is made, on the last.
    """
    wanted = VERSION if alias is None else f"alias:{alias}"
    policy = _find(connection, project, name)
    if policy is not None and policy.train_on == wanted:
        due = {"due_ms": now_ms() + policy.quiet_s * 1000, "due_version": version}
        connection.execute(update(training_policies).where(_of(project, name)).values(due))


def _find(connection: Connection, project: str, name: str) -> Policy | None:
    row = connection.execute(select(training_policies).where(_of(project, name))).mappings().one_or_none()
    return None if row is None else msgspec.convert(row, Policy)


def _put(connection: Connection, project: str, policy: Policy) -> Policy:
    values = msgspec.to_builtins(policy)
    before = _find(connection, project, policy.name)
    if before is None:
        connection.execute(insert(training_policies).values(project=project, **values))
    else:
        kept = ("due_ms", "due_version") if before.train_on == policy.train_on else ()
        fresh = {column: value for column, value in values.items() if column not in kept}
        connection.execute(update(training_policies).where(_of(project, policy.name)).values(fresh))
    audit_trail.append(connection, project, "training.set", policy.name, by=policy.by)
    return _find(connection, project, policy.name) or policy


def _of(project: str, name: str) -> ColumnElement[bool]:
    return and_(training_policies.c.project == project, training_policies.c.name == name)
