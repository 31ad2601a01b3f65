"""Jobs as processes of this machine, each the leader of its own process group; they die with the service that started them."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunemill.trainer.launch import Ended, Job

_MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")  # of our control group, as a container sees it


@dataclass(frozen=True, slots=True)
class _Started:
    process: Process
    log: Path
    kills_before: int


class LocalLauncher:
    """Processes of this machine.

    Args:
        memory_events: where the kernel counts the processes that it killed for memory.
    """

    name = "local"

    def __init__(self, memory_events: Path = _MEMORY_EVENTS) -> None:
        self._memory_events = memory_events
        self._started: dict[str, _Started] = {}

    async def submit(self, job: Job) -> None:
        """Start the job's process; our process id is its last argument, so that it ends when we do."""
        if job.job_id in self._started:
            return
        kills = _kills(self._memory_events)
        with job.log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *job.argv,
                str(os.getpid()),
                env={**os.environ, **job.env},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._started[job.job_id] = _Started(process, job.log, kills)

    async def poll(self, job_id: str) -> Ended | None:
        """How the process ended."""
        started = self._started.get(job_id)
        if started is None:
            return Ended(exit_code=None, said="it is no process of this service")
        code = started.process.returncode
        if code is None:
            return None
        said = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Ended(exit_code=code, said=said, out_of_memory=_kills(self._memory_events) > started.kills_before)

    async def stop(self, job_id: str) -> None:
        """End the process and whatever it started."""
        started = self._started.get(job_id)
        if started is not None and started.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(started.process.pid, signal.SIGKILL)

    async def logs(self, job_id: str, *, last_bytes: int) -> str:
        """The end of the job's log file."""
        started = self._started.get(job_id)
        if started is None:
            return ""
        with started.log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - last_bytes))
            return file.read().decode(errors="replace")


def _kills(memory_events: Path) -> int:
    """How many processes the kernel has killed to have their memory; 0 where it does not say."""
    try:
        lines = memory_events.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
