"""Runs on a real Ray cluster of this machine, whose Python is another one than ours."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engines.ray import ray_head
from fakes.trainer_place import ended, opened_place

from tunemill.schemas.ids import new_id
from tunemill.trainer.claim import claim_next
from tunemill.trainer.doorbell import ring
from tunemill.trainer.job import STOPPED_EXIT, Line, Listener, WorkFolder
from tunemill.trainer.launch import Ended, Job, Launcher, open_launcher
from tunemill.trainer.service import open_fleet
from tunemill.trainer.supervise import Workshop, _job

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with ray_head() as url:
        yield f"ray+{url}?device=cpu"


def job(tmp_path: Path, name: str, code: str) -> Job:
    job_id = f"{new_id()}-{name}"  # a cluster keeps its jobs for good
    argv = (sys.executable, "-c", code)
    return Job(job_id=job_id, argv=argv, env={"SLOT": "seven"}, folder=tmp_path, devices=1, log=tmp_path / "log")


async def end(launcher: Launcher, given: Job) -> Ended:
    while (ended := await launcher.poll(given.job_id)) is None:  # noqa: ASYNC110 - the port has no event
        await asyncio.sleep(0.2)
    return ended


async def test_a_job_is_followed_and_a_second_submission_is_the_same_job(cluster: str, tmp_path: Path) -> None:
    launcher = open_launcher(cluster)
    code = f"import os, sys; open({str(tmp_path / 'began')!r}, 'a').write('!'); print(os.environ['SLOT']); sys.exit(3)"
    given = job(tmp_path, "followed", code)
    await launcher.submit(given)
    await launcher.submit(given)
    ended = await end(launcher, given)
    await launcher.submit(given)

    assert (ended.exit_code, ended.said) == (3, "status FAILED of its cluster, exit code 3")
    assert (tmp_path / "began").read_text() == "!"
    assert "seven" in await launcher.logs(given.job_id, last_bytes=1000)


async def test_a_job_that_is_stopped_is_followed_to_its_end(cluster: str, tmp_path: Path) -> None:
    launcher, pid = open_launcher(cluster), tmp_path / "pid"
    deaf = "import os, signal, time; signal.signal(15, signal.SIG_IGN); "
    given = job(tmp_path, "stopped", deaf + f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    await launcher.submit(given)
    await until(lambda: pid.exists() and pid.read_text())
    await launcher.stop(given.job_id)
    ended = await end(launcher, given)

    assert ended.said.startswith("status STOPPED")
    await until(lambda: not Path("/proc", pid.read_text()).exists())


async def test_what_the_cluster_never_had_has_ended(cluster: str) -> None:
    assert (await open_launcher(cluster).poll("never-1")) == Ended(exit_code=None, said="its cluster does not know it")


async def test_a_run_goes_its_whole_way_on_the_cluster(cluster: str, tmp_path: Path) -> None:
    async with opened_place(tmp_path) as place:
        await place.order(max_steps=8, learning_rate=5e-3, eval_generate_rows=2)
        async with place.trainer(open_fleet(cluster)):
            run = await place.until(ended)

    assert (run["status"], run["attempt"]) == ("succeeded", 1)
    assert run["launcher"] == f"ray {run['run_id']}-1"
    assert (Path(run["artefact_url"]) / "adapter_model.safetensors").exists()


async def test_a_worker_that_nobody_watches_stops_with_a_checkpoint(cluster: str, tmp_path: Path) -> None:
    async with opened_place(tmp_path) as place:
        ring(place.engine, place.event(max_steps=100_000, eval_generate_rows=2))
        claim = claim_next(place.engine, "us", lease_ms=60_000)
        assert claim is not None
        launcher, work = open_launcher(cluster), tmp_path / "work"
        shop = Workshop(engine=place.engine, launcher=launcher, work=work, files_url="files", lease_s=2.0)
        folder = WorkFolder(work / claim.run_id)
        given = _job(shop, claim, folder, {})
        await launcher.submit(given)
        said: list[Line] = []
        listener = Listener(folder.progress(1))

        def trains() -> bool:
            folder.say_alive()
            said.extend(listener.lines())
            return any(line.kind == "metrics" and line.data["step"] > 2 for line in said)

        await until(trains)
        ended = await end(launcher, given)

    assert ended.exit_code == STOPPED_EXIT
    assert listener.lines()[-1].kind == "stopped"
    assert list(folder.checkpoints.glob("step-*"))


async def until(so: Callable[[], Any]) -> None:
    while not so():  # noqa: ASYNC110 - what is waited for is told by files
        await asyncio.sleep(0.2)
