"""Versions on an S3 bucket: the same as in a folder, whole under two publishers at once, and opened by the trainer."""

import asyncio
import hashlib
import threading
from pathlib import Path
from typing import Any

import httpx
from fakes.curator_api import Running, running_api, tagged

from tunemill.curator_api.store import Files
from tunemill.trainer.dataset import open_dataset

OURS = [tagged(f"a{n}", f"question {n}", ts_ms=n) for n in range(60)]
THEIRS = [tagged(f"b{n}", f"another question {n}", ts_ms=n) for n in range(40)]


class Meeting:
    """`Files` whose writers of a first manifest wait for one another, so that both have written when either commits."""

    def __init__(self, files: Files, barrier: threading.Barrier) -> None:
        self._files, self._barrier = files, barrier
        self._has_met = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def put(self, path: str, content: bytes) -> str:
        url = self._files.put(path, content)
        if "/manifests/" in path and not self._has_met:
            self._has_met = True
            self._barrier.wait(timeout=60)
        return url


def meet(*places: Running) -> None:
    barrier = threading.Barrier(len(places))
    for place in places:
        curator = place.client._transport.app.state.curator  # type: ignore[attr-defined]
        meeting: Any = Meeting(curator.files, barrier)
        object.__setattr__(curator, "files", meeting)


async def publish(place: Running) -> httpx.Response:
    return await place.client.post("/v1/datasets/math/versions", json={})


async def is_whole(place: Running, version: int) -> bool:
    found = await place.client.get(f"/v1/datasets/math/versions/{version}/verify")
    assert found.is_success, found.text
    return bool(found.json()["ok"])


async def test_a_version_on_a_bucket_is_that_of_a_folder_and_the_trainer_opens_it(tmp_path: Path, bucket: str) -> None:
    digests = []
    for name, files_url in (("folder", None), ("bucket", bucket)):
        (tmp_path / name).mkdir()
        async with running_api(tmp_path / name, *OURS, files_url=files_url) as place:
            await place.client.post("/v1/datasets", json={"name": "math", "query": ""})
            version = (await publish(place)).json()
            assert await is_whole(place, 1)
            opened = await asyncio.to_thread(open_dataset, version["manifest_url"], version["digest"])
            assert len(opened.train) + len(opened.test) == len(OURS)
            digests.append(version["digest"])
    assert digests[0] == digests[1]


async def test_of_two_publishers_one_wins_and_both_leave_whole_files(tmp_path: Path, bucket: str) -> None:
    """Each has logs of its own; they share the registry and the bucket."""
    registry_url = f"sqlite:///{tmp_path / 'registry.db'}"
    (tmp_path / "theirs").mkdir()
    async with (
        running_api(tmp_path, *OURS, files_url=bucket) as ours,
        running_api(tmp_path / "theirs", *THEIRS, registry_url=registry_url, files_url=bucket) as theirs,
    ):
        await ours.client.post("/v1/datasets", json={"name": "math", "query": ""})
        meet(ours, theirs)
        answers = await asyncio.gather(publish(ours), publish(theirs))
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        (refused,) = (answer.json() for answer in answers if answer.status_code == 409)
        assert refused["type"].endswith("published-meanwhile")
        loser = next(place for place, answer in zip((ours, theirs), answers, strict=True) if answer.status_code == 409)
        again = await publish(loser)
        assert (again.status_code, again.json()["version"]) == (201, 2)
        assert await is_whole(ours, 1)
        assert await is_whole(ours, 2)
    _every_file_is_what_its_name_says(Files(bucket))


async def test_of_two_publishers_of_the_same_one_is_told_so(tmp_path: Path, bucket: str) -> None:
    registry_url = f"sqlite:///{tmp_path / 'registry.db'}"
    (tmp_path / "theirs").mkdir()
    async with (
        running_api(tmp_path, *OURS, files_url=bucket) as ours,
        running_api(tmp_path / "theirs", *OURS, registry_url=registry_url, files_url=bucket) as theirs,
    ):
        await ours.client.post("/v1/datasets", json={"name": "math", "query": ""})
        meet(ours, theirs)
        answers = await asyncio.gather(publish(ours), publish(theirs))
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        assert len((await ours.client.get("/v1/datasets/math")).json()["versions"]) == 1
        assert await is_whole(ours, 1)


def _every_file_is_what_its_name_says(files: Files) -> None:
    named = [path for path in files.list("datasets") if "/parts/" in path or "/manifests/" in path]
    assert len(named) > 4
    for path in named:
        assert hashlib.sha256(files.read(path)).hexdigest() == Path(path).stem
