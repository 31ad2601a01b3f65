"""A version is visible if and only if its event is sent, wherever the process that publishes it is killed, on both registries."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from engines.postgres import empty_database, postgres
from fakes.curator_api import Running, running_api
from fakes.publish_and_die import IS_PUBLISHED, LOGS
from sqlalchemy import func, select

from tunemill.registry import outbox
from tunemill.registry.tables import runs
from tunemill.schemas import wire
from tunemill.schemas.records import DatasetReady
from tunemill.schemas.topics import DATASETS_READY
from tunemill.trainer import doorbell

TESTS = Path(__file__).parents[1]
CASES = [(registry, step) for registry in ("sqlite", "postgresql") for step in IS_PUBLISHED]


@dataclass(frozen=True)
class Found:
    """What the next process finds, before and after it publishes once more."""

    versions: int  # that are visible when it starts
    again: int  # the status of publishing once more
    versions_after: int
    rows_exported: int
    events: int
    event_ids: int
    runs: int  # that the trainer makes of the events


Case = tuple[str, str]  # registry, step


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[Case, tuple[Path, str]]]:
    """For each case a folder and a registry on which a process that published was killed at that step."""
    with postgres() as server, ExitStack() as made:
        places: dict[Case, tuple[Path, str]] = {}
        for case in CASES:
            folder = tmp_path_factory.mktemp("crashed")
            is_file = case[0] == "sqlite"
            url = f"sqlite:///{folder / 'registry.db'}" if is_file else made.enter_context(empty_database(server))
            places[case] = folder, url
        orders = [[str(folder), url, step] for (_, step), (folder, url) in places.items()]
        subprocess.run(
            [sys.executable, str(TESTS / "fakes" / "publish_and_die.py")],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            input=json.dumps(orders).encode(),
            timeout=500,
            check=True,
        )
        yield places


@pytest.mark.parametrize("case", CASES, ids=" ".join)
async def test_a_kill_leaves_nothing_or_a_version_whose_event_is_sent(
    crashed: Mapping[Case, tuple[Path, str]], case: Case
) -> None:
    is_published = IS_PUBLISHED[case[1]]
    found = await _left(*crashed[case])
    assert found.versions == is_published
    assert found.again == (409 if is_published else 201)
    assert found.versions_after == 1
    assert found.rows_exported == len(LOGS)
    assert found.events in (1, 2)
    assert (found.event_ids, found.runs) == (1, 1)


async def _left(folder: Path, registry_url: str) -> Found:
    async with running_api(folder, *LOGS, registry_url=registry_url) as api:
        before = len((await api.client.get("/v1/datasets/math")).json()["versions"])
        again = await api.client.post("/v1/datasets/math/versions", json={"recipe": {"method": "lora"}})
        after = len((await api.client.get("/v1/datasets/math")).json()["versions"])
        export = await api.client.get("/v1/datasets/math/versions/1/export")
        events = await _events(api)
        for event in events:
            await asyncio.to_thread(doorbell.ring, api.registry, event)
        with api.registry.connect() as connection:
            made = connection.execute(select(func.count()).select_from(runs)).scalar_one()
        ids = len({event.event_id for event in events})
        return Found(before, again.status_code, after, len(export.text.splitlines()), len(events), ids, made)


async def _events(api: Running) -> list[DatasetReady]:
    """What the bus has when the relay has nothing left to send."""
    for _ in range(1_500):
        messages = await api.bus.tail(DATASETS_READY, limit=99)
        if messages and not outbox.pending(api.registry, [DATASETS_READY]):
            return [wire.decode(message.value, DatasetReady) for message in messages]
        await asyncio.sleep(0.02)
    raise TimeoutError("the event was never sent")
