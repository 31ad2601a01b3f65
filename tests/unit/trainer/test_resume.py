"""A worker that is killed goes on to the same adapter, byte for byte."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import peft  # noqa: F401  # once here, and not in each process that is forked
import pytest
import torch
from fakes.tiny_model import publish_dataset, tickets

from tunemill.trainer import checkpoint
from tunemill.trainer.attempt import run
from tunemill.trainer.job import STOPPED_EXIT, Line, Listener, Order, Speaker, WorkFolder
from tunemill.trainer.model import load_model, load_tokenizer, trainable
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import render
from tunemill.trainer.train import StepMetrics, train

STEPS = 40
KILLS = 10


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
        lease_s=600.0,  # nobody watches
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


def test_a_damaged_checkpoint_is_said_and_costs_only_its_steps(tiny_base: Path, tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "damaged")
    finish(folder, order(tmp_path, tiny_base, 1))
    newest = max(folder.checkpoints.iterdir())
    (newest / "state.pt").write_bytes(b"")

    lines = finish(folder, order(tmp_path, tiny_base, 2))

    assert [line.data["damaged"] for line in lines if line.kind == "warn"] == [1]
    assert [line.data["step"] for line in lines if line.kind == "metrics"] == [STEPS], "39 is the multiple of 3 before"


def test_rows_that_would_see_one_another_go_alone_and_that_is_said(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = finish(WorkFolder(tmp_path / "packed"), order(tmp_path, tiny_base, 1, dropout=0.0))
    monkeypatch.setattr("tunemill.trainer.attempt.isolates_rows", lambda *_: False)
    alone = finish(WorkFolder(tmp_path / "alone"), order(tmp_path, tiny_base, 1, dropout=0.0))

    def losses(lines: list[Line]) -> list[float]:
        return [line.data["loss"] for line in lines if line.kind == "metrics"]

    assert not [line for line in packed if line.kind == "warn"]
    assert ["alone" in line.message for line in alone if line.kind == "warn"] == [True]
    assert losses(alone) == pytest.approx(losses(packed), abs=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_worker_without_its_supervisor_does_nothing(tiny_base: Path, tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "orphan")
    folder.path.mkdir()
    folder.order.write_bytes(msgspec.json.encode(order(tmp_path, tiny_base, 1)))
    somebody_else = "1"
    command = [sys.executable, "-P", "-m", "tunemill.trainer.worker", str(folder.path), somebody_else]

    assert subprocess.run(command, check=False, capture_output=True).returncode == STOPPED_EXIT
    assert not folder.progress(1).exists()


def loop(recipe: Recipe, folder: Path, kill_at: int) -> None:
    """The training loop in a process of its own, which kills itself after so many moments: a forward pass, a step, a file synced."""
    moments = 0

    def pass_moment(*_: Any) -> bool:
        nonlocal moments
        moments += 1
        if moments == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    def after(do: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (do(*given), pass_moment())

    def tell(metrics: StepMetrics) -> None:
        with (folder / "told.jsonl").open("a") as file:
            file.write(json.dumps([metrics.step, metrics.loss, metrics.grad_norm]) + "\n")

    checkpoint.sync = after(checkpoint.sync)
    model = load_model(recipe, Path(recipe.base))
    examples = render(tickets(12), load_tokenizer(Path(recipe.base))).examples
    on_step = after(tell)
    train(model, examples, recipe, folder, packed=True, autocast=None, on_step=on_step, should_stop=pass_moment)
    torch.save({name: p.detach() for name, p in trainable(model).items()}, folder / "end.pt")


def attempt(recipe: Recipe, folder: Path, kill_at: int = 0) -> int | None:
    """Its exit code; a fork of this process, which has imported everything already."""
    folder.mkdir(exist_ok=True)
    process = get_context("fork").Process(target=loop, args=(recipe, folder, kill_at))
    process.start()
    process.join()
    return process.exitcode


def told(folder: Path) -> list[tuple[int, float, float]]:
    return [tuple(json.loads(line)) for line in (folder / "told.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_killed_ten_times_anywhere_it_ends_at_the_same_bits(tiny_base: Path, tmp_path: Path, method: str) -> None:
    knobs = {
        "rows_per_step": 4,
        "tokens_per_forward": 100,
        "max_steps": STEPS,
        "checkpoint_steps": 3,
        "precision": "fp32",
    }
    extra = {"dropout": 0.1, "kl_to_base": 0.05} if method != "full" else {}
    recipe = resolve({"method": method, "base": str(tiny_base), "learning_rate": 2e-3, **knobs, **extra})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    draw = random.Random(method)

    assert attempt(recipe, whole) == 0
    for _ in range(KILLS):
        assert attempt(recipe, broken, kill_at=draw.randint(2, 40)) == -signal.SIGKILL
    assert attempt(recipe, broken) == 0

    steps = told(broken)
    resumed = sum(later <= earlier for (earlier, *_), (later, *_) in pairwise(steps))
    assert set(steps) == set(told(whole)), "each step, told again or not, is what it was"
    assert len(told(whole)) == STEPS
    assert resumed >= KILLS // 2, "most kills cost a step that had been told"
    ends = [torch.load(folder / "end.pt") for folder in (whole, broken)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
