"""A launcher whose jobs do as a script says, in no process at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tunemill.trainer.errors import LauncherAway
from tunemill.trainer.job import Kind, Line, Order, Speaker, WorkFolder
from tunemill.trainer.launch import Ended, Job


@dataclass
class Attempt:
    """What the worker of an attempt does."""

    says: Sequence[Line] = ()
    ends: Ended | None = field(
        default_factory=lambda: Ended(exit_code=0, said="exit code 0")
    )  # None: when it is stopped
    first: Callable[[WorkFolder], Any] = lambda _folder: None
    heeds_stop: bool = True  # the file; else it is ended


class ScriptedLauncher:
    """Each submitted job takes the next attempt of the script."""

    name = "scripted"

    def __init__(self, *script: Attempt) -> None:
        self.script = list(script)
        self.jobs: list[Job] = []
        self.orders: list[Order] = []
        self.said: list[str] = []  # submit, stop and their jobs, in their order
        self.away = False
        self._begun: dict[str, tuple[Job, Attempt]] = {}
        self._stopped: set[str] = set()

    async def submit(self, job: Job) -> None:
        self._answer()
        folder, attempt = WorkFolder(job.folder), self.script.pop(0)
        order = msgspec.json.decode(folder.order.read_bytes(), type=Order)
        self.jobs.append(job)
        self.orders.append(order)
        self.said.append(f"submit {job.job_id}")
        self._begun[job.job_id] = job, attempt
        attempt.first(folder)
        self._say(folder, order.attempt, attempt.says)

    async def poll(self, job_id: str) -> Ended | None:
        self._answer()
        if job_id not in self._begun:
            return Ended(exit_code=None, said="nobody knows it")
        job, attempt = self._begun[job_id]
        if attempt.ends is not None:
            return attempt.ends
        if job_id in self._stopped:
            return Ended(exit_code=-9, said="signal 9")
        folder = WorkFolder(job.folder)
        if attempt.heeds_stop and folder.stop.exists():
            self._say(folder, int(job_id.rpartition("-")[2]), [line("stopped", "stopped after step 3")])
            return Ended(exit_code=75, said="exit code 75")
        return None

    async def stop(self, job_id: str) -> None:
        self._answer()
        self.said.append(f"stop {job_id}")
        self._stopped.add(job_id)

    async def logs(self, job_id: str, *, last_bytes: int) -> str:
        return f"output of {job_id}"

    def _answer(self) -> None:
        if self.away:
            raise LauncherAway("nobody answers")

    def _say(self, folder: WorkFolder, attempt: int, lines: Sequence[Line]) -> None:
        speaker = Speaker(folder.progress(attempt))
        for said in lines:
            speaker.say(said.kind, said.message, **said.data)
        speaker.close()


def line(kind: Kind, message: str, **data: Any) -> Line:
    """Something that a worker says."""
    return Line(ts_ms=1, kind=kind, message=message, data=data)
