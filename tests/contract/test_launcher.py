"""What every launcher promises: a job is started once, followed to its end, ended when asked, and its output can be read."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.http_server import Answer, serving
from fakes.ray_jobs import ray_jobs

from tunemill.trainer.errors import LauncherAway
from tunemill.trainer.launch import LOCAL, Ended, Job, Launcher, open_launcher
from tunemill.trainer.launch_local import LocalLauncher

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["local", "ray"])
def launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    if request.param == "local":
        yield open_launcher(LOCAL)
    else:
        with ray_jobs() as cluster:
            yield open_launcher(cluster.url)


def job(tmp_path: Path, code: str, job_id: str = "r-1", **env: str) -> Job:
    return Job(
        job_id=job_id,
        argv=(sys.executable, "-c", code),
        env=env,
        folder=tmp_path,
        devices=1,
        log=tmp_path / "worker.log",
    )


async def end(launcher: Launcher, job_id: str = "r-1") -> Ended:
    while (ended := await launcher.poll(job_id)) is None:  # noqa: ASYNC110 - the port has no event
        await asyncio.sleep(0.02)
    return ended


async def test_a_job_is_followed_to_its_end_and_its_output_read(launcher: Launcher, tmp_path: Path) -> None:
    given = job(tmp_path, "import os, sys; print('x' * 500); print(os.environ['SLOT']); sys.exit(3)", SLOT="seven")
    await launcher.submit(given)

    ended = await end(launcher)
    assert (ended.exit_code, ended.out_of_memory) == (3, False)
    assert "3" in ended.said
    assert await launcher.logs("r-1", last_bytes=8) == "x\nseven\n"
    assert (await end(launcher)).exit_code == 3, "it is told as often as one asks"


async def test_the_same_job_again_is_the_same_job(launcher: Launcher, tmp_path: Path) -> None:
    given = job(tmp_path, f"open({str(tmp_path / 'began')!r}, 'a').write('!')")
    await launcher.submit(given)
    await launcher.submit(given)
    await end(launcher)
    await launcher.submit(given)
    await end(launcher)

    assert (tmp_path / "began").read_text() == "!"


async def test_a_job_is_ended_and_only_gone_when_it_is_said_to_be(launcher: Launcher, tmp_path: Path) -> None:
    await launcher.submit(job(tmp_path, "import time; time.sleep(600)"))
    assert await launcher.poll("r-1") is None
    await launcher.stop("r-1")
    await launcher.stop("r-1")

    assert (await end(launcher)).exit_code != 0


async def test_a_job_that_nobody_knows_has_ended(launcher: Launcher) -> None:
    await launcher.stop("r-9")
    assert await launcher.poll("r-9") is not None


async def test_the_kernels_kills_for_memory_are_told(tmp_path: Path) -> None:
    counted = tmp_path / "memory.events"
    counted.write_text("oom 1\noom_kill 4\n")
    launcher = LocalLauncher(counted)
    await launcher.submit(job(tmp_path, "import os; os.kill(os.getpid(), 9)"))
    counted.write_text("oom 2\noom_kill 5\n")
    await launcher.submit(job(tmp_path, "import os; os.kill(os.getpid(), 9)", "r-2"))

    told = [await end(launcher, name) for name in ("r-1", "r-2")]
    assert [(ended.exit_code, ended.out_of_memory) for ended in told] == [(-9, True), (-9, False)]


async def test_a_cluster_is_asked_for_what_the_url_says(tmp_path: Path) -> None:
    with ray_jobs() as cluster:
        await open_launcher(cluster.url).submit(job(tmp_path, "", "g-1"))
        await open_launcher(f"{cluster.url}?device=cpu").submit(job(tmp_path, "", "c-1"))

        assert cluster.submitted["g-1"]["entrypoint_num_gpus"] == 1
        assert "entrypoint_num_gpus" not in cluster.submitted["c-1"]
        assert cluster.submitted["c-1"]["entrypoint_num_cpus"] == 1


async def test_a_cluster_that_asks_for_a_token_gets_the_one_of_rays_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ray_jobs() as cluster:
        cluster.token = "secret"
        with pytest.raises(LauncherAway, match="status 401"):
            await open_launcher(cluster.url).submit(job(tmp_path, ""))
        monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
        await open_launcher(cluster.url).submit(job(tmp_path, ""))
        assert "r-1" in cluster.submitted


async def test_a_cluster_that_is_away_is_told_apart_from_a_job_that_has_ended(tmp_path: Path) -> None:
    with ray_jobs() as cluster:
        launcher = open_launcher(cluster.url)
    for call in (launcher.submit(job(tmp_path, "")), launcher.poll("r-1"), launcher.stop("r-1")):
        with pytest.raises(LauncherAway):
            await call


async def test_a_page_in_place_of_a_job_server_is_no_answer() -> None:
    with serving(lambda _asked: Answer(200, b"<html>")) as server:
        launcher = open_launcher(f"ray+{server.url}")
        for call in (launcher.poll("r-1"), launcher.logs("r-1", last_bytes=8)):
            with pytest.raises(LauncherAway, match="no job server"):
                await call


@pytest.mark.parametrize("url", ["", "slurm:", "ray+http://", "ray+ftp://x:1", "ray+http://x:1?device=tpu"])
def test_a_url_that_no_launcher_has_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="say "):
        open_launcher(url)
