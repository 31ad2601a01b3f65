"""The trainer as a service: it answers the doorbell, works on one run at a time, and relays what became of runs. Imports no torch."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog
from sqlalchemy import Engine

from tunemill.bus.port import Bus, Outgoing
from tunemill.registry import outbox
from tunemill.schemas.ids import new_id
from tunemill.schemas.topics import DATASETS_READY, REJECTED, RUNS_FINISHED, RUNS_STATUS, Topic
from tunemill.telemetry.metrics import OUTBOX_PENDING
from tunemill.trainer.claim import claim_next
from tunemill.trainer.doorbell import GROUP, answer
from tunemill.trainer.supervise import supervise

LEASE_S = 60.0
_IDLE_S = 0.5  # between looks at an empty queue or outbox
_POLL_S = 1.0
_BACK_OFF_S = (1.0, 30.0)  # after the first failure, and at most
_TOLD = (RUNS_STATUS, RUNS_FINISHED)

log = structlog.get_logger()


async def run_trainer(
    bus: Bus, engine: Engine, files_url: str, work: Path, *, stop: asyncio.Event, lease_s: float = LEASE_S
) -> None:
    """Serve until `stop` is set; a run that is then under way writes its checkpoint and goes back into the queue.

    Args:
        work: a folder for checkpoints and logs of runs. A trainer that sees the same folder resumes a run; another starts it anew.
        lease_s: how long a silent trainer keeps its run.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"
    lease_ms = int(lease_s * 1000)

    async def work_on_runs() -> None:
        claim = await asyncio.to_thread(claim_next, engine, owner, lease_ms=lease_ms)
        if claim is None:
            await _pause(stop, _IDLE_S)
        else:
            await supervise(engine, claim, work, files_url, lease_ms=lease_ms, stop=stop)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_until_stopped("doorbell", stop, lambda: _answer_doorbell(bus, engine, stop)))
        tasks.create_task(_until_stopped("runs", stop, work_on_runs))
        tasks.create_task(_until_stopped("outbox", stop, lambda: _relay(bus, engine, stop)))
    with suppress(Exception):  # what this leaves unsent is sent at the next start
        await outbox.relay(engine, _TOLD, _publisher(bus))


async def _answer_doorbell(bus: Bus, engine: Engine, stop: asyncio.Event) -> None:
    await bus.create_topics([DATASETS_READY, *_TOLD, REJECTED])
    async with bus.subscribe([DATASETS_READY], group=GROUP) as subscription:
        while not stop.is_set():
            await answer(subscription, bus, engine, timeout_s=_POLL_S)


async def _relay(bus: Bus, engine: Engine, stop: asyncio.Event) -> None:
    sent = await outbox.relay(engine, _TOLD, _publisher(bus))
    OUTBOX_PENDING.set(await asyncio.to_thread(outbox.pending, engine, _TOLD))
    if not sent:
        await _pause(stop, _IDLE_S)


def _publisher(bus: Bus) -> outbox.Publish:
    async def publish(topic: Topic, key: str, value: bytes) -> None:
        await bus.publish(topic, [Outgoing(value, key=key)])

    return publish


async def _until_stopped(name: str, stop: asyncio.Event, step: Callable[[], Awaitable[None]]) -> None:
    """Repeat a step; one that fails is logged and tried again, later and later: the bus or the registry may come back."""
    back_off_s, longest_s = _BACK_OFF_S
    while not stop.is_set():
        try:
            await step()
            back_off_s = _BACK_OFF_S[0]
        except Exception as error:
            log.error(
                "trainer_step_failed", step=name, error=type(error).__name__, retry_in_s=back_off_s, exc_info=True
            )
            await _pause(stop, back_off_s)
            back_off_s = min(2 * back_off_s, longest_s)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
