"""The port that starts, follows and ends a run's process, wherever it runs; which engine stands behind it, a URL says."""

from pathlib import Path
from typing import Protocol

import msgspec

LOCAL = "local:"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a run, as an engine is to start it."""

    job_id: str  # "<run_id>-<attempt>"
    argv: tuple[str, ...]
    env: dict[str, str]  # beside what the engine's processes have anyway
    folder: Path  # the run's work folder, which the process must see
    devices: int
    log: Path  # where a local process writes


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a job's process ended, as its engine tells it."""

    exit_code: int | None  # negative: by that signal; None: the engine does not say
    said: str
    out_of_memory: bool = False  # the system killed a process meanwhile, to have its memory


class Launcher(Protocol):
    """Starts jobs, and knows what became of those that it started."""

    name: str  # for a person

    async def submit(self, job: Job) -> None:
        """Start the job; one that was submitted under this job_id before is the same job and stays as it is.

        Raises:
            LauncherAway: it cannot be started now.
        """
        ...

    async def poll(self, job_id: str) -> Ended | None:
        """How the job ended, None while it runs; a job that the engine does not know has ended.

        Raises:
            LauncherAway: the engine does not answer.
        """
        ...

    async def stop(self, job_id: str) -> None:
        """Have the job's processes ended now, without a last word; `poll` tells when they are gone.

        Raises:
            LauncherAway: the engine does not answer.
        """
        ...

    async def logs(self, job_id: str, *, last_bytes: int) -> str:
        """The end of what the job wrote to its standard output and error.

        Raises:
            LauncherAway: the engine does not answer.
        """
        ...


def job_id(run_id: str, attempt: int) -> str:
    """What an attempt is called at its engine."""
    return f"{run_id}-{attempt}"


def open_launcher(url: str) -> Launcher:
    """The launcher at this URL: `local:`, or `ray+http://host:8265` for a cluster's job server.

    Raises:
        ValueError: no launcher has such a URL.
    """
    if url == LOCAL:
        from tunemill.trainer.launch_local import LocalLauncher

        return LocalLauncher()
    if url.startswith("ray+"):
        from tunemill.trainer.launch_ray import RayLauncher

        return RayLauncher(url)
    raise ValueError(
        f"say {LOCAL} for processes of this machine, or ray+http://host:8265 for a Ray cluster's job server"
    )
