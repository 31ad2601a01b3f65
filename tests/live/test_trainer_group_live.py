"""A trainer stays in its consumer group while a run takes longer than Kafka waits for a consumer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiokafka import AIOKafkaConsumer
from fakes.scripted_launcher import Attempt, ScriptedLauncher
from fakes.trainer_place import Place, opened_place

from tunemill.bus import kafka
from tunemill.bus.open import open_bus
from tunemill.bus.port import Outgoing
from tunemill.schemas import wire
from tunemill.schemas.topics import DATASETS_READY
from tunemill.trainer.doorbell import GROUP
from tunemill.trainer.service import Fleet, run_trainer

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

POLL_INTERVAL_S = 2.0  # Kafka's default is 300


class Impatient(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """A consumer that leaves its group when nobody polls it for two seconds; the test looks at it."""

    in_groups: ClassVar[list[AIOKafkaConsumer]] = []

    def __init__(self, *topics: str, **settings: Any) -> None:
        super().__init__(*topics, **settings, max_poll_interval_ms=int(POLL_INTERVAL_S * 1000))
        if settings["group_id"] == GROUP:
            self.in_groups.append(self)


@pytest.fixture
async def place(tmp_path: Path, kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(kafka, "AIOKafkaConsumer", Impatient)
    async with opened_place(tmp_path) as place:
        await place.bus.close()
        place.bus = open_bus(kafka_url)
        yield place


async def test_a_long_run_costs_neither_the_place_in_the_group_nor_a_second_delivery(place: Place) -> None:
    stop = asyncio.Event()
    launcher = ScriptedLauncher(*[Attempt(ends=None) for _ in range(9)])
    fleet, work = Fleet(launcher=launcher, slots=[{}], devices=1), place.folder / "work"
    serving = asyncio.create_task(run_trainer(place.bus, place.engine, "files", work, stop=stop, fleet=fleet))
    event = place.event()
    await place.bus.create_topics([DATASETS_READY])
    await place.bus.publish(DATASETS_READY, [Outgoing(wire.encode(event), key="tickets")])
    while not launcher.jobs:  # noqa: ASYNC110 - what is waited for lies in other tasks
        await asyncio.sleep(0.05)

    (consumer,) = Impatient.in_groups
    generation = consumer._coordinator.generation
    assert await left_to_do(consumer) == 0, "the offset is committed before the run is over"
    await asyncio.sleep(3 * POLL_INTERVAL_S + 1)

    assert len(launcher.jobs) == 1, "the run is still under way"
    assert place.run()["status"] == "preparing"
    assert (consumer._coordinator.generation, Impatient.in_groups) == (generation, [consumer])
    assert await left_to_do(consumer) == 0
    stop.set()
    await serving


async def left_to_do(consumer: AIOKafkaConsumer) -> int:
    """The messages of its partitions whose offsets are not committed, once those of this moment had time to be."""
    await asyncio.sleep(0.5)
    ends = await consumer.end_offsets(consumer.assignment())
    assert ends, "it has partitions"
    return sum([end - (await consumer.committed(partition) or 0) for partition, end in ends.items()])
