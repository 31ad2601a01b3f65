"""One claimed run: its worker is started, heard, and stopped; what it says goes to the registry, what it made to the files URL.

The worker is another process, so that a crash of torch, a kill for memory or a hang costs an attempt and not the service.
"""

import asyncio
import errno
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from tunemill.telemetry.metrics import RUN_SECONDS, TRAIN_TOKENS
from tunemill.trainer.claim import (
    QUEUED,
    Claim,
    fail_attempt,
    is_redacted,
    move,
    note,
    release,
    renew,
    started_by,
    untold,
)
from tunemill.trainer.errors import DiskFull, LauncherAway, LeaseLost, OutOfMemory, TrainerError, WorkerDied
from tunemill.trainer.job import Line, Listener, Order, WorkFolder, write_whole
from tunemill.trainer.launch import Ended, Job, Launcher, job_id
from tunemill.trainer.publish import WITH_ROWS, hide_rows, manifest_sha256, upload, whole_weights
from tunemill.trainer.sweep import clear

POLL_S = 0.25
GRACE_S = 60.0  # from being asked to stop to being ended: a forward pass and a checkpoint of a large model
AGAIN_S = 1.0  # until the registry is asked again
STORE_AGAIN_S = (1.0, 10.0, 60.0, 120.0)  # until a result that could not be stored is stored again, each time
_RENEWALS_PER_LEASE = 4  # three may fail before the lease ends
_LAST_WORDS = ("done", "failed", "stopped")
_LOG_BYTES = 2**20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_ROOM_BYTES = 2**20  # with less a worker could not even say what is wrong

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """With what, and where, runs are worked on."""

    engine: Engine
    launcher: Launcher
    work: Path
    files_url: str
    lease_s: float
    devices: int = 1  # that each run gets

    @property
    def lease_ms(self) -> int:
        """How long a lease holds."""
        return int(self.lease_s * 1000)


@dataclass(slots=True)
class _Lease:
    """What the keeper of the lease has learnt."""

    cancel_asked: bool = False
    lost: asyncio.Event = field(default_factory=asyncio.Event)


async def supervise(shop: Workshop, claim: Claim, *, env: Mapping[str, str], stop: asyncio.Event) -> None:
    """Bring the run to an end, or back into the queue.

    1. start the worker; 2. pass on what it says until it ends; 3. upload what it made; 4. write the end. 3 and 4 only with the lease.

    Args:
        env: what the worker's environment has besides.

    Raises:
        LauncherAway: no worker could be started; the run is back in the queue.
        Exception: something else was in the way, such as the files URL; the attempt has failed.
    """
    folder = WorkFolder(shop.work / claim.run_id)
    with suppress(LeaseLost):
        async with _kept_lease(shop, claim, folder) as lease:
            try:
                ended, last = await _worked(shop, claim, folder, env, lease=lease, stop=stop)
                await _finish(shop, claim, folder, ended=ended, last=last, lease=lease, stop=stop)
            except LauncherAway as away:
                await asyncio.to_thread(release, shop.engine, claim, f"the run waits: {away.message}")
                raise
            except LeaseLost:
                raise
            except Exception as error:
                full = _is_no_room(error)
                failure = _disk_full(folder) if full else _our_failure(error)
                status = await asyncio.to_thread(fail_attempt, shop.engine, claim, failure)
                if status != QUEUED:
                    await asyncio.to_thread(clear, folder, status)
                if not full:
                    raise
            return
    log.warning("lease_lost", run_id=claim.run_id, attempt=claim.attempt)


@asynccontextmanager
async def _kept_lease(shop: Workshop, claim: Claim, folder: WorkFolder) -> AsyncIterator[_Lease]:
    lease = _Lease()

    async def keep() -> None:
        while not lease.lost.is_set():
            try:
                lease.cancel_asked = await asyncio.to_thread(renew, shop.engine, claim, lease_ms=shop.lease_ms)
                await asyncio.to_thread(folder.say_alive)
            except LeaseLost:
                lease.lost.set()
            except Exception as error:  # the registry may be back before the lease ends
                log.warning("lease_renewal_failed", run_id=claim.run_id, error=type(error).__name__)
            await asyncio.sleep(min(1.0, shop.lease_s / _RENEWALS_PER_LEASE))

    keeper = asyncio.create_task(keep())
    try:
        yield lease
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper


async def _worked(
    shop: Workshop, claim: Claim, folder: WorkFolder, env: Mapping[str, str], *, lease: _Lease, stop: asyncio.Event
) -> tuple[Ended, Line | None]:
    """A worker's whole life: how it ended, and its last word, if it had one. None is left of this attempt or the one before."""
    job = _job(shop, claim, folder, env)
    if claim.attempt > 1:
        await _end(shop.launcher, job_id(claim.run_id, claim.attempt - 1))
        await _insist(lease, stop, _tell_missed, shop.engine, claim, folder)
    if lease.lost.is_set():
        raise LeaseLost(f"run {claim.run_id} was taken over")
    await shop.launcher.submit(job)
    try:
        await _insist(lease, stop, started_by, shop.engine, claim, f"{shop.launcher.name} {job.job_id}")
        log.info("worker_started", run_id=claim.run_id, attempt=claim.attempt, launcher=shop.launcher.name)
        ended, last = await _listen(shop, claim, folder, job, lease=lease, stop=stop)
    except BaseException:
        with suppress(LauncherAway):  # whoever takes the run tries, too
            await _end(shop.launcher, job.job_id)
        raise
    if not job.log.exists():  # its engine has it
        with suppress(LauncherAway):
            job.log.write_text(await shop.launcher.logs(job.job_id, last_bytes=_LOG_BYTES), encoding="utf-8")
    return ended, last


def _job(shop: Workshop, claim: Claim, folder: WorkFolder, env: Mapping[str, str]) -> Job:
    """What the worker is to do, written into its folder, and how it is to be started."""
    folder.tmp.mkdir(parents=True, exist_ok=True)
    folder.stop.unlink(missing_ok=True)
    folder.say_alive()
    order = Order(
        run_id=claim.run_id,
        attempt=claim.attempt,
        project=claim.project,
        name=claim.name,
        version=claim.version,
        digest=claim.digest,
        manifest_url=claim.manifest_url,
        sources_url=claim.sources_url,
        revision=claim.revision,
        recipe=claim.recipe,
        identity=claim.identity,
        squeeze=claim.squeeze,
        devices=shop.devices,
        lease_s=shop.lease_s,
    )
    write_whole(folder.order, msgspec.json.encode(order))
    scratch = str(folder.tmp)
    return Job(
        job_id=job_id(claim.run_id, claim.attempt),
        argv=(sys.executable, "-P", "-m", "tunemill.trainer.worker", str(folder.path)),
        env={"TMPDIR": scratch, "HF_DATASETS_CACHE": scratch, **env},
        folder=folder.path,
        devices=shop.devices,
        log=folder.log(claim.attempt),
    )


async def _listen(
    shop: Workshop, claim: Claim, folder: WorkFolder, job: Job, *, lease: _Lease, stop: asyncio.Event
) -> tuple[Ended, Line | None]:
    """Pass on what the worker says until it ends.

    Raises:
        LeaseLost: another trainer has the run.
        LauncherAway: what runs the worker has not answered for as long as a lease holds.
    """
    listener, last, stages = Listener(folder.progress(claim.attempt)), None, _Stages()
    loop = asyncio.get_running_loop()
    answered_at, end_at = loop.time(), float("inf")
    while True:
        ended = None
        try:
            ended = await shop.launcher.poll(job.job_id)
            answered_at = loop.time()
        except LauncherAway:
            if loop.time() - answered_at > shop.lease_s:
                raise
        lines = await asyncio.to_thread(listener.lines)
        last = next((line for line in reversed(lines) if line.kind in _LAST_WORDS), last)
        stages.hear(lines)
        await _insist(lease, stop, _pass_on, shop.engine, claim, folder, lines)
        if lease.lost.is_set():
            raise LeaseLost(f"run {claim.run_id} was taken over")
        if ended is not None:
            stages.end()
            return ended, last
        if end_at == float("inf") and (lease.cancel_asked or stop.is_set()):
            folder.stop.touch()
            end_at = loop.time() + GRACE_S
        if loop.time() > end_at:
            with suppress(LauncherAway):
                await shop.launcher.stop(job.job_id)
        await asyncio.sleep(POLL_S)


class _Stages:
    """What the stages of an attempt take, for the metrics."""

    def __init__(self) -> None:
        self._stage, self._since = "preparing", time.monotonic()

    def hear(self, lines: Sequence[Line]) -> None:
        """The attempt goes on to the stage that a line says."""
        for line in lines:
            if line.kind == "status":
                self.end()
                self._stage, self._since = line.message, time.monotonic()

    def end(self) -> None:
        """The stage is over."""
        RUN_SECONDS.labels(self._stage).inc(time.monotonic() - self._since)


async def _insist(lease: _Lease, stop: asyncio.Event, write: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Write to the registry; while it is away, wait for it: that costs no attempt.

    Raises:
        LeaseLost: another trainer has the run.
        DBAPIError: it is away still, and we are to stop.
    """
    while True:
        try:
            return await asyncio.to_thread(write, *args, **more)
        except (OperationalError, InterfaceError) as error:
            if lease.lost.is_set() or stop.is_set():
                raise
            log.warning("registry_away", error=type(error).__name__)
            await asyncio.sleep(AGAIN_S)


async def _end(launcher: Launcher, job: str) -> None:
    """End the job and wait until it is gone.

    Raises:
        LauncherAway: it may still be there.
    """
    give_up_at = asyncio.get_running_loop().time() + GRACE_S
    while asyncio.get_running_loop().time() < give_up_at:
        with suppress(LauncherAway):
            if await launcher.poll(job) is not None:
                return
            await launcher.stop(job)
        await asyncio.sleep(POLL_S)
    raise LauncherAway(f"job {job} cannot be ended", "look at what runs it")


def _pass_on(engine: Engine, claim: Claim, folder: WorkFolder, lines: list[Line]) -> None:
    """The worker's lines as events, the newest metrics as progress, its status as the run's, with the plan made by then.

    What is passed on leaves the list: who repeats this after a failure tells nothing twice.
    """
    while lines:
        if lines[0].kind == "status":
            columns = {"plan": msgspec.json.decode(folder.plan.read_bytes())} if folder.plan.exists() else {}
            move(engine, claim, lines[0].message, f"the run is {lines[0].message}", **columns)
            del lines[0]
            continue
        together = list(takewhile(lambda line: line.kind != "status", lines))
        entries = [_entry(line) for line in together if line.kind not in _LAST_WORDS]
        metrics = [line.data for line in together if line.kind == "metrics"]
        if entries:
            note(engine, claim, entries, metrics[-1] if metrics else None)
        del lines[: len(together)]


def _tell_missed(engine: Engine, claim: Claim, folder: WorkFolder) -> None:
    """Tell what earlier workers said when their trainer heard them no more: this one may go on from a checkpoint after it."""
    lines = [line for attempt in range(1, claim.attempt) for line in Listener(folder.progress(attempt)).lines()]
    said = [_entry(line) for line in lines if line.kind not in ("status", *_LAST_WORDS)]
    if missed := untold(engine, claim, said):
        note(engine, claim, missed, None)


def _entry(line: Line) -> dict[str, Any]:
    kind, level = ("message", "warn") if line.kind == "warn" else (line.kind, "info")
    return {"ts_ms": line.ts_ms, "level": level, "type": kind, "message": line.message, "data": line.data}


async def _finish(
    shop: Workshop,
    claim: Claim,
    folder: WorkFolder,
    *,
    ended: Ended,
    last: Line | None,
    lease: _Lease,
    stop: asyncio.Event,
) -> None:
    if last is not None and last.kind == "done":
        status = await _publish(shop, claim, folder, last, lease=lease, stop=stop)
    elif lease.cancel_asked:
        status = "cancelled"
        await _insist(lease, stop, move, shop.engine, claim, status, "the run was cancelled")
    elif last.kind == "stopped" if last is not None else stop.is_set():
        status = QUEUED
        text = "the worker was stopped; the run goes on from its checkpoint"
        await _insist(lease, stop, release, shop.engine, claim, text)
    else:
        status = await _insist(lease, stop, fail_attempt, shop.engine, claim, _failure(ended, last, folder, claim))
    if status != QUEUED:
        await asyncio.to_thread(clear, folder, status)
    log.info("attempt_ended", run_id=claim.run_id, attempt=claim.attempt, status=status, exit_code=ended.exit_code)


async def _publish(
    shop: Workshop, claim: Claim, folder: WorkFolder, last: Line, *, lease: _Lease, stop: asyncio.Event
) -> str:
    """Upload, then tell. Only with the lease: renewed before, and refused by the token after."""
    engine = shop.engine
    was_redacted = await _hide_erased(engine, claim, folder)
    url = await _stored(shop, claim, folder, lease=lease, stop=stop)
    made = {"manifest_sha256": manifest_sha256(folder.artefact), "weights": whole_weights(folder.artefact)}
    result = {**last.data["result"], **made}
    columns = {
        "result": result,
        "artefact_url": url,
        "trained_tokens": last.data["trained_tokens"],
        "seconds": last.data["seconds"],
        "error": None,
    }
    text = "the run succeeded" if last.message == "succeeded" else "the adapter is rejected by a gate"
    await _insist(lease, stop, move, engine, claim, last.message, text, data=result, **columns)
    TRAIN_TOKENS.inc(last.data["trained_tokens"])
    if not was_redacted and await _hide_erased(engine, claim, folder):
        await _stored(shop, claim, folder, lease=None, stop=stop)  # an erasure since may not have seen the report
    return last.message


async def _stored(
    shop: Workshop, claim: Claim, folder: WorkFolder, *, lease: _Lease | None, stop: asyncio.Event
) -> str:
    """Upload the result, again and again where it cannot be stored: it is worth more than the wait. Gives its URL.

    Args:
        lease: that the run must have; None: the run is over and its result stored, only what shows rows has changed.

    Raises:
        LeaseLost: another trainer has the run; its result lies there, or will.
        Exception: why it could not be stored at last.
    """
    of, only = {"project": claim.project, "run_id": claim.run_id}, None if lease else WITH_ROWS
    for wait_s in (*STORE_AGAIN_S, None):
        if lease is not None:
            await _insist(lease, stop, renew, shop.engine, claim, lease_ms=shop.lease_ms)
        try:
            return await asyncio.to_thread(upload, folder.artefact, shop.files_url, **of, only=only)
        except Exception as error:
            if wait_s is None or stop.is_set() or _is_no_room(error):
                raise
            log.warning("result_not_stored", run_id=claim.run_id, error=type(error).__name__, again_in_s=wait_s)
            await asyncio.sleep(wait_s)
    raise AssertionError("the last time it is stored or raises")


async def _hide_erased(engine: Engine, claim: Claim, folder: WorkFolder) -> bool:
    """Take the rows out of the report if some were erased since the run was asked for; whether they were."""
    if not await asyncio.to_thread(is_redacted, engine, claim):
        return False
    await asyncio.to_thread(hide_rows, folder.artefact)
    return True


def _failure(ended: Ended, last: Line | None, folder: WorkFolder, claim: Claim) -> TrainerError:
    """Why the attempt came to nothing: by the worker's last word, or by what can be seen where it had none."""
    if last is not None:
        error = TrainerError(last.message, last.data["remedy"])
        error.code = last.data["code"]
        error.retryable = last.data["retryable"]
        return error
    if ended.out_of_memory:
        return OutOfMemory(
            f"the system ended the worker to have its memory ({ended.said})",
            "lower max_length_tokens, take method qlora or a smaller base, or give the trainer more memory",
        )
    if shutil.disk_usage(folder.path).free < _ROOM_BYTES:
        return _disk_full(folder)
    return WorkerDied(
        f"the worker ended without a word: {ended.said}",
        f"look at {folder.log(claim.attempt)} and at the machine's memory",
    )


def _is_no_room(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def _our_failure(error: Exception) -> TrainerError:
    return TrainerError(
        f"the trainer could not go on with the run: {type(error).__name__}",
        "look at the trainer's log, and at the files URL if the result was being stored",
    )


def _disk_full(folder: WorkFolder) -> DiskFull:
    return DiskFull(
        f"no room is left for the run at {folder.path} or where results go", "make room, then: tunemill runs resume"
    )
