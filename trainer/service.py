"""The trainer as a service: it answers the doorbell, works on a run a slot, and relays what became of runs. Imports no torch."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import Engine

from tunemill.bus.port import Bus, Outgoing
from tunemill.registry import outbox
from tunemill.registry.tables import now_ms
from tunemill.schemas.ids import new_id
from tunemill.schemas.topics import DATASETS_READY, REJECTED, RUNS_FINISHED, RUNS_STATUS, Topic
from tunemill.telemetry.metrics import OUTBOX_PENDING
from tunemill.trainer.claim import claim_next
from tunemill.trainer.doorbell import GROUP, answer
from tunemill.trainer.launch import LOCAL, Launcher, open_launcher
from tunemill.trainer.supervise import Workshop, supervise
from tunemill.trainer.sweep import EVERY_S, sweep, sweep_shown_rows, sweep_uploads

LEASE_S = 60.0
_IDLE_S = 0.5  # between looks at an empty queue or outbox
_POLL_S = 1.0
_BACK_OFF_S = (1.0, 30.0)  # after the first failure, and at most
_TOLD = (RUNS_STATUS, RUNS_FINISHED)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """How many runs are worked on at a time, and on what."""

    launcher: Launcher
    slots: Sequence[Mapping[str, str]]  # of each, what its workers' environment has besides
    devices: int  # of each run


def open_fleet(launcher: str = LOCAL, slots: int | None = None, devices: int = 1) -> Fleet:
    """The fleet that an operator asks for.

    Args:
        launcher: the URL of what runs the workers (`launch.open_launcher`).
        slots: None: as many as this machine has GPUs for, else one.

    Raises:
        ValueError: no launcher has this URL, or this machine has fewer GPUs than the slots want.
    """
    found = gpus() if launcher == LOCAL else []
    environments = slot_environments(found, slots, devices)
    return Fleet(launcher=open_launcher(launcher), slots=environments, devices=devices)


async def run_trainer(
    bus: Bus,
    engine: Engine,
    files_url: str,
    work: Path,
    *,
    stop: asyncio.Event,
    lease_s: float = LEASE_S,
    fleet: Fleet | None = None,
) -> None:
    """Serve until `stop` is set; runs that are then under way write their checkpoints and go back into the queue.

    Args:
        work: a folder for checkpoints and logs of runs. A trainer that sees the same folder resumes a run; another starts it anew.
        lease_s: how long a silent trainer keeps its runs.
        fleet: what runs them; None: processes of this machine, one for each of its GPUs.
    """
    fleet = fleet or open_fleet()
    shop = Workshop(
        engine=engine,
        launcher=fleet.launcher,
        work=work.resolve(),  # workers need not start where we did
        files_url=files_url,
        lease_s=lease_s,
        devices=fleet.devices,
    )
    owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"

    def slot(environment: Mapping[str, str]) -> Callable[[], Awaitable[None]]:
        async def work_on_runs() -> None:
            claim = await asyncio.to_thread(claim_next, engine, owner, lease_ms=shop.lease_ms)
            if claim is None:
                await _pause(stop, _IDLE_S)
            else:
                await supervise(shop, claim, env=environment, stop=stop)

        return work_on_runs

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_until_stopped("doorbell", stop, lambda: _answer_doorbell(bus, engine, stop)))
        for environment in fleet.slots:
            tasks.create_task(_until_stopped("runs", stop, slot(environment)))
        tasks.create_task(_until_stopped("sweep", stop, lambda: _sweep(shop, stop)))
        tasks.create_task(_until_stopped("outbox", stop, lambda: _relay(bus, engine, stop)))
    with suppress(Exception):  # what this leaves unsent is sent at the next start
        await outbox.relay(engine, _TOLD, _publisher(bus))


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name for name in told.split(",") if name]
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def slot_environments(found: Sequence[str], slots: int | None, devices: int) -> list[dict[str, str]]:
    """For each slot what its workers' environment has besides: the GPUs that are its own, where there are any.

    Raises:
        ValueError: there are GPUs, but fewer than the slots want.
    """
    if not found:
        return [{} for _ in range(slots or 1)]
    count = len(found) // devices if slots is None else slots
    if not 0 < count * devices <= len(found):
        raise ValueError(
            f"{max(count, 1)} slots of {devices} devices want more GPUs than the {len(found)} that are here"
        )
    return [{"CUDA_VISIBLE_DEVICES": ",".join(found[i * devices : (i + 1) * devices])} for i in range(count)]


async def _sweep(shop: Workshop, stop: asyncio.Event) -> None:
    removed = await asyncio.to_thread(sweep, shop.engine, shop.work, now_ms=now_ms())
    if removed:
        log.info("work_folders_removed", folders=len(removed))
    withdrawn = await asyncio.to_thread(sweep_uploads, shop.engine, shop.files_url, now_ms=now_ms())
    if withdrawn:
        log.info("uploads_without_result_removed", runs=withdrawn)
    hidden = await asyncio.to_thread(sweep_shown_rows, shop.engine, shop.files_url, now_ms=now_ms())
    if hidden:
        log.info("shown_rows_removed", runs=hidden)
    await _pause(stop, EVERY_S)


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
