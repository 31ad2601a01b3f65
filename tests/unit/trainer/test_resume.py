"""A worker that is killed goes on to the same adapter, byte for byte."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from fakes.tiny_model import publish_dataset, tickets

from tunemill.trainer.attempt import run
from tunemill.trainer.job import STOPPED_EXIT, Line, Listener, Order, Speaker, WorkFolder
from tunemill.trainer.recipe import resolve

STEPS = 40


def order(tmp_path: Path, base: Path, attempt: int, dropout: float = 0.1) -> Order:
    url, digest = publish_dataset(tmp_path / "files", "tickets", {"train": tickets(40), "test": tickets(6, start=500)})
    knobs = {"rows_per_step": 4, "max_steps": STEPS, "checkpoint_steps": 3, "dropout": dropout, "learning_rate": 2e-3}
    knobs |= {"precision": "fp32"}  # fast enough for a tiny model on any machine
    return Order(
        run_id="run-1",
        attempt=attempt,
        project="default",
        name="tickets",
        version=1,
        digest=digest,
        manifest_url=url,
        recipe=resolve({"method": "lora", "base": str(base), **knobs}),
    )


def start(folder: WorkFolder, given: Order) -> subprocess.Popen[bytes]:
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.order.write_bytes(msgspec.json.encode(given))
    command = [sys.executable, "-P", "-m", "tunemill.trainer.worker", str(folder.path), str(os.getpid())]
    with folder.log(given.attempt).open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


def kill_at_step(folder: WorkFolder, given: Order, step: int) -> int:
    """Start the worker and kill it once it has told of this step; gives its exit code."""
    process = start(folder, given)
    listener, last = Listener(folder.progress(given.attempt)), 0
    while last < step and process.poll() is None:
        last = max([last, *(line.data["step"] for line in listener.lines() if line.kind == "metrics")])
        time.sleep(0.002)
    process.kill()
    return process.wait()


def finish(folder: WorkFolder, given: Order) -> list[Line]:
    """The rest of the run, in this process: starting another costs seconds and changes nothing."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with closing(Speaker(folder.progress(given.attempt))) as speaker:
        run(given, folder, speaker, lambda: False)
    return Listener(folder.progress(given.attempt)).lines()


def adapter_digest(folder: WorkFolder) -> str:
    return hashlib.sha256((folder.artefact / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_killed_twice_it_ends_as_if_nothing_had_happened(tiny_base: Path, tmp_path: Path) -> None:
    whole, broken, other = (WorkFolder(tmp_path / name) for name in ("whole", "broken", "other"))
    finish(whole, order(tmp_path, tiny_base, 1))
    finish(other, order(tmp_path, tiny_base, 1, dropout=0.2))

    assert kill_at_step(broken, order(tmp_path, tiny_base, 1), 4) == -signal.SIGKILL
    assert kill_at_step(broken, order(tmp_path, tiny_base, 2), 11) == -signal.SIGKILL
    lines = finish(broken, order(tmp_path, tiny_base, 3))

    steps = [line.data["step"] for line in lines if line.kind == "metrics"]
    assert steps[0] > 9, "it went on from a checkpoint of the second attempt"
    assert steps[-1] == STEPS
    assert adapter_digest(broken) == adapter_digest(whole)
    assert adapter_digest(other) != adapter_digest(whole), "else equal digests would prove nothing"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_worker_without_its_supervisor_does_nothing(tiny_base: Path, tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "orphan")
    folder.path.mkdir()
    folder.order.write_bytes(msgspec.json.encode(order(tmp_path, tiny_base, 1)))
    somebody_else = "1"
    command = [sys.executable, "-P", "-m", "tunemill.trainer.worker", str(folder.path), somebody_else]

    assert subprocess.run(command, check=False, capture_output=True).returncode == STOPPED_EXIT
    assert not folder.progress(1).exists()
