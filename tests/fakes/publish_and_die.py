"""Processes that publish a dataset and are killed, each at another step of it: `python publish_and_die.py FOLDER`."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from fakes.curator_api import running_api, tagged
from sqlalchemy import event

from tunemill.curator_api import relay
from tunemill.curator_api.store import Files

LOGS = [tagged(f"l{n}", f"question {n}", ts_ms=n) for n in range(20)]
STEPS = (
    "before parts",
    "inside parts",  # the file is half written
    "after parts",
    "before provenance",
    "after provenance",
    "before manifests",
    "after manifests",
    "before commit",
    "after commit",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_written(file: int) -> None:
    """The power goes before the file is synced: half of it never reaches the disk."""
    os.ftruncate(file, os.fstat(file).st_size // 2)
    die()


class DyingFiles:
    """`Files` whose process dies at a step."""

    def __init__(self, files: Files, step: str) -> None:
        self._files, self._step = files, step

    def put(self, path: str, content: bytes) -> str:
        when, what = self._step.split()
        if what not in path:
            return self._files.put(path, content)
        if when == "inside":
            os.fsync = die_half_written
        if when == "before":
            die()
        url = self._files.put(path, content)
        if when == "after":
            die()
        return url


async def main(folder: Path, step: str) -> None:
    relay.LOOK_EVERY_S = 3600.0  # what was committed waits for the next process
    async with running_api(folder, *LOGS) as api:
        app: Any = api.client._transport.app  # type: ignore[attr-defined]
        await api.client.post("/v1/datasets", json={"name": "math", "query": ""})
        curator = app.state.curator
        dying: Any = DyingFiles(curator.files, step)
        object.__setattr__(curator, "files", dying)
        if step == "before commit":
            event.listen(api.registry, "commit", lambda _connection: die())
        answer = await api.client.post("/v1/datasets/math/versions", json={"recipe": {"method": "lora"}})
        assert answer.status_code == 201
        die()


def signal_of_child(folder: Path, step: str) -> int:
    """Publish in a process of its own, and say by which signal it ended; 0: it was not killed."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(main(folder, step))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


if __name__ == "__main__":
    for number, name in enumerate(STEPS):
        place = Path(sys.argv[1]) / str(number)
        place.mkdir()
        assert signal_of_child(place, name) == signal.SIGKILL, name
