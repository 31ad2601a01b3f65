"""Every fault that a worker may meet, on a real broker and a real index: what was published is accounted for, each log once.

After each: all that was published is in the index, the dead letters or the erasures, and no offset was ever committed past a message
that was not. Replays are no fault; how many there were stands in the summary of the tests.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from fakes.cut_wire import wire_to
from fakes.faulty_worker import STALL_S
from fakes.live_worker import (
    Run,
    account,
    counted,
    dead_letters,
    engines,
    erasure,
    free_port,
    indexed_ids,
    metric,
    remove_indices,
    until,
)

from tunemill.bus.port import Bus, Message
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.records import LogRecord
from tunemill.schemas.topics import ERASURES, LOGS
from tunemill.streams import flow
from tunemill.streams.app import EXIT_UNFORESEEN
from tunemill.streams.formats.tunemill_record import WrittenLog
from tunemill.streams.unpack import Record, unpack

pytestmark = pytest.mark.live

MESSAGES = 240
PLACES = [(LOGS.name, number) for number in range(LOGS.partitions)]


@dataclass
class Delivery:
    """What was published, and what became of it."""

    run: Run
    bus: Bus
    index: SearchIndex
    good: set[str] = field(default_factory=set)
    bad: int = 0
    sent: dict[tuple[str, int, int], set[str]] = field(
        default_factory=dict
    )  # by place: the logs that must be in the index
    unreadable: set[str] = field(default_factory=set)  # the places of messages that are dead letters as a whole

    async def publish(self, count: int = MESSAGES) -> None:
        """Logs, records that are none, and logs that are erased already."""
        before, goal = await self.bus.end_offsets(PLACES), len(self.sent) + count
        outgoing, everything, bad = self.run.messages(count, start=len(self.sent))
        erased = set(sorted(everything)[:5])
        self.good |= everything - erased
        self.bad += bad
        await self.bus.publish(ERASURES, [erasure(log_id) for log_id in erased])
        await self.bus.publish(LOGS, outgoing)
        async with self.bus.subscribe([LOGS], group=None) as subscription:
            for place, offset in before.items():
                subscription.consumer.seek(TopicPartition(*place), offset)
            while len(self.sent) < goal:
                for message in await subscription.poll(max_messages=500, timeout_s=1.0):
                    if self.run.name.encode() in message.value:
                        self._note(message)

    def _note(self, message: Message) -> None:
        self.sent[message.topic, message.partition, message.offset] = ids_in(message) & self.good
        if message.value.startswith(b"no JSON"):
            self.unreadable.add(f"{message.topic}:{message.partition}:{message.offset}")

    async def committed(self) -> dict[tuple[str, int], int]:
        """Where the group goes on."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.run.kafka_url.removeprefix("kafka://"))
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self.run.name)
        finally:
            await admin.close()
        return {(place.topic, place.partition): at.offset for place, at in found.items()}

    async def nothing_was_passed(self) -> dict[tuple[str, int], int]:
        """Check that every message before the committed offsets is accounted for."""
        committed = await self.committed()
        present = set(await indexed_ids(self.index, self.run))
        letters = {letter.rejected_id.rpartition(":")[0] for letter in await dead_letters(self.bus, self.run)}
        for (topic, partition, offset), log_ids in self.sent.items():
            if offset < committed[topic, partition]:
                assert log_ids - present == set(), "committed, and not in the index"
                assert {f"{topic}:{partition}:{offset}"} & self.unreadable <= letters, "committed, and no dead letter"
        return committed

    async def is_committed(self) -> bool:
        """Whether the group has everything behind it."""
        committed = await self.committed()
        return all(committed[topic, partition] > offset for topic, partition, offset in self.sent)

    async def complete(self, process: "subprocess.Popen[bytes]", *ports: int) -> int:
        """Wait for the end, check the account, and say how many logs were delivered to these workers more than once."""
        await until(self.is_committed, process, self.run)
        ids = await indexed_ids(self.index, self.run)
        assert self.good - set(ids) == set(), "lost"
        assert sorted(ids) == sorted(self.good), "in the index twice, or though it was erased"
        assert len(await dead_letters(self.bus, self.run)) == self.bad
        return sum([await account(self.run, port) for port in ports or (self.run.port,)])


def id_in(record: Record) -> str:
    if isinstance(record, WrittenLog):
        return record.log.log_id
    read = msgspec.json.decode(record) if isinstance(record, bytes) else record
    return str(read.log_id if isinstance(read, LogRecord) else read.get("log_id", ""))


def ids_in(message: Message) -> set[str]:
    """The ids of the logs in it."""
    found: set[str] = set()
    for record in unpack(message.value, None):
        with suppress(msgspec.DecodeError):  # it is no JSON at all
            found.add(id_in(record))
    return found


@pytest.fixture
async def delivery(kafka_url: str, elasticsearch_url: str, tmp_path: Path) -> AsyncIterator[Delivery]:
    run = Run(kafka_url, elasticsearch_url, tmp_path)
    async with engines(run) as (bus, index):
        delivery = Delivery(run, bus, index)
        await delivery.publish()
        yield delivery
    await remove_indices(run)


async def ended(process: "subprocess.Popen[bytes]") -> int:
    return await asyncio.to_thread(process.wait, 60)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("raises", EXIT_UNFORESEEN), ("cancels", EXIT_UNFORESEEN), ("hangs", EXIT_UNFORESEEN), ("dies", -signal.SIGKILL)],
)
async def test_a_worker_that_ends_in_the_middle_leaves_the_rest_to_the_next(
    delivery: Delivery, fault: str, status: int, record_property: Callable[[str, object], None]
):
    with delivery.run.worker(fault=fault) as process:
        assert await ended(process) == status, delivery.run.said()
    await delivery.nothing_was_passed()
    assert not await delivery.is_committed(), "the fault came too late: this run has shown nothing"
    with delivery.run.worker() as process:
        record_property("duplicates delivered", await delivery.complete(process))


async def test_parts_that_end_in_another_order_are_committed_in_theirs(
    delivery: Delivery, record_property: Callable[[str, object], None]
):
    with delivery.run.worker(fault="reversed") as process:

        async def some_are_in() -> bool:
            return len(await indexed_ids(delivery.index, delivery.run)) > 0

        await until(some_are_in, process, delivery.run)
        process.kill()
    await delivery.nothing_was_passed()
    assert not await delivery.is_committed(), "the kill came too late: this run has shown nothing"
    with delivery.run.worker() as process:
        record_property("duplicates delivered", await delivery.complete(process))


async def test_a_worker_that_joins_and_leaves_costs_nothing_but_a_replay(
    delivery: Delivery, record_property: Callable[[str, object], None]
):
    other = free_port()
    with delivery.run.worker(fault="slow") as first:

        async def begun() -> bool:
            return await counted(delivery.run, "received") > 0

        async def shared() -> bool:
            return await counted(delivery.run, "received", other) > 0

        await until(begun, first, delivery.run)
        with delivery.run.worker(other, fault="slow") as second:
            while not await shared():
                assert second.poll() is None, delivery.run.said()
                await delivery.publish(20)
            await delivery.publish()
            await delivery.nothing_was_passed()
            of_second = await counted(delivery.run, "duplicate", other)
            second.send_signal(signal.SIGTERM)
            assert await ended(second) == 0, delivery.run.said()
        duplicates = await delivery.complete(first)
        record_property("duplicates delivered", duplicates + of_second)


async def test_a_stopped_worker_that_goes_on_after_another_took_over_changes_nothing(
    delivery: Delivery, record_property: Callable[[str, object], None]
):
    other = free_port()
    with delivery.run.worker(fault="slow") as zombie:

        async def begun() -> bool:
            return await counted(delivery.run, "received") > 0

        await until(begun, zombie, delivery.run)
        os.kill(zombie.pid, signal.SIGSTOP)
        with delivery.run.worker(other) as heir:
            duplicates = await delivery.complete(heir, other)
            before = await delivery.committed()
            written = sorted(await indexed_ids(delivery.index, delivery.run))
            os.kill(zombie.pid, signal.SIGCONT)

            async def back() -> bool:
                return zombie.poll() is not None or "rejoin" in delivery.run.said()

            await until(back, heir, delivery.run)
            await asyncio.sleep(3)  # for its late writes and its commit
            assert sorted(await indexed_ids(delivery.index, delivery.run)) == written
            after = await delivery.committed()
            assert all(after[place] >= offset for place, offset in before.items()), "its commit was taken"
        record_property("duplicates delivered", duplicates)


async def test_an_outage_of_the_index_is_waited_for_in_bounds_and_sigterm_ends_it(
    delivery: Delivery, record_property: Callable[[str, object], None]
):
    async with wire_to(delivery.run.elasticsearch_url) as wire:
        with delivery.run.worker(index_url=wire.url, fault="impatient") as process:

            async def begun() -> bool:
                return await counted(delivery.run, "received") > 0

            await until(begun, process, delivery.run)
            await wire.cut()
            await asyncio.sleep(2 * STALL_S)
            assert process.poll() is None, f"an outage is no stall:\n{delivery.run.said()}"
            assert await metric(delivery.run, "tunemill_parts_begun") <= flow.PARTS_BEGUN
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == EXIT_UNFORESEEN
            await delivery.nothing_was_passed()
            assert not await delivery.is_committed()
        await wire.mend()
        with delivery.run.worker(index_url=wire.url) as process:
            record_property("duplicates delivered", await delivery.complete(process))
