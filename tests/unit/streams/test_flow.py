"""Several parts on their way at once: nothing is acknowledged too early, nor taken beyond the limit, nor lost by a rebalance."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from fakes.index_memory import MemoryIndex, Refused
from prometheus_client import REGISTRY

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Message, Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.schemas import wire
from tunemill.schemas.packing import pack
from tunemill.schemas.records import Feedback, LogRecord
from tunemill.schemas.records import Message as ChatMessage
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED, Topic
from tunemill.streams import flow as flows
from tunemill.streams.batch import Hop
from tunemill.streams.erased import follow_erasures
from tunemill.streams.flow import Flow, flowing
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules

PLACE = (LOGS.name, 0)


def log(log_id: str) -> LogRecord:
    return LogRecord(log_id=log_id, ts_ms=1, messages=(ChatMessage(role="user", content="hi"),))


def at(offset: int, *log_ids: str) -> Message:
    return Message(LOGS.name, 0, offset, None, pack([log(log_id) for log_id in log_ids or (str(offset),)]), 1)


def judged(offset: int) -> Message:
    """A message with a log, and a score that each time has the same id."""
    body = {"id": "s", "traceId": "t", "name": "good", "value": offset}
    score = {"id": "e", "type": "score-create", "timestamp": "2026-01-01T00:00:00Z", "body": body}
    values = [msgspec.json.encode(log(str(offset))), msgspec.json.encode(score)]
    return Message(LOGS.name, 0, offset, None, b"\n".join(values), 1)


class Gated(MemoryIndex):
    """An index whose writes wait until the test lets go of them, by the id of their first log."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def write(self, logs: Sequence[object]) -> Sequence[object]:
        first = logs[0].log.log_id
        self.begun.append(first)
        if first in self.gates:
            await self.gates[first].wait()
        written = await super().write(logs)
        self.ended.append(first)
        return written

    def hold(self, *first_ids: str) -> None:
        self.gates |= {first_id: asyncio.Event() for first_id in first_ids}


class OftenAway(SqliteBus):
    """A bus that some publications find away."""

    failures = 0

    async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
        if self.failures:
            self.failures -= 1
            raise BusUnavailable("away")
        await super().publish(topic, messages)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[OftenAway]:
    bus = OftenAway(tmp_path / "bus.db")
    await bus.create_topics([LOGS, REJECTED, ERASURES, FEEDBACK])
    yield bus
    await bus.close()


@pytest.fixture
def index() -> Gated:
    return Gated()


@pytest.fixture(autouse=True)
def one_message_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "PART_MESSAGES", 1)
    monkeypatch.setattr(flows, "AGAIN_S", 0.0)


class Committed:
    """What was committed, one mapping each time."""

    def __init__(self) -> None:
        self.calls: list[Mapping[tuple[str, int], int]] = []
        self.under_way = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, offsets: Mapping[tuple[str, int], int]) -> None:
        self.under_way += 1
        assert self.under_way == 1, "two commits at a time may arrive in either order"
        await self.gate.wait()
        self.calls.append(offsets)
        self.under_way -= 1

    @property
    def last(self) -> int | None:
        return self.calls[-1][PLACE] if self.calls else None


@asynccontextmanager
async def at_work(bus: SqliteBus, index: MemoryIndex) -> AsyncIterator[tuple[Flow, Committed]]:
    committed = Committed()
    async with follow_erasures(bus, index) as erased:
        hop = Hop(index, bus, erased, Rulebook(load_rules()))
        async with flowing(hop, committed) as flow:
            yield flow, committed


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for lies in a fake
            await asyncio.sleep(0.001)


async def stays(condition: Callable[[], bool]) -> None:
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert condition()


def gauge(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def test_only_the_finished_prefix_is_acknowledged_when_parts_end_out_of_order(bus: OftenAway, index: Gated):
    index.hold("5", "6")
    async with at_work(bus, index) as (flow, committed):
        await flow.take([at(5), at(6), at(7), at(8)])
        await until(lambda: {"7", "8"} <= set(index.ended))
        await stays(lambda: committed.calls == [])
        index.gates["6"].set()
        await until(lambda: "6" in index.ended)
        await stays(lambda: committed.calls == [])
        index.gates["5"].set()
        await until(lambda: committed.last == 9)
    assert committed.calls[-1] == {PLACE: 9}


async def test_parts_are_written_side_by_side_up_to_a_limit(bus: OftenAway, index: Gated):
    index.hold(*"1234567")
    async with at_work(bus, index) as (flow, committed):
        await flow.take([at(number) for number in range(1, 8)])
        await until(lambda: len(index.begun) == flows.PARTS_BEGUN)
        await stays(lambda: len(index.begun) == flows.PARTS_BEGUN)
        assert gauge("tunemill_parts_begun") == flows.PARTS_BEGUN
        for gate in index.gates.values():
            gate.set()
        await until(lambda: committed.last == 8)
    assert gauge("tunemill_parts_begun") == 0


@pytest.mark.parametrize("limit", ["bytes", "messages"])
async def test_who_brings_more_than_the_limit_waits_until_something_is_finished(
    bus: OftenAway, index: Gated, monkeypatch: pytest.MonkeyPatch, limit: str
):
    size = len(at(1).value)
    monkeypatch.setattr(flows, f"HAND_{limit.upper()}", 2 * size if limit == "bytes" else 2)
    index.hold("1", "2")
    async with at_work(bus, index) as (flow, committed):
        await flow.take([at(1), at(2)])
        more = asyncio.create_task(flow.take([at(3)]))
        await stays(lambda: not more.done() and gauge("tunemill_bytes_in_hand") == 2 * size)
        index.gates["2"].set()
        await more
        index.gates["1"].set()
        await until(lambda: committed.last == 4)
        assert flow.is_empty
    assert gauge("tunemill_bytes_in_hand") == 0


async def test_a_part_is_cut_by_bytes_and_by_messages(bus: OftenAway, index: Gated, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flows, "PART_MESSAGES", 3)
    monkeypatch.setattr(flows, "PART_BYTES", len(at(1).value) * 4)
    large = at(7, *(f"large-{number}" for number in range(40)))
    async with at_work(bus, index) as (flow, committed):
        await flow.take([*(at(number) for number in range(1, 7)), large, at(8), at(9)])
        await until(lambda: committed.last == 10)
    assert index.begun == ["1", "4", "large-0", "8"]


async def test_what_comes_within_a_moment_travels_together(
    bus: OftenAway, index: Gated, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flows, "PART_MESSAGES", 100)
    async with at_work(bus, index) as (flow, committed):
        for number in range(1, 5):
            await flow.take([at(number)])
        await until(lambda: committed.last == 5)
    assert index.begun == ["1"]


async def test_a_part_that_fails_ends_the_work_and_nothing_from_it_on_is_acknowledged(bus: OftenAway, index: Gated):
    index.hold("2")
    with pytest.raises(Refused):
        async with at_work(bus, index) as (flow, committed):
            await flow.take([at(1), at(2), at(3)])
            await until(lambda: committed.last == 2 and "3" in index.ended)
            index.refuses = True
            index.gates["2"].set()
            await asyncio.sleep(30)
    assert committed.last == 2


async def test_an_outage_of_the_bus_is_waited_for_and_counts_as_a_move(bus: OftenAway, index: Gated):
    bus.failures = 3
    async with at_work(bus, index) as (flow, committed):
        await flow.take([Message(LOGS.name, 0, 1, None, b"no JSON", 1), at(2)])
        await until(lambda: bus.failures == 0)
        await until(lambda: committed.last == 3)
        assert flow.moves == 2 + 3
    assert len(await bus.tail(REJECTED, limit=10)) == 1


async def test_settling_finishes_what_is_begun_and_forgets_the_rest(
    bus: OftenAway, index: Gated, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flows, "HAND_BYTES", len(at(1).value) * 6)
    index.hold("1", "2", "3", "4")
    async with at_work(bus, index) as (flow, committed):
        await flow.take([at(number) for number in range(1, 7)])
        kept_out = asyncio.create_task(flow.take([at(7)]))
        await until(lambda: len(index.begun) == 4)
        settling = asyncio.create_task(flow.settle())
        await kept_out
        index.gates["1"].set()
        index.gates["3"].set()
        await stays(lambda: not settling.done())
        index.gates["2"].set()
        index.gates["4"].set()
        await settling
        assert (committed.last, flow.is_empty, set(index.logs)) == (5, True, {"1", "2", "3", "4"})
        await flow.take([at(5), at(6), at(7)])  # read again from where was committed
        await until(lambda: committed.last == 8)
    assert set(index.logs) == set("1234567")


async def test_settling_that_is_cut_short_acknowledges_nothing_unfinished(bus: OftenAway, index: Gated):
    index.hold("1")
    async with at_work(bus, index) as (flow, committed):
        await flow.take([at(1), at(2)])
        await until(lambda: "2" in index.ended)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await flow.settle()
        await flow.take([at(1), at(2), at(3)])  # the partition is ours again
        await until(lambda: "3" in index.ended and index.ended.count("2") == 2)
        await stays(lambda: committed.calls == [])
        index.gates["1"].set()
        await until(lambda: committed.last == 4)


async def test_a_partition_that_went_and_came_back_is_committed_where_it_is_now(bus: OftenAway, index: Gated):
    index.hold("1")
    async with at_work(bus, index) as (flow, committed):
        await flow.take([at(1)])
        await until(lambda: "1" in index.begun)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await flow.settle()
        await flow.take([at(10)])  # another worker has done what lies between
        await until(lambda: committed.last == 11)
        index.gates["1"].set()
        await until(lambda: flow.is_empty)
        await stays(lambda: committed.last == 11)


async def test_settling_waits_for_the_commit_under_way(bus: OftenAway, index: Gated):
    async with at_work(bus, index) as (flow, committed):
        committed.gate.clear()
        await flow.take([at(1)])
        await until(lambda: committed.under_way == 1)
        await flow.take([at(2)])
        await until(lambda: "2" in index.ended and flow.is_empty)
        settling = asyncio.create_task(flow.settle())
        await stays(lambda: not settling.done())
        committed.gate.set()
        await settling
        assert [offsets[PLACE] for offsets in committed.calls] == [2, 3]


async def test_a_closed_flow_takes_nothing(bus: OftenAway, index: Gated):
    async with at_work(bus, index) as (flow, committed):
        await flow.take([at(1)])
        await until(lambda: "1" in index.ended)
        await flow.close()
        await flow.take([at(2)])
        await stays(lambda: flow.is_empty)
    assert (committed.last, set(index.logs)) == (2, {"1"})


async def test_of_two_with_one_id_the_later_feedback_holds_though_its_part_is_faster(bus: OftenAway, index: Gated):
    index.hold("1")
    async with at_work(bus, index) as (flow, committed):
        await flow.take([judged(1), judged(2)])
        await until(lambda: "2" in index.ended)
        await asyncio.sleep(0.05)
        index.gates["1"].set()
        await until(lambda: committed.last == 3)
    scores = [wire.decode(message.value, Feedback).score for message in reversed(await bus.tail(FEEDBACK, limit=9))]
    assert scores == [1.0, 2.0]
