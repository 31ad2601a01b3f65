"""Processes that publish a dataset and are killed at a step of it. On stdin: JSON, a list of [folder, registry URL, step]."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fakes.curator_api import running_api, tagged
from sqlalchemy import Connection, Engine, event

from tunemill.curator_api import relay
from tunemill.curator_api.store import Files
from tunemill.registry import outbox

LOGS = [tagged(f"l{n}", f"question {n}", ts_ms=n) for n in range(20)]
IS_PUBLISHED = {  # step -> whether the version is there afterwards
    "before the parts": False,
    "inside a part": False,  # the file is half written
    "after the parts": False,
    "inside the manifest": False,
    "after the manifest": False,
    "before the commit": False,
    "at the commit of the version": True,  # before anything else is written
    "after the commit": True,
    "after the bus took the event": True,
    "before the event is marked as sent": True,
}


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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def put(self, path: str, content: bytes) -> str:
        self._before(path)
        url = self._files.put(path, content)
        if self._step == "after the manifest" and "/manifests/" in path:
            die()
        return url

    def put_many(self, contents: Mapping[str, bytes]) -> int:
        for path in contents:
            self._before(path)
        return self._files.put_many(contents)

    def _before(self, path: str) -> None:
        is_part, is_manifest = "/parts/" in path, "/manifests/" in path
        if (self._step == "before the parts" and is_part) or (self._step == "after the parts" and is_manifest):
            die()
        if (self._step == "inside a part" and is_part) or (self._step == "inside the manifest" and is_manifest):
            os.fsync = die_half_written


async def main(folder: Path, registry_url: str, step: str) -> None:
    if step == "after the commit":
        relay.LOOK_EVERY_S = 3600.0  # what was committed waits for the next process
    if step == "before the event is marked as sent":
        outbox._mark_sent = lambda *_: die()
    async with running_api(folder, *LOGS, registry_url=registry_url) as api:
        app: Any = api.client._transport.app  # type: ignore[attr-defined]
        await api.client.post("/v1/datasets", json={"name": "math", "query": ""})
        curator = app.state.curator
        dying: Any = DyingFiles(curator.files, step)
        object.__setattr__(curator, "files", dying)
        if step == "before the commit":
            event.listen(api.registry, "commit", lambda _connection: die())
        if step == "at the commit of the version":
            _die_when_a_version_is_committed(api.registry)
        if step == "after the bus took the event":
            _die_after_publishing(api.bus)
        answer = await api.client.post("/v1/datasets/math/versions", json={"recipe": {"method": "lora"}})
        assert answer.status_code == 201, answer.text
        if step == "after the commit":
            die()
        await asyncio.sleep(60)  # the relay is on its way to its step


def _die_when_a_version_is_committed(registry: Engine) -> None:
    """As soon as the connection that wrote the version is given back, its transaction over."""
    wrote: set[int] = set()

    def note(connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lower().startswith("insert into versions"):
            wrote.add(id(connection.connection.dbapi_connection))

    def given_back(dbapi_connection: Any, _record: Any) -> None:
        if id(dbapi_connection) in wrote:
            die()

    event.listen(registry, "after_cursor_execute", note)
    event.listen(registry, "checkin", given_back)


def _die_after_publishing(bus: Any) -> None:
    publish = bus.publish

    async def publish_and_die(*arguments: Any) -> None:
        await publish(*arguments)
        die()

    bus.publish = publish_and_die


def signal_of_child(folder: Path, registry_url: str, step: str) -> int:
    """Publish in a process of its own, and say by which signal it ended; 0: it was not killed."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(main(folder, registry_url, step))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


if __name__ == "__main__":
    for folder, registry_url, step in json.load(sys.stdin):
        assert signal_of_child(Path(folder), registry_url, step) == signal.SIGKILL, step
