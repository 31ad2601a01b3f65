"""Which run is next, how many run at a time, and on which devices."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.scripted_launcher import Attempt, ScriptedLauncher
from sqlalchemy import select

from tunemill.bus.open import open_bus
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import runs
from tunemill.trainer.claim import claim_next, insert_run
from tunemill.trainer.recipe import resolve, spelled
from tunemill.trainer.service import Fleet, gpus, open_fleet, run_trainer, slot_environments

pytestmark = pytest.mark.timeout(60)


class Place:
    """A bus, a registry and a launcher whose workers run until they are stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = open_bus(f"sqlite:{folder / 'bus.db'}")
        self.engine = open_registry(f"sqlite:///{folder / 'registry.db'}")
        self.launcher = ScriptedLauncher(*[Attempt(ends=None) for _ in range(9)])

    def add(self, run_id: str, *, priority: int = 0, created_ms: int = 1) -> None:
        recipe = spelled(resolve({"method": "lora", "base": "/models/x"}))
        values = {"run_id": run_id, "run_key": run_id, "project": "default", "name": "d", "version": 1, "digest": "a"}
        values |= {"manifest_url": "m", "recipe": recipe, "status": "queued", "attempt": 0, "event_seq": 0}
        insert_run(self.engine, values | {"created_ms": created_ms, "priority": priority}, "added")

    @asynccontextmanager
    async def trainer(self, *slots: dict[str, str]) -> AsyncIterator[None]:
        stop, fleet = asyncio.Event(), Fleet(launcher=self.launcher, slots=slots, devices=1)
        work = self.folder / "work"
        serving = asyncio.create_task(run_trainer(self.bus, self.engine, "files", work, stop=stop, fleet=fleet))
        try:
            yield
        finally:
            stop.set()
            await serving

    async def until(self, so: Callable[[], Any]) -> None:
        while not so():  # noqa: ASYNC110 - what is waited for lies in other tasks
            await asyncio.sleep(0.01)

    def statuses(self) -> dict[str, str]:
        with self.engine.connect() as connection:
            return {row.run_id: row.status for row in connection.execute(select(runs.c.run_id, runs.c.status))}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    migrate(place.engine)
    yield place
    await place.bus.close()
    place.engine.dispose()


async def test_a_run_of_higher_priority_comes_before_an_older_one(place: Place) -> None:
    place.add("old", created_ms=1)
    place.add("urgent", priority=5, created_ms=9)
    place.add("older", priority=-1, created_ms=0)

    claims = [claim_next(place.engine, "us", lease_ms=60_000) for _ in range(3)]
    assert [claim.run_id for claim in claims if claim is not None] == ["urgent", "old", "older"]


async def test_two_slots_work_on_two_runs_each_with_its_own_devices(place: Place) -> None:
    for name in ("r1", "r2", "r3"):
        place.add(name)
    async with place.trainer({"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}):
        await place.until(lambda: len(place.launcher.jobs) == 2)
        statuses = place.statuses()

    assert sorted(statuses.values()) == ["preparing", "preparing", "queued"]
    assert {job.env["CUDA_VISIBLE_DEVICES"] for job in place.launcher.jobs} == {"0,1", "2,3"}
    assert set(place.statuses().values()) == {"queued"}, "shut down, all of them wait for the next trainer"


async def test_while_no_worker_can_be_started_the_queue_waits_and_goes_on_afterwards(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunemill.trainer.service._BACK_OFF_S", (0.05, 0.05))
    place.launcher.away = True
    place.add("r1")
    async with place.trainer({}):
        await asyncio.sleep(0.2)
        assert not place.launcher.jobs
        place.launcher.away = False
        await place.until(lambda: place.launcher.jobs)


@pytest.mark.parametrize(
    ("found", "slots", "devices", "environments"),
    [
        ([], None, 1, [None]),
        ([], 3, 2, [None, None, None]),
        (["0", "1", "2"], None, 1, ["0", "1", "2"]),
        (["0", "1", "2"], None, 2, ["0,1"]),
        (["4", "GPU-7"], 1, 1, ["4"]),
    ],
)
def test_a_slot_has_devices_of_its_own(
    found: list[str], slots: int | None, devices: int, environments: list[str | None]
) -> None:
    got = [environment.get("CUDA_VISIBLE_DEVICES") for environment in slot_environments(found, slots, devices)]
    assert got == environments


@pytest.mark.parametrize(("slots", "devices"), [(3, 1), (1, 3), (None, 3)])
def test_slots_that_want_more_gpus_than_there_are_are_refused(slots: int | None, devices: int) -> None:
    with pytest.raises(ValueError, match="GPUs than the 2"):
        slot_environments(["0", "1"], slots, devices)


def test_the_gpus_that_an_operator_gave_this_process_are_the_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert gpus() == ["2", "5"]
    assert [*open_fleet(devices=2).slots] == [{"CUDA_VISIBLE_DEVICES": "2,5"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
    assert len(open_fleet("ray+http://head:8265", 4).slots) == 4
