"""Work on many logs, done beside the API: one job of a project at a time, by whoever has its lease, each as its kind has it."""

import asyncio
import contextlib
import os
import socket
from functools import partial

import structlog
from sqlalchemy import Engine

from tunemill.curator_api import job_store as store
from tunemill.curator_api.errors import CuratorError, Unavailable
from tunemill.curator_api.job_kinds import KINDS
from tunemill.curator_api.job_store import Job, LeaseLost
from tunemill.curator_api.job_work import Jobs, NotTaken, told_within
from tunemill.curator_api.leases import kept
from tunemill.curator_api.problems import translated
from tunemill.schemas.ids import new_id

LOOK_EVERY_S = 1.0
LONGEST_WAIT_S = 30.0  # between attempts while something is away

_log = structlog.get_logger()


async def work_until(stop: asyncio.Event, on: Jobs) -> None:
    """Do what there is to do until told to stop; whatever is away is waited for."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"[:128]
    wait_s = LOOK_EVERY_S
    while not stop.is_set():
        try:
            if await do_next(on, owner, stop):
                continue
            wait_s = LOOK_EVERY_S
        except Exception as error:  # the index or the registry is away
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            _log.warning("job_waits", error=type(error).__name__, again_in_s=wait_s)
        await told_within(stop, wait_s)


async def do_next(on: Jobs, owner: str, stop: asyncio.Event) -> bool:
    """Work on the oldest job that is not finished, if nobody else does; whether there was one.

    Raises:
        Exception: something is away; the job stays where it is.
    """
    claimed = await asyncio.to_thread(store.claim, on.registry, on.project, owner)
    if claimed is None:
        return False
    _log.info("job_taken_up", job_id=claimed.job_id, kind=claimed.kind, status=claimed.status, seen=claimed.seen)
    try:
        async with kept(partial(store.renew, on.registry, claimed), lease_ms=store.LEASE_MS):
            await _work(on, claimed, stop)
    except LeaseLost:
        _log.info("job_left", job_id=claimed.job_id, kind=claimed.kind)
    except Exception as error:
        if isinstance(translated(error), Unavailable):
            raise
        await asyncio.to_thread(_fail, on.registry, claimed, error)
    finally:
        await asyncio.to_thread(store.let_go, on.registry, claimed)
    return True


async def _work(on: Jobs, claimed: Job, stop: asyncio.Event) -> None:
    kind = KINDS[claimed.kind]
    work = kind.work if claimed.status == "running" else kind.undo
    if work is None:
        raise NotTaken(f"work of the kind {claimed.kind} cannot be taken back")
    await work(on, claimed, stop)


def _fail(registry: Engine, claimed: Job, error: Exception) -> None:
    """End it with an error of ours; its text might hold text of a log."""
    _log.error("job_failed", job_id=claimed.job_id, kind=claimed.kind, error=type(error).__name__)
    message = str(error) if isinstance(error, NotTaken | CuratorError) else f"unforeseen {type(error).__name__}"
    with contextlib.suppress(LeaseLost):
        store.finish(registry, claimed, "failed", error={"code": "internal", "message": message})
