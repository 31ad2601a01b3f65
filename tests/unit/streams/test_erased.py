"""The erasure ledger is asked often and looks seldom: who waits at the same time shares a look that began after it asked."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from fakes.index_memory import MemoryIndex

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Message, Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.schemas import wire
from tunemill.schemas.records import Erasure
from tunemill.schemas.topics import ERASURES, REJECTED
from tunemill.schemas.topics import Topic as KnownTopic
from tunemill.streams.erased import ErasedLogs


class Topic:
    """A subscription of the ledger's topic, which the test fills; each look at its end waits until it is let go."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.polled = 0
        self.looks = 0
        self.is_away = False
        self.gate = asyncio.Semaphore(0)

    def publish(self, log_id: str) -> None:
        value = wire.encode(Erasure(erasure_id=log_id, ts_ms=1, log_id=log_id))
        self.messages.append(Message(ERASURES.name, 0, len(self.messages), log_id, value, 1))

    async def poll(self, *, max_messages: int, timeout_s: float) -> Sequence[Message]:
        found = self.messages[self.polled : self.polled + max_messages]
        self.polled += len(found)
        return found

    async def commit(self, next_offsets: Mapping[tuple[str, int], int]) -> None:
        raise ValueError("a reader without a group has no place to commit")

    async def lag(self) -> int:
        lag = len(self.messages) - self.polled  # what is published from here on is for the next look
        if lag == 0:
            self.looks += 1
            await self.gate.acquire()
        if self.is_away:
            raise BusUnavailable("away")
        return lag


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def erased(topic: Topic, tmp_path: Path) -> ErasedLogs:
    return ErasedLogs(SqliteBus(tmp_path / "bus.db"), topic, MemoryIndex())


async def begun(topic: Topic, looks: int) -> None:
    async with asyncio.timeout(10):
        while topic.looks < looks:  # noqa: ASYNC110 - what is waited for lies in the fake
            await asyncio.sleep(0)


async def test_who_asks_during_a_look_shares_the_next_one(topic: Topic, erased: ErasedLogs):
    first = asyncio.create_task(erased.catch_up())
    await begun(topic, 1)
    topic.publish("a")  # too late for the look that runs
    others = [asyncio.create_task(erased.catch_up()) for _ in range(3)]
    await asyncio.sleep(0)
    topic.gate.release()
    await first
    await begun(topic, 2)
    assert not any(other.done() for other in others)
    topic.gate.release()
    await asyncio.gather(*others)
    assert "a" in erased
    assert topic.looks == 2


async def test_a_look_that_failed_is_shared_by_nobody(topic: Topic, erased: ErasedLogs):
    first = asyncio.create_task(erased.catch_up())
    await begun(topic, 1)
    second, third = asyncio.create_task(erased.catch_up()), asyncio.create_task(erased.catch_up())
    await asyncio.sleep(0)
    topic.gate.release()
    await first
    await begun(topic, 2)
    topic.is_away = True
    topic.gate.release()
    with pytest.raises(BusUnavailable):
        await second
    topic.is_away = False
    topic.gate.release()
    await third
    assert topic.looks == 3


async def test_erasures_beside_one_that_nobody_can_read_are_heeded_though_it_cannot_be_reported_yet(
    topic: Topic, tmp_path: Path
):
    class AwayBus(SqliteBus):
        is_away = True

        async def publish(self, topic: KnownTopic, messages: Sequence[Outgoing]) -> None:
            if self.is_away:
                raise BusUnavailable("away")
            await super().publish(topic, messages)

    bus, index = AwayBus(tmp_path / "bus.db"), MemoryIndex()
    erased = ErasedLogs(bus, topic, index)
    topic.publish("a")
    topic.messages.append(Message(ERASURES.name, 0, 1, None, b"\x03torn", 1))
    topic.publish("b")
    topic.gate.release()
    with pytest.raises(BusUnavailable):
        await erased.catch_up()
    assert "a" in erased
    assert "b" in erased
    assert index.deleted == ["a", "b"]
    bus.is_away = False
    await erased.catch_up()
    assert [(letter.partition, letter.offset) for letter in await bus.tail(REJECTED, limit=9)] == [(0, 0)]
    await bus.close()
