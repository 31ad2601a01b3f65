"""Policies of training: which new versions are trained on by themselves, and how often."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes.curator_api import Running, running_api, tagged
from sqlalchemy import insert, select, update

from tunemill.curator_api import training_due
from tunemill.curator_api.training_due import fire
from tunemill.registry.tables import audit, now_ms, outbox, training_policies
from tunemill.schemas import wire
from tunemill.schemas.records import DatasetReady
from tunemill.schemas.topics import DATASETS_READY

RECIPE = {"method": "lora", "base": "/models/b"}
LONG_S = 3_600


LOGS = [tagged(f"log-{number:02}", f"question {number}", f"answer {number}") for number in range(30)]


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """An API with a dataset, whose own task looks for what is due at its start only."""
    monkeypatch.setattr(training_due, "LOOK_EVERY_S", LONG_S)
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        yield api


async def start(api: Running) -> None:
    assert (await api.client.post("/v1/datasets", json={"name": "math", "query": ""})).status_code == 201


async def follow(api: Running, on: str = "version", *, quiet_s: int = LONG_S, **more: Any) -> dict[str, Any]:
    body = {"on": on, "recipe": RECIPE, "quiet_s": quiet_s, **more}
    answer = await api.client.put("/v1/datasets/math/training", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def publish(api: Running, number: int, **body: Any) -> None:
    await api.client.delete(f"/v1/datasets/math/rows/log-{number:02}")  # so that there is something new
    made = await api.client.post("/v1/datasets/math/versions", json=body)
    assert made.status_code == 201, made.text


def ordered(api: Running) -> list[DatasetReady]:
    """The events that ask for a run, oldest first."""
    with api.registry.connect() as connection:
        told = select(outbox.c.value).where(outbox.c.topic == DATASETS_READY.name).order_by(outbox.c.seq)
        events = [wire.decode(value, DatasetReady) for value in connection.execute(told).scalars()]
    return [event for event in events if event.recipe is not None]


def later(api: Running) -> None:
    """The quiet period is over."""
    with api.registry.begin() as connection:
        waits = training_policies.c.due_ms.is_not(None)
        connection.execute(update(training_policies).where(waits).values(due_ms=now_ms() - 1))


async def test_of_ten_versions_in_a_burst_the_last_is_trained_on_once(api: Running) -> None:
    await follow(api, priority=3)
    for number in range(10):
        await publish(api, number)
    assert fire(api.registry) == 0, "the quiet period is not over"
    assert (await api.client.get("/v1/datasets/math/training")).json()["due_version"] == 10
    later(api)
    assert [fire(api.registry) for _ in range(3)] == [1, 0, 0]
    (event,) = ordered(api)
    assert (event.version, event.recipe, event.priority) == (10, RECIPE, 3)
    latest = (await api.client.get("/v1/datasets/math/versions/latest")).json()
    assert event.digest == latest["digest"]
    policy = (await api.client.get("/v1/datasets/math/training")).json()
    assert (policy["due_ms"], policy["due_version"]) == (None, None)


async def test_each_version_moves_what_is_due(api: Running) -> None:
    await follow(api)
    await publish(api, 0)
    later(api)
    await publish(api, 1)
    assert fire(api.registry) == 0


async def test_an_alias_is_followed_wherever_it_goes(api: Running) -> None:
    await follow(api, "alias:prod", quiet_s=0)
    for number in range(2):
        await publish(api, number)
    for alias, version in (("test", 2), ("prod", 1), ("prod", 2), ("prod", 1)):
        await api.client.put(f"/v1/datasets/math/aliases/{alias}", json={"version": str(version)})
        fire(api.registry)
    assert [event.version for event in ordered(api)] == [1, 2, 1]


async def test_without_a_policy_or_after_its_end_a_person_orders_every_run(api: Running) -> None:
    assert (await api.client.get("/v1/datasets/math/training")).status_code == 404
    await publish(api, 0)
    await follow(api)
    await publish(api, 1)
    assert (await api.client.delete("/v1/datasets/math/training")).status_code == 204
    assert (await api.client.delete("/v1/datasets/math/training")).status_code == 404
    later(api)
    assert (fire(api.registry), ordered(api)) == (0, [])


async def test_a_version_that_brings_a_recipe_is_not_trained_on_twice(api: Running) -> None:
    await follow(api)
    await publish(api, 0, recipe={"base": "/models/c"})
    later(api)
    assert fire(api.registry) == 0
    assert [event.recipe for event in ordered(api)] == [{"base": "/models/c"}]


async def test_two_servers_order_one_run(api: Running) -> None:
    await follow(api)
    await publish(api, 0)
    for number in range(1, 6):
        await publish(api, number)
        later(api)
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(fire, [api.registry] * 4)) == 1
    assert len(ordered(api)) == 5


async def test_of_two_servers_that_saw_it_due_one_orders_it(api: Running) -> None:
    await follow(api, quiet_s=0)
    await publish(api, 0)
    with api.registry.connect() as connection:
        seen = connection.execute(select(training_policies)).mappings().one()
    assert [training_due._fire(api.registry, seen) for _ in range(2)] == [True, False]
    assert len(ordered(api)) == 1


async def test_a_changed_policy_keeps_what_waits_for_the_same_and_forgets_it_for_another(api: Running) -> None:
    await follow(api)
    await publish(api, 0)
    assert (await follow(api, quiet_s=5))["due_version"] == 1
    assert (await follow(api, "alias:prod"))["due_version"] is None
    for wrong in ({"on": "sometimes"}, {"quiet_s": -1}, {"recipe": None}):
        body = {"on": "version", "recipe": RECIPE, "quiet_s": 1, **wrong}
        assert (await api.client.put("/v1/datasets/math/training", json=body)).status_code == 422
    assert (await api.client.put("/v1/datasets/no/training", json={"recipe": RECIPE})).status_code == 404
    with api.registry.connect() as connection:
        actions = select(audit.c.action).where(audit.c.action.like("training%"))
        assert connection.execute(actions).scalars().all() == ["training.set"] * 3


async def test_a_running_server_orders_it_by_itself(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        await follow(api, quiet_s=0)
        await publish(api, 0)
        async with asyncio.timeout(30):
            while True:
                if events := ordered(api):
                    break
                await asyncio.sleep(0.02)
        assert [event.version for event in events] == [1]


async def test_what_cannot_be_ordered_holds_up_no_other(api: Running) -> None:
    await follow(api)
    await publish(api, 0)
    later(api)
    with api.registry.begin() as connection:
        known = dict(connection.execute(select(training_policies)).mappings().one())
        gone = known | {"name": "gone", "due_ms": known["due_ms"] - 1}  # it comes first
        connection.execute(insert(training_policies).values(gone))
    with pytest.raises(ExceptionGroup) as caught:
        fire(api.registry)
    assert [str(error) for error in caught.value.exceptions] == ["there is no version 1 of a dataset 'gone'"]
    assert [event.name for event in ordered(api)] == ["math"]
