"""The task that has versions trained on when their policy's quiet period is over. Several servers may run it."""

import asyncio
import contextlib
from typing import Any

import structlog
from sqlalchemy import Engine, RowMapping, select, update

from tunemill.curator_api import version_store
from tunemill.registry.announce import announce
from tunemill.registry.tables import now_ms, training_policies
from tunemill.schemas.ids import digest
from tunemill.schemas.topics import DATASETS_READY

LOOK_EVERY_S = 1.0
LONGEST_WAIT_S = 30.0  # between attempts while the registry is away

_log = structlog.get_logger()


async def fire_until(stop: asyncio.Event, engine: Engine) -> None:
    """Look for what is due until told to stop. Whatever fails is tried again, later each time."""
    wait_s = LOOK_EVERY_S
    while not stop.is_set():
        try:
            await asyncio.to_thread(fire, engine)
            wait_s = LOOK_EVERY_S
        except Exception as error:  # the registry is away: what is due stays due
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            causes = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
            names = sorted({type(cause).__name__ for cause in causes})
            _log.warning("training_due_failed", errors=names, again_in_s=wait_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)


def fire(engine: Engine) -> int:
    """Announce every version that is due to be trained on, each in a transaction; how many there were.

    Raises:
        ExceptionGroup: why some could not be; they held up no other.
    """
    due = select(training_policies).where(training_policies.c.due_ms <= now_ms())
    with engine.connect() as connection:
        waiting = connection.execute(due.order_by(training_policies.c.due_ms)).mappings().all()
    fired, failures = 0, []
    for policy in waiting:
        try:
            fired += _fire(engine, policy)
        except Exception as error:
            failures.append(error)
    if failures:
        raise ExceptionGroup("versions that are due could not be announced", failures)
    return fired


def _fire(engine: Engine, policy: RowMapping) -> bool:
    """Compare and set: of several servers, the one that finds the policy as it was read announces it."""
    project, name, version = policy["project"], policy["name"], policy["due_version"]
    key = ("project", "name", "updated_ms", "due_ms", "due_version")
    same: Any = [training_policies.c[column] == policy[column] for column in key]
    told = version_store.ready(
        project,
        version_store.find_version(engine, project, name, version),
        policy["recipe"],
        event_id=digest(["training", project, name, version, policy["due_ms"]])[:32],
        priority=policy["priority"],
    )
    taken_off = update(training_policies).where(*same).values(due_ms=None, due_version=None)
    with engine.begin() as connection:
        if connection.execute(taken_off).rowcount != 1:
            return False
        announce(connection, project, DATASETS_READY, told, event_id=told.event_id)
    return True
