"""Several trainers on one queue, several devices for one run, and what is left when a trainer is killed."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from fakes import trainer_process
from fakes.trainer_place import Place, at_step, ended, opened_place, workers
from msgspec.structs import replace

from tunemill.trainer.job import Line, Listener, Order, Speaker, WorkFolder
from tunemill.trainer.service import open_fleet

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc"),
]

LEASE_S = 2.0


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened_place(tmp_path) as place:
        yield place


@contextmanager
def trainer_process_of(place: Place, devices: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, trainer_process.__file__, str(place.folder), str(LEASE_S), str(devices)]
    with (place.folder / "trainers.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def loss_by_step(place: Place) -> dict[int, float]:
    """The newest attempt's say counts."""
    metrics = [event["data"] for event in place.events() if event["type"] == "metrics"]
    return {told["step"]: told["loss"] for told in metrics}


def one_device_alone(place: Place, path: Path) -> list[Line]:
    """What a worker says of the same order on one device, in this process: another would cost seconds."""
    from tunemill.trainer.attempt import run

    folder = WorkFolder(path)
    folder.say_alive()
    given = msgspec.json.decode(place.work_folder().order.read_bytes(), type=Order)
    with closing(Speaker(folder.progress(1))) as speaker:
        run(replace(given, devices=1), folder, speaker, lambda: False)
    return Listener(folder.progress(1)).lines()


async def test_the_run_of_a_killed_trainer_is_taken_over_and_ended_by_another(place: Place) -> None:
    with trainer_process_of(place) as one, trainer_process_of(place) as other:
        await place.order(max_steps=400, eval_generate_rows=2)
        await place.until(at_step(8))
        (worker,) = workers(place)
        killed = next(process for process in (one, other) if process.pid == parent(worker))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        run = await place.until(ended)

    assert (run["status"], run["attempt"], run["error"]) == ("succeeded", 2, None)
    assert any("its trainer had gone silent" in event["message"] for event in place.events())
    steps = [event["data"]["step"] for event in place.events() if event["type"] == "metrics"]
    assert (steps.count(steps[0]), steps[-1]) == (1, 400), "it went on from a checkpoint"
    assert workers(place) == []


async def test_two_devices_train_as_one_does_and_die_with_their_trainer(place: Place, tmp_path: Path) -> None:
    recipe = {"max_steps": 40, "eval_generate_rows": 2, "checkpoint_steps": 4}
    with trainer_process_of(place, devices=2) as trainer:
        await place.order(**recipe)
        await place.until(at_step(6))
        assert len(workers(place)) == 3, "torchrun and its two ranks"
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
        while workers(place):  # noqa: ASYNC110 - the kernel ends them
            await asyncio.sleep(0.02)
    async with place.trainer(open_fleet(devices=2)):
        run = await place.until(ended)

    alone = one_device_alone(place, tmp_path / "alone")
    assert (run["attempt"], run["status"]) == (2, alone[-1].message)
    two, one = loss_by_step(place), {line.data["step"]: line.data["loss"] for line in alone if line.kind == "metrics"}
    assert two.keys() == one.keys()
    assert max(abs(two[step] - one[step]) for step in one) < 1e-4
    assert run["result"]["after"]["loss"] == pytest.approx(alone[-1].data["result"]["after"]["loss"], abs=1e-4)
