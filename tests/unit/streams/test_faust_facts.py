"""What faust-streaming 0.15.3 does with acknowledgements. Our worker is built around these facts.

If one of these tests fails after an upgrade, that is news: read `streams/app.py` again before you change the test.
"""

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import faust
import pytest
from aiokafka import ConsumerRecord
from faust.events import Event
from faust.transport.consumer import Consumer
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from intervaltree import IntervalTree

from tunemill.bus.kafka import message_of
from tunemill.bus.port import Message as BusMessage
from tunemill.streams.app import build_app, commit, feed
from tunemill.streams.fetch import FetchConsumer

PARTITION = TP("t", 0)


class Offsets:
    """The part of Faust's consumer that decides what to commit, with its real code."""

    _new_offset = Consumer._new_offset

    def __init__(self, committed: int | None, acked: list[int]) -> None:
        self._acked: dict[TP, list[int]] = defaultdict(list, {PARTITION: list(acked)})
        self._acked_index = defaultdict(set, {PARTITION: set(acked)})
        self._gap: dict[TP, IntervalTree] = defaultdict(IntervalTree)
        self._committed_offset = defaultdict(lambda: committed)


@pytest.mark.parametrize(
    ("committed", "acked", "commits"),
    [
        (31, [31, 32, 33], 34),  # in order: right
        (31, [33], None),  # a gap of two: waits
        (31, [32], 33),  # a gap of one: 31 is lost in a crash
        (None, [5, 6], 7),  # a fresh group: 0 to 4 are lost
        (0, [5, 6], 7),  # the same
    ],
)
def test_faust_commits_past_unfinished_work(committed: int | None, acked: list[int], commits: int | None):
    assert Offsets(committed, acked)._new_offset(PARTITION) == commits


@pytest.mark.parametrize(
    ("ending", "noack", "acked"), [("raise", False, [10]), ("cancel", False, [10]), ("raise", True, [])]
)
async def test_faust_acknowledges_what_its_handler_did_not_finish(ending: str, noack: bool, acked: list[int]):
    assert await acknowledged(ending, noack=noack) == acked


async def acknowledged(ending: str, *, noack: bool) -> list[int]:
    """The offsets that a stream of two messages acknowledges when the handler of the first ends so."""
    app = faust.App("facts", broker="kafka://127.0.0.1:1", store="memory://", autodiscover=False)
    app.finalize()
    acked: list[int] = []
    consumer = MagicMock(unacked=set(), _unacked_messages=set())
    consumer.ack = lambda message: acked.append(message.offset) or True  # pure Python; compiled Faust fills `_acked`
    consumer._committed_offset = defaultdict(lambda: None)
    consumer._acked, consumer._acked_index = defaultdict(list), defaultdict(set)
    app.consumer, app.consumer_generation_id = consumer, 1
    app.flow_control.resume()
    app.topics = Mock(acking_topics={"t"}, _acking_topics={"t"})
    app.transport = Mock()
    stream: Any = app.channel(value_type=bytes).stream()
    stream = stream.noack() if noack else stream

    async def handle() -> None:
        async for _ in stream:
            if ending == "raise":
                raise RuntimeError("the index is away")
            await asyncio.sleep(60)

    for offset in (10, 11):
        await stream.channel.queue.put(event(app, offset))
    task = asyncio.ensure_future(handle())
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await stream.stop()
    return sorted({*acked, *consumer._acked[PARTITION]})


def event(app: faust.App, offset: int) -> Event:
    message = faust_message(offset)
    message.incref()
    return Event(app, b"k", b"v", {}, message)


def faust_message(offset: int) -> ConsumerMessage:
    return ConsumerMessage("t", 0, offset, 1.5, 0, {}, b"k", b"v", None, generation_id=1, tp=PARTITION)


class Committing:
    """The part of Faust's consumer that commits given offsets, with its real code; the broker's answer is ours."""

    _commit_offsets = Consumer._commit_offsets
    in_transaction = False

    def __init__(self, assigned: set[TP], *, accepts: bool) -> None:
        self.app, self.log = MagicMock(), MagicMock()
        self.app.producer.flush = AsyncMock()
        self._assigned, self._accepts = assigned, accepts
        self._committed_offset: dict[TP, int] = {}
        self.sent: list[dict[TP, int]] = []

    def assignment(self) -> set[TP]:
        return self._assigned

    async def _commit(self, offsets: dict[TP, int]) -> bool:
        self.sent.append(dict(offsets))
        return self._accepts


@pytest.mark.parametrize("accepts", [True, False])
async def test_our_commit_sends_the_next_offsets_of_the_partitions_that_are_still_ours(accepts: bool):
    """`Consumer._commit_offsets` is private to Faust, and our only way to commit without its acknowledgements."""
    app = build_app("kafka://127.0.0.1:1", group="a-group")
    app.consumer = consumer = Committing({TP("llm.logs", 0)}, accepts=accepts)
    await commit(app, {("llm.logs", 0): 7, ("llm.logs", 1): 3})
    assert consumer.sent == [{TP("llm.logs", 0): 7}]


def test_the_app_is_set_up_so_that_faust_acknowledges_nothing_and_serves_nothing():
    app = build_app("kafka://127.0.0.1:1", group="a-group")
    feed(app, MagicMock())
    conf = app.conf
    assert (conf.id, conf.web_enabled, conf.stream_wait_empty, conf.topic_disable_leader) == (
        "a-group",
        False,
        False,
        True,
    )
    assert conf.consumer_auto_offset_reset == "earliest"
    assert str(conf.processing_guarantee.value) == "at_least_once"
    assert conf.broker_max_poll_interval > timedelta(days=365).total_seconds(), "an outage may last"
    assert app.transport.Consumer is FetchConsumer
    assert len(app.tables) == 0
    (agent,) = app.agents.values()
    assert agent.concurrency == 1
    assert agent.channel.acks is False
    assert list(agent.channel.topics) == ["llm.logs"]


def test_kafkas_record_becomes_our_message():
    assert message_of(record(3)) == BusMessage("t", 0, 3, "k", b"v", 1500, {"attempts": "2"})
    assert message_of(record(3, key=None, value=None)) == BusMessage("t", 0, 3, None, b"", 1500, {"attempts": "2"})


def record(offset: int, key: bytes | None = b"k", value: bytes | None = b"v") -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord("t", 0, offset, 1500, 0, key, value, None, 1, 1, (("attempts", b"2"),))
