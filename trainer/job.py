"""What passes between the supervisor and its worker process: the order, the progress lines, and the files of a run's work folder."""

import os
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from tunemill.trainer.identity import Identity
from tunemill.trainer.recipe import Recipe

STOPPED_EXIT = 75  # EX_TEMPFAIL of sysexits.h: stopped on request, the checkpoint is written
FAILED_EXIT = 1


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to do."""

    run_id: str
    attempt: int
    project: str
    name: str
    version: int
    digest: str
    manifest_url: str
    sources_url: str = ""  # where the version says which logs its rows came from; "" before it did
    revision: int | None = None  # of the version, which counts up when erased rows are taken out; None: nobody knows
    recipe: Recipe
    identity: Identity | None = None  # what the recipe named when the run was ordered
    squeeze: int = 0  # how often the tokens per forward pass are halved, after attempts that ran out of memory
    devices: int = 1
    lease_s: float = 60.0  # for how long a worker goes on that nobody has said to be watched


Kind = Literal["status", "metrics", "message", "warn", "done", "failed", "stopped"]


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing the worker says. `status` moves the run on, `warn` is a message of that level; `done`, `failed`, `stopped` end it."""

    ts_ms: int
    kind: Kind
    message: str
    data: dict[str, Any] = {}


class WorkFolder:
    """The paths in a run's work folder; it outlives its workers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.order = path / "order.json"
        self.checkpoints = path / "checkpoints"
        self.before = path / "before.json"
        self.artefact = path / "artefact"
        self.plan = path / "plan.json"
        self.replay = path / "replay.jsonl"  # the base model's own answers to the replay rows
        self.stop = path / "stop"  # there: stop after this forward pass, with a checkpoint
        self.tmp = path / "tmp"
        self.lock = path / "lock"  # held by the one worker that is at work here
        self.alive = path / "alive"  # touched while somebody keeps the run's lease

    def say_alive(self) -> None:
        """Tell the worker that the run is still watched."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.alive.touch()

    def answers(self, when: Literal["before", "after"]) -> Path:
        """The generated answers of an evaluation, as they come."""
        return self.path / f"answers-{when}.jsonl"

    def progress(self, attempt: int) -> Path:
        """What the worker of this attempt says."""
        return self.path / f"progress-{attempt}.jsonl"

    def log(self, attempt: int) -> Path:
        """The standard output and error of this attempt's worker."""
        return self.path / f"worker-{attempt}.log"


class Speaker:
    """The worker's side of the progress file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def say(self, kind: Kind, message: str, **data: Any) -> None:
        """Append one line."""
        line = Line(ts_ms=time.time_ns() // 1_000_000, kind=kind, message=message, data=data)
        self._file.write(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Nothing more will be said."""
        self._file.close()


class Listener:
    """The supervisor's side: whole lines only, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def lines(self) -> list[Line]:
        """What was said since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        return [_line(text) for text in whole.split(b"\n") if text]


def _line(text: bytes) -> Line:
    """What the worker said; of a line that is torn, that there was one."""
    try:
        return msgspec.json.decode(text, type=Line)
    except msgspec.DecodeError:
        said = "something that the worker said is torn: its disk may be full"
        return Line(ts_ms=time.time_ns() // 1_000_000, kind="warn", message=said)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old one or the new one."""
    unfinished = path.with_name(path.name + ".tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
