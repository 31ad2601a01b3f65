"""Processes that do a job, or take it back, and are killed, each at another step of its second page.

`python job_and_die.py FOLDER WAY before|after`, a way of STEPS: FOLDER holds a folder for each call, with engines that are closed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tunemill.curator_api import edit_store, job_runner, job_work, ledger, rules_job
from tunemill.curator_api import job_store as store
from tunemill.curator_api.job_work import Jobs
from tunemill.indexer.open import open_index
from tunemill.indexer.search import SearchIndex
from tunemill.registry.open import migrate, open_registry
from tunemill.streams.tagging import StreamTagging

STEPS = {  # what each calls on its way, in this order
    "apply": ("stored", "note_changes", "replace", "advance", "refresh", "finish"),
    "undo": ("changes_after", "stored", "renew", "replace", "advance", "refresh", "finish"),
    "tags": ("refresh", "recount", "edits_of", "renew", "stored", "record", "replace", "applied", "advance", "finish"),
    "untags": ("recount", "of_job", "edits_of", "renew", "stored", "record", "replace", "applied", "advance", "finish"),
    "delete": ("refresh", "erase_many", "count", "delete", "advance", "finish"),
}
CALLS: dict[Any, tuple[str, ...]] = {
    store: ("note_changes", "changes_after", "renew", "recount", "count", "advance", "finish"),
    edit_store: ("edits_of", "of_job", "record", "applied"),
    ledger: ("erase_many",),
}
PAGE = 7
LEASE_MS = 50


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingIndex:
    """An index whose process dies at a call of one method."""

    def __init__(self, index: SearchIndex, dying: Callable[[str], None]) -> None:
        self._index, self._dying = index, dying

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._index, name)
        if name not in {"stored", "replace", "refresh", "delete"}:
            return method

        async def called(*args: Any, **more: Any) -> Any:
            self._dying(f"before {name}")
            found = await method(*args, **more)
            self._dying(f"after {name}")
            return found

        return called


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Jobs]:
    """The embedded engines in this folder, as a backfill needs them."""
    index = open_index(f"local:{folder / 'index'}")
    is_new = not (folder / "registry.db").exists()
    registry = open_registry(f"sqlite:///{folder / 'registry.db'}")
    if is_new:
        migrate(registry)
    await index.setup()
    try:
        yield Jobs(index=index, registry=registry, tagging=StreamTagging(), project="default")
    finally:
        await index.close()
        registry.dispose()


def killed_at(folder: Path, step: str) -> bool:
    """Work on what there is in a process of its own, and say whether it was killed at this step."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(_work(folder, step))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


async def _work(folder: Path, step: str) -> None:
    job_work.PAGE, rules_job.SETTLE_S, store.LEASE_MS = PAGE, 0.0, LEASE_MS
    left = 1 if step.split()[1] in {"refresh", "recount", "finish"} else 2

    def dying(place: str) -> None:
        nonlocal left
        left -= place == step
        if not left:
            die()

    for module, names in CALLS.items():
        for name in names:
            setattr(module, name, _wrapped(getattr(module, name), name, dying))
    async with opened(folder) as on:
        mortal = Jobs(
            index=DyingIndex(on.index, dying),  # type: ignore[arg-type]
            registry=on.registry,
            tagging=on.tagging,
            project=on.project,
        )
        await job_runner.do_next(mortal, "mortal", asyncio.Event())


def _wrapped(function: Callable[..., Any], name: str, dying: Callable[[str], None]) -> Callable[..., Any]:
    def called(*args: Any, **more: Any) -> Any:
        dying(f"before {name}")
        found = function(*args, **more)
        dying(f"after {name}")
        return found

    return called


if __name__ == "__main__":
    place, way, when = sys.argv[1:]
    for call in STEPS[way]:
        assert killed_at(Path(place) / call, f"{when} {call}"), f"not killed {when} {call}"
