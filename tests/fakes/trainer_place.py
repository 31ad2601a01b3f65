"""Everything that a trainer needs on the embedded engines, in a folder: bus, registry, files, a dataset and a tiny model."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fakes.tiny_model import publish_dataset, save_tiny_model, tickets
from sqlalchemy import select

from tunemill.bus.open import open_bus
from tunemill.bus.port import Outgoing
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import run_events, runs
from tunemill.schemas import wire
from tunemill.schemas.records import DatasetReady, RunStatus
from tunemill.schemas.topics import DATASETS_READY, RUNS_STATUS, TOPICS
from tunemill.trainer.job import WorkFolder
from tunemill.trainer.service import LEASE_S, Fleet, run_trainer

os.environ["OMP_NUM_THREADS"] = "1"  # tiny matrices: a second thread only waits for the first; workers inherit it


class Place:
    """A data folder with a bus, a registry, files and a base model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = open_bus(f"sqlite:{folder / 'bus.db'}")
        self.engine = open_registry(f"sqlite:///{folder / 'registry.db'}")
        texts = [message["content"] for row in tickets(60) for message in row["messages"]]
        self.base = save_tiny_model(folder / "base", texts)

    async def order(self, *, event_id: str = "e1", **recipe: Any) -> None:
        """Publish a dataset and its event."""
        event = self.event(event_id=event_id, **recipe)
        await self.bus.publish(DATASETS_READY, [Outgoing(wire.encode(event), key="tickets")])

    def event(self, *, event_id: str = "e1", **recipe: Any) -> DatasetReady:
        """Write a dataset; gives the event that says so and asks for a run."""
        rows = {"train": tickets(48), "test": tickets(12, start=300)}
        url, digest = publish_dataset(self.folder / "files", "tickets", rows)
        recipe = {
            "method": "lora",
            "base": str(self.base),
            "checkpoint_steps": 5,
            "rows_per_step": 4,
            "precision": "fp32",
            **recipe,
        }
        known = {"name": "tickets", "version": 1, "digest": digest, "manifest_url": url, "rows": 60}
        return DatasetReady(event_id=event_id, ts_ms=1, recipe=recipe, **known)

    @asynccontextmanager
    async def trainer(self, fleet: Fleet | None = None, lease_s: float = LEASE_S) -> AsyncIterator[None]:
        """A trainer that serves while the block runs, and is then shut down."""
        stop, files, work = asyncio.Event(), str(self.folder / "files"), self.folder / "work"
        serving = asyncio.create_task(
            run_trainer(self.bus, self.engine, files, work, stop=stop, lease_s=lease_s, fleet=fleet)
        )
        try:
            yield
        finally:
            stop.set()
            await serving

    async def until(self, what: Callable[[Any], bool]) -> Any:
        """The run, once it is so."""
        while True:
            found = self.run()
            if found is not None and what(found):
                return found
            assert not serving_failed(found), found["error"]
            await asyncio.sleep(0.02)

    def run(self) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(select(runs)).mappings().one_or_none()

    def events(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(run_events).order_by(run_events.c.seq)).mappings())

    def work_folder(self) -> WorkFolder:
        """Of the one run."""
        return WorkFolder(self.folder / "work" / str(self.run()["run_id"]))

    async def statuses(self) -> list[RunStatus]:
        """What was told on `runs.status`, oldest first."""
        messages = await self.bus.tail(RUNS_STATUS, limit=50)
        return [wire.decode(message.value, RunStatus) for message in reversed(messages)]


def serving_failed(run: Any) -> bool:
    return run is not None and run["status"] == "failed"


def at_step(step: int) -> Callable[[Any], bool]:
    return lambda run: (run["progress"] or {}).get("step", 0) >= step


def ended(run: Any) -> bool:
    return run["status"] in ("succeeded", "rejected", "failed", "cancelled")


def workers(place: Place) -> list[int]:
    """The processes that work on the runs of this place, by their ids."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            if str(place.folder / "work").encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return sorted(found)


@asynccontextmanager
async def opened_place(folder: Path) -> AsyncIterator[Place]:
    """A new place, until the block ends."""
    place = Place(folder)
    migrate(place.engine)
    await place.bus.create_topics(TOPICS)
    try:
        yield place
    finally:
        await place.bus.close()
        place.engine.dispose()
