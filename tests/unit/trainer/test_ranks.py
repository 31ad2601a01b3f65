"""Two processes train as one does: the same losses, and a checkpoint that either goes on from."""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec
import peft  # noqa: F401  # once here, and not in each process that is forked
import pytest
import torch
from fakes.tiny_model import publish_dataset, tickets
from torch.distributed import set_timeout
from torch.multiprocessing import start_processes

from tunemill.trainer.errors import InvalidRun, Stopped
from tunemill.trainer.forward import isolates_rows
from tunemill.trainer.job import Line, Listener, Order, WorkFolder
from tunemill.trainer.model import load_model, load_tokenizer
from tunemill.trainer.ranks import Ranks, join, leave, spread
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import render
from tunemill.trainer.train import StepMetrics, train

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of a process that has started threads
STEPS = 6
KNOBS = {
    "precision": "fp32",
    "rows_per_step": 4,
    "checkpoint_steps": 2,
    "learning_rate": 5e-3,
    "tokens_per_forward": 64,
    "max_steps": STEPS,
}


def loop(rank: int, world: int, recipe: Recipe, stop_after: int, folder: Path, environment: dict[str, str]) -> None:
    """One rank of a run of the loop; the first keeps the metrics."""
    os.environ |= environment | {"RANK": str(rank)}
    ranks = join(world)
    base = Path(recipe.base)
    model = load_model(recipe, base)
    spread(model, recipe, ranks)
    metrics: list[StepMetrics] = []
    with suppress(Stopped):
        train(
            model,
            render(tickets(12), load_tokenizer(base)).examples,
            recipe,
            folder / "checkpoints",
            packed=isolates_rows(model),  # rows went through it before, without gradients, as when it is measured
            autocast=None,
            on_step=metrics.append,
            should_stop=lambda: rank == 0 and len(metrics) == stop_after,  # who else is asked does not count
            ranks=ranks,
        )
    if rank == 0:
        (folder / "metrics.json").write_bytes(msgspec.json.encode(metrics))
    leave(ranks)


def meeting(world: int) -> dict[str, str]:
    """Where so many processes find one another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def speak_late(rank: int, world: int, environment: dict[str, str]) -> None:
    """A first rank that is long at something else, and torch's patience at its end."""
    os.environ |= environment | {"RANK": str(rank)}
    ranks = join(world)
    set_timeout(timedelta(seconds=0.5))  # torch gives up after 30 minutes
    if rank == 0:
        time.sleep(1.5)
    assert ranks.first_says("written" if rank == 0 else "") == "written"
    if rank == 0:
        time.sleep(1.5)
    assert ranks.each_says(rank) == [0, 1]
    leave(ranks)


def losses(world: int, recipe: Recipe, folder: Path, *, stop_after: int = -1) -> list[tuple[float, float]]:
    """Train with so many processes; loss and length of the gradient by step."""
    folder.mkdir(exist_ok=True)
    arguments = (world, recipe, stop_after, folder, meeting(world))
    start_processes(loop, arguments, nprocs=world, start_method="fork")
    metrics = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=list[StepMetrics])
    return [(step.loss, step.grad_norm) for step in metrics]


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_two_processes_train_as_one_does(tiny_base: Path, tmp_path: Path, method: str) -> None:
    recipe = resolve({"method": method, "base": str(tiny_base), **KNOBS})
    alone = losses(1, recipe, tmp_path / "alone")

    begun = losses(2, recipe, tmp_path / "together", stop_after=3)
    one_goes_on = losses(1, recipe, tmp_path / "together")

    assert len(alone) == STEPS
    for mine, theirs in zip(begun + one_goes_on, alone, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    assert alone[-1][0] < alone[0][0] - 0.1, "something was learnt, else equal losses would prove nothing"


def test_the_distance_from_the_base_and_dropout_are_the_ranks_together(tiny_base: Path, tmp_path: Path) -> None:
    """Dropout draws otherwise on each rank, but both go on to what they would have come to."""
    knobs = {**KNOBS, "kl_to_base": 0.1, "dropout": 0.2}
    recipe = resolve({"method": "lora", "base": str(tiny_base), **knobs})
    whole = losses(2, recipe, tmp_path / "whole")

    broken = losses(2, recipe, tmp_path / "broken", stop_after=3)
    broken += losses(2, recipe, tmp_path / "broken")

    assert broken == whole


def test_the_others_wait_for_a_rank_that_is_long_at_something_else() -> None:
    start_processes(speak_late, (2, meeting(2)), nprocs=2, start_method="fork")


def test_ranks_share_a_steps_bins_and_go_through_the_model_equally_often() -> None:
    bins = [[0, 1], [2], [3, 4], [5], [6]]
    shares = [Ranks(rank, 3).share(bins) for rank in range(3)]

    assert [len(share) for share in shares] == [2, 2, 2]
    assert sorted(row for share in shares for rows, counts in share for row in rows if counts) == list(range(7))
    assert shares[2][1] == ([6], False)
    assert Ranks().share(bins) == [(rows, True) for rows in bins]


def test_a_second_whole_model_is_not_held_by_several_ranks(tiny_base: Path) -> None:
    recipe = resolve({"method": "full", "base": str(tiny_base), "kl_to_base": 0.1})

    with pytest.raises(InvalidRun, match="one device"):
        spread(torch.nn.Linear(2, 2), recipe, Ranks(0, 2))


def test_torchrun_makes_the_artefact_of_one_worker(tiny_base: Path, tmp_path: Path) -> None:
    """The worker by itself, and the worker as two ranks under torchrun: the same losses, before, while and after training."""
    url, digest = publish_dataset(tmp_path / "files", "tickets", {"train": tickets(24), "test": tickets(6, start=500)})
    knobs = {"eval_generate_rows": 2, "max_new_tokens": 4, "replay_share": 0.0, "gates": {"retention_reject": 100.0}}

    def ended(devices: int) -> list[Line]:
        folder = WorkFolder(tmp_path / f"full-{devices}")
        folder.path.mkdir()
        order = Order(
            run_id="run-1",
            attempt=1,
            project="default",
            name="tickets",
            version=1,
            digest=digest,
            manifest_url=url,
            recipe=resolve({"method": "full", "base": str(tiny_base), **KNOBS, **knobs}),
            devices=devices,
            lease_s=600.0,  # nobody watches
        )
        folder.order.write_bytes(msgspec.json.encode(order))
        folder.alive.touch()
        command = [sys.executable, "-P", "-m", "tunemill.trainer.worker", str(folder.path), str(os.getpid())]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return Listener(folder.progress(1)).lines()

    alone, together = ended(1), ended(2)

    def steps(lines: list[Line]) -> list[float]:
        return [line.data["loss"] for line in lines if line.kind == "metrics"]

    assert steps(together) == pytest.approx(steps(alone), rel=1e-5)
    assert len(steps(alone)) == STEPS
    for when in ("before", "after"):
        mine, theirs = (lines[-1].data["result"][when]["loss"] for lines in (together, alone))
        assert mine == pytest.approx(theirs, rel=1e-5)
    files = [{path.name for path in (tmp_path / f"full-{n}" / "artefact").iterdir()} for n in (1, 2)]
    assert files[0] == files[1]
