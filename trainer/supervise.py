"""One claimed run: its worker is started, heard, and stopped; what it says goes to the registry, what it made to the files URL.

The worker is another process, so that a crash of torch, a kill for memory or a hang costs an attempt and not the service.
"""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog
from sqlalchemy import Engine

from tunemill.telemetry.metrics import RUNS
from tunemill.trainer.claim import Claim, fail_attempt, is_redacted, move, note, release, renew
from tunemill.trainer.errors import LeaseLost, TrainerError, WorkerDied
from tunemill.trainer.job import Line, Listener, Order, WorkFolder, write_whole
from tunemill.trainer.publish import hide_rows, manifest_sha256, upload

POLL_S = 0.25
GRACE_S = 60.0  # from SIGTERM to SIGKILL: a step and a checkpoint of a large model
_RENEWALS_PER_LEASE = 4  # three may fail before the lease ends
_LAST_WORDS = ("done", "failed", "stopped")

log = structlog.get_logger()


@dataclass(slots=True)
class _Lease:
    """What the keeper of the lease has learnt."""

    cancel_asked: bool = False
    lost: asyncio.Event = field(default_factory=asyncio.Event)


async def supervise(
    engine: Engine, claim: Claim, work: Path, files_url: str, *, lease_ms: int, stop: asyncio.Event
) -> None:
    """Bring the run to an end, or back into the queue.

    1. start the worker; 2. pass on what it says until it ends; 3. upload what it made; 4. write the end. 3 and 4 only with the lease.
    """
    folder = WorkFolder(work / claim.run_id)
    with suppress(LeaseLost):
        async with _kept_lease(engine, claim, lease_ms) as lease:
            listener = Listener(folder.progress(claim.attempt))
            process = await _start(claim, folder)
            try:
                last = await _listen(engine, claim, process, listener, lease=lease, stop=stop)
            finally:
                _kill(process)
                await process.wait()
            await _finish(engine, claim, folder, files_url, exit_code=process.returncode or 0, last=last, lease=lease)
            return
    log.warning("lease_lost", run_id=claim.run_id, attempt=claim.attempt)


@asynccontextmanager
async def _kept_lease(engine: Engine, claim: Claim, lease_ms: int) -> AsyncIterator[_Lease]:
    lease = _Lease()

    async def keep() -> None:
        while not lease.lost.is_set():
            try:
                lease.cancel_asked = await asyncio.to_thread(renew, engine, claim, lease_ms=lease_ms)
            except LeaseLost:
                lease.lost.set()
            except Exception as error:  # the registry may be back before the lease ends
                log.warning("lease_renewal_failed", run_id=claim.run_id, error=type(error).__name__)
            await asyncio.sleep(min(1.0, lease_ms / 1000 / _RENEWALS_PER_LEASE))

    keeper = asyncio.create_task(keep())
    try:
        yield lease
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper


async def _start(claim: Claim, folder: WorkFolder) -> Process:
    folder.path.mkdir(parents=True, exist_ok=True)
    order = Order(
        run_id=claim.run_id,
        attempt=claim.attempt,
        project=claim.project,
        name=claim.name,
        version=claim.version,
        digest=claim.digest,
        manifest_url=claim.manifest_url,
        recipe=claim.recipe,
    )
    write_whole(folder.order, msgspec.json.encode(order))
    command = [sys.executable, "-P", "-m", "tunemill.trainer.worker", str(folder.path), str(os.getpid())]
    with folder.log(claim.attempt).open("ab") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, start_new_session=True)
    log.info("worker_started", run_id=claim.run_id, attempt=claim.attempt, pid=process.pid)
    return process


async def _listen(
    engine: Engine, claim: Claim, process: Process, listener: Listener, *, lease: _Lease, stop: asyncio.Event
) -> Line | None:
    """Pass on what the worker says until it ends; gives its last word, if it had one.

    Raises:
        LeaseLost: another trainer has the run.
    """
    last: Line | None = None
    kill_at: float | None = None
    loop = asyncio.get_running_loop()
    while True:
        ended = process.returncode is not None
        lines = await asyncio.to_thread(listener.lines)
        if lines:
            await asyncio.to_thread(_pass_on, engine, claim, lines)
            last = next((line for line in reversed(lines) if line.kind in _LAST_WORDS), last)
        if lease.lost.is_set():
            raise LeaseLost(f"run {claim.run_id} was taken over")
        if ended:
            return last
        if kill_at is None and (lease.cancel_asked or stop.is_set()):
            process.terminate()
            kill_at = loop.time() + GRACE_S
        if kill_at is not None and loop.time() > kill_at:
            _kill(process)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), POLL_S)


def _pass_on(engine: Engine, claim: Claim, lines: Sequence[Line]) -> None:
    """The worker's lines as events, the newest metrics as progress, its status as the run's."""
    told: list[dict[str, Any]] = []
    progress: dict[str, Any] | None = None
    for line in lines:
        if line.kind == "status":
            note(engine, claim, told, progress)
            told, progress = [], None
            move(engine, claim, line.message, f"the run is {line.message}")
        elif line.kind in ("metrics", "message"):
            told.append(
                {"ts_ms": line.ts_ms, "level": "info", "type": line.kind, "message": line.message, "data": line.data}
            )
            progress = line.data if line.kind == "metrics" else progress
    if told:
        note(engine, claim, told, progress)


async def _finish(
    engine: Engine,
    claim: Claim,
    folder: WorkFolder,
    files_url: str,
    *,
    exit_code: int,
    last: Line | None,
    lease: _Lease,
) -> None:
    if last is not None and last.kind == "done":
        status = await _publish(engine, claim, folder, files_url, last)
    elif lease.cancel_asked:
        status = "cancelled"
        await asyncio.to_thread(move, engine, claim, status, "the run was cancelled")
    elif last is not None and last.kind == "stopped":
        status = "queued"
        await asyncio.to_thread(
            release, engine, claim, "the trainer is shutting down; the run goes on from its checkpoint"
        )
    else:
        status = await asyncio.to_thread(fail_attempt, engine, claim, _failure(exit_code, last, folder, claim))
    if status != "queued":
        RUNS.labels(status).inc()
        folder.before.unlink(missing_ok=True)  # answers to held-out rows: only who resumes needs them
    log.info("attempt_ended", run_id=claim.run_id, attempt=claim.attempt, status=status, exit_code=exit_code)


async def _publish(engine: Engine, claim: Claim, folder: WorkFolder, files_url: str, last: Line) -> str:
    """Upload, then tell. Only with the lease: renewed before, and refused by the token after."""
    was_redacted = await _hide_erased(engine, claim, folder)
    url = await asyncio.to_thread(upload, folder.artefact, files_url, project=claim.project, run_id=claim.run_id)
    result = {**last.data["result"], "manifest_sha256": manifest_sha256(folder.artefact)}
    columns = {
        "result": result,
        "artefact_url": url,
        "trained_tokens": last.data["trained_tokens"],
        "seconds": last.data["seconds"],
        "error": None,
    }
    text = "the run succeeded" if last.message == "succeeded" else "the adapter is rejected by a gate"
    await asyncio.to_thread(move, engine, claim, last.message, text, data=result, **columns)
    if not was_redacted and await _hide_erased(
        engine, claim, folder
    ):  # since: an erasure may not have seen the report yet
        await asyncio.to_thread(upload, folder.artefact, files_url, project=claim.project, run_id=claim.run_id)
    for done_with in (folder.checkpoints, folder.artefact):  # gigabytes with a large model; the log stays
        await asyncio.to_thread(shutil.rmtree, done_with, ignore_errors=True)
    return last.message


async def _hide_erased(engine: Engine, claim: Claim, folder: WorkFolder) -> bool:
    """Take the rows out of the report if some were erased since the run was asked for; whether they were."""
    if not await asyncio.to_thread(is_redacted, engine, claim):
        return False
    await asyncio.to_thread(hide_rows, folder.artefact)
    return True


def _failure(exit_code: int, last: Line | None, folder: WorkFolder, claim: Claim) -> TrainerError:
    if last is None:
        how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        return WorkerDied(
            f"the worker ended by {how}", f"look at {folder.log(claim.attempt)} and at the machine's memory"
        )
    error = TrainerError(last.message, last.data["remedy"])
    error.code = last.data["code"]
    error.retryable = last.data["retryable"]
    return error


def _kill(process: Process) -> None:
    """End the worker and whatever it started: it leads its own process group."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
