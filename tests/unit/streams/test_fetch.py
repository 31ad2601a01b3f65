"""What a fetch brings is handed on whole; what a rebalance cuts off is read again. Faust's own code runs, on a broker of ours."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import faust
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from tunemill.streams.app import build_app
from tunemill.streams.fetch import FetchConsumer

FIRST, SECOND = TopicPartition("llm.logs", 0), TopicPartition("llm.logs", 1)


class Broker(Service):
    """In the place of Faust's consumer thread: partitions with records, and the group's places, as aiokafka keeps them."""

    def __init__(self, committed: int | None) -> None:
        super().__init__()
        self.committed = committed
        self.position = dict.fromkeys((FIRST, SECOND), committed or 0)
        self.ends = dict.fromkeys((FIRST, SECOND), 0)
        self.fetches = self.answers = 0

    async def getmany(self, *_: Any) -> Mapping[TopicPartition, list[Any]]:
        self.fetches += 1
        await until(lambda: self.position[FIRST] < self.ends[FIRST])
        self.answers += 1
        found = {tp: [record(tp, n) for n in range(self.position[tp], end)] for tp, end in self.ends.items()}
        self.position = dict(self.ends)
        return {tp: records for tp, records in found.items() if records}

    async def seek_to_committed(self) -> Mapping[TopicPartition, int | None]:
        if self.committed:  # aiokafka 0.14: neither for None nor for 0
            self.position = dict.fromkeys(self.position, self.committed)
        return dict.fromkeys(self.position, self.committed)

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        self.position |= dict.fromkeys(partitions, 0)

    def assignment(self) -> set[TP]:
        return {TP(*partition) for partition in self.position}

    def highwater(self, tp: TP) -> int:
        return self.ends[TopicPartition(*tp)]


def record(partition: TopicPartition, offset: int) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(*partition, offset, 1500, 0, b"k", b"v", None, 1, 1, ())


class Reading:
    """A consumer that reads from the broker, and what it handed on."""

    def __init__(self, consumer: Any, broker: Broker) -> None:
        self.consumer, self.broker = consumer, broker
        self.messages: list[Any] = []
        self.brought = 0  # messages that came, with room for them or not
        self.room = asyncio.Event()
        self.room.set()

    def offsets(self) -> list[int]:
        """Of the first partition, in the order in which they were handed on."""
        values = [message.value if isinstance(message.value, list) else [message] for message in self.messages]
        return [record.offset for value in values for record in value if record.partition == 0]

    async def hand_on(self, message: Any) -> None:
        self.brought += 1
        await self.room.wait()
        self.messages.append(message)


@asynccontextmanager
async def reading(consumer_class: type[Any] = FetchConsumer, committed: int | None = None) -> AsyncIterator[Reading]:
    broker = Broker(committed)

    class OnOurBroker(consumer_class):
        def _new_consumer_thread(self) -> Broker:
            return broker

        async def _commit(self, _offsets: Any) -> bool:
            return True

    app = build_app("kafka://127.0.0.1:1", group="a-group")
    consumer = OnOurBroker(app.transport, callback=_late, on_partitions_revoked=None, on_partitions_assigned=None)
    app.consumer = consumer
    found = Reading(consumer, broker)
    consumer.callback = found.hand_on
    consumer._set_active_tps(broker.assignment())
    await consumer.perform_seek()
    consumer.resume_flow()
    drain = asyncio.create_task(consumer._drain_messages(Service()))
    try:
        yield found
    finally:
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)


async def _late(_message: Any) -> None:
    raise AssertionError("replaced before anything is read")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for lies in a fake
            await asyncio.sleep(0)


async def test_one_message_holds_what_a_fetch_brought_of_a_partition():
    async with reading() as found:
        found.broker.ends = {FIRST: 3, SECOND: 2}
        await until(lambda: len(found.messages) == 2)
        found.broker.ends = {FIRST: 5, SECOND: 2}
        await until(lambda: len(found.messages) == 3)
    assert [(message.partition, message.offset, [r.offset for r in message.value]) for message in found.messages] == [
        (0, 0, [0, 1, 2]),
        (1, 0, [0, 1]),
        (0, 3, [3, 4]),
    ]


async def test_nothing_is_fetched_before_there_is_room():
    async with reading() as found:
        found.room.clear()
        found.broker.ends = {FIRST: 3, SECOND: 0}
        await until(lambda: found.broker.position[FIRST] == 3)
        found.broker.ends = {FIRST: 6, SECOND: 0}
        for _ in range(100):
            await asyncio.sleep(0)
        assert found.broker.fetches == 1
        found.room.set()
        await until(lambda: found.offsets() == [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("committed", [None, 0, 2], ids=["none", "zero", "some"])
async def test_a_rebalance_ends_the_wait_for_room_and_all_is_read_again(committed: int | None):
    async with reading(committed=committed) as found:
        found.room.clear()
        found.broker.ends = {FIRST: 4, SECOND: 0}
        await until(lambda: found.brought == 1)
        found.consumer.stop_flow()
        for _ in range(100):
            await asyncio.sleep(0)
        found.room.set()
        for _ in range(100):
            await asyncio.sleep(0)
        assert found.offsets() == [], "of a partition that may be another worker's by now"
        await found.consumer.perform_seek()
        found.consumer.resume_flow()
        await until(lambda: found.offsets() == list(range(committed or 0, 4)))


async def test_what_lies_before_the_place_that_was_sought_is_left_out():
    async with reading(committed=2) as found:
        found.broker.position[FIRST] = 0  # fetched before the seek
        found.broker.ends = {FIRST: 4, SECOND: 2}
        await until(lambda: found.offsets() == [2, 3])


async def arrives_while_the_flow_is_stopped(found: Reading) -> None:
    """A fetch was under way when a rebalance began, and is answered when the group's places are sought, before the flow goes on."""
    await until(lambda: found.broker.fetches == 1)
    found.consumer.stop_flow()
    await found.consumer.perform_seek()
    found.broker.ends = {FIRST: 4, SECOND: 0}
    await until(lambda: found.broker.answers == 1)
    for _ in range(100):
        await asyncio.sleep(0)
    found.consumer.resume_flow()
    found.broker.ends = {FIRST: 6, SECOND: 0}
    await until(lambda: 5 in found.offsets())


@pytest.mark.parametrize("committed", [None, 0, 2], ids=["none", "zero", "some"])
async def test_what_comes_while_the_flow_is_stopped_is_read_again(committed: int | None):
    async with reading(committed=committed) as found:
        await arrives_while_the_flow_is_stopped(found)
    assert found.offsets() == list(range(committed or 0, 6))


@pytest.mark.parametrize(
    ("committed", "offsets"), [(None, [4, 5]), (0, [4, 5]), (2, [2, 3, 4, 5])], ids=["none", "zero", "some"]
)
async def test_faust_leaves_out_the_first_records_of_a_group_then(committed: int | None, offsets: list[int]):
    """If this fails after an upgrade, `FetchConsumer.seek_to_committed` may not be needed any more."""
    async with reading(driver.Consumer, committed) as found:
        await arrives_while_the_flow_is_stopped(found)
    assert found.offsets() == offsets


def test_faust_is_the_version_that_was_read():
    assert faust.__version__ == "0.15.3"
