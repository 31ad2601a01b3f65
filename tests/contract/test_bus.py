"""What every bus promises, on both engines."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ulid import ULID

from tunemill.bus.errors import BusUnavailable, MessageTooLarge
from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Message, Outgoing, Subscription
from tunemill.schemas.records import LogRecord
from tunemill.schemas.topics import Topic

PUBLISHER = """
import asyncio, sys
from tunemill.bus.open import open_bus
from tunemill.bus.port import Outgoing
from tunemill.schemas.records import LogRecord
from tunemill.schemas.topics import Topic

async def main(url, topic):
    bus = open_bus(url)
    topic = Topic(name=topic, record=LogRecord, key="session_id", producers=(), consumers=())
    await bus.publish(topic, [Outgoing(b"from another process")])
    await bus.close()

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass
class Engine:
    """An engine under test: opens as many handles as asked for, on the same messages."""

    url: str
    absent_url: str
    opened: list[Bus] = field(default_factory=list)

    def open(self) -> Bus:
        self.opened.append(open_bus(self.url))
        return self.opened[-1]


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.live)])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    if request.param == "sqlite":
        (tmp_path / "not-a-folder").write_text("")
        engine = Engine(f"sqlite:{tmp_path}/data/bus.sqlite", f"sqlite:{tmp_path}/not-a-folder/bus.sqlite")
    else:
        engine = Engine(request.getfixturevalue("kafka_url"), "kafka://127.0.0.1:1")
    yield engine
    for bus in engine.opened:
        await bus.close()


@pytest.fixture
async def bus(engine: Engine) -> Bus:
    return engine.open()


async def new_topic(bus: Bus, *, partitions: int = 1, max_message_bytes: int = 1000, compacted: bool = False) -> Topic:
    topic = Topic(
        name=f"test.{ULID()}",
        record=LogRecord,
        key="session_id",
        producers=(),
        consumers=(),
        partitions=partitions,
        max_message_bytes=max_message_bytes,
        compacted=compacted,
    )
    await bus.create_topics([topic])
    return topic


def messages(*values: str, key: str | None = None) -> list[Outgoing]:
    return [Outgoing(value.encode(), key=key) for value in values]


async def read(subscription: Subscription, count: int) -> list[Message]:
    """At least `count` messages, polled a few at a time."""
    found: list[Message] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await subscription.poll(max_messages=3, timeout_s=5)
    return found


def values(found: list[Message]) -> list[str]:
    return [message.value.decode() for message in found]


def after(found: list[Message]) -> dict[tuple[str, int], int]:
    return {(message.topic, message.partition): message.offset + 1 for message in found}


async def test_a_message_comes_back_as_it_was(bus: Bus) -> None:
    topic = await new_topic(bus)
    headers = {"tunemill-attempts": "2", "who": "Jürgen"}
    await bus.publish(topic, [Outgoing(b"\x00\xff", key="Schlüssel", headers=headers), Outgoing(b"")])
    async with bus.subscribe([topic], group="g") as subscription:
        first, second = await read(subscription, 2)
    assert (first.topic, first.partition, first.offset) == (topic.name, 0, 0)
    assert (first.key, first.value, second.key, second.value) == ("Schlüssel", b"\x00\xff", None, b"")
    assert (first.headers, second.headers) == (headers, {})
    assert first.ts_ms > 1_700_000_000_000


async def test_messages_of_one_key_keep_their_order(bus: Bus) -> None:
    topic = await new_topic(bus, partitions=3)
    keys = [f"session-{number}" for number in range(7)]
    for turn in range(5):
        await bus.publish(topic, [Outgoing(str(turn).encode(), key=key) for key in keys])
    async with bus.subscribe([topic], group="g") as subscription:
        found = await read(subscription, 35)
    assert {key: values([m for m in found if m.key == key]) for key in keys} == {key: list("01234") for key in keys}


async def test_what_was_published_outlives_its_handle(engine: Engine) -> None:
    first = engine.open()
    topic = await new_topic(first)
    await first.publish(topic, messages("kept"))
    await first.close()
    async with engine.open().subscribe([topic], group=None) as subscription:
        assert values(await read(subscription, 1)) == ["kept"]


async def test_a_group_goes_on_where_it_committed(engine: Engine) -> None:
    bus = engine.open()
    topic = await new_topic(bus)
    await bus.publish(topic, messages("a", "b", "c", "d"))
    async with bus.subscribe([topic], group="g") as subscription:
        found = await read(subscription, 4)
        await subscription.commit(after(found[:2]))
    async with engine.open().subscribe([topic], group="g") as subscription:
        assert values(await read(subscription, 2)) == ["c", "d"]


async def test_what_was_not_committed_comes_again(bus: Bus) -> None:
    topic = await new_topic(bus)
    await bus.publish(topic, messages("a", "b"))
    for _ in range(2):
        async with bus.subscribe([topic], group="g") as subscription:
            assert values(await read(subscription, 2)) == ["a", "b"]


async def test_each_group_has_its_own_place(bus: Bus) -> None:
    topic = await new_topic(bus)
    await bus.publish(topic, messages("a"))
    for group in ("one", "two"):
        async with bus.subscribe([topic], group=group) as subscription:
            found = await read(subscription, 1)
            assert values(found) == ["a"]
            await subscription.commit(after(found))


async def test_a_reader_without_a_group_sees_everything_each_time(bus: Bus) -> None:
    topic = await new_topic(bus, partitions=2)
    await bus.publish(topic, [Outgoing(str(number).encode(), key=str(number)) for number in range(8)])
    for _ in range(2):
        async with bus.subscribe([topic], group=None) as subscription:
            assert sorted(values(await read(subscription, 8))) == list("01234567")
            with pytest.raises(ValueError, match="without a group"):
                await subscription.commit({(topic.name, 0): 8})


async def test_one_subscription_reads_several_topics(bus: Bus) -> None:
    full, other = await new_topic(bus), await new_topic(bus)
    await bus.publish(full, messages(*"abcdefgh"))
    await bus.publish(other, messages("z"))
    async with bus.subscribe([full, other], group="g") as subscription:
        found = await read(subscription, 9)
    assert sorted((message.topic, message.value.decode()) for message in found) == sorted(
        [(full.name, letter) for letter in "abcdefgh"] + [(other.name, "z")]
    )


async def test_a_poll_is_bounded_and_a_quiet_topic_gives_nothing(bus: Bus) -> None:
    topic = await new_topic(bus)
    await bus.publish(topic, messages(*"abcde"))
    async with bus.subscribe([topic], group="g") as subscription:
        while not (found := await subscription.poll(max_messages=2, timeout_s=5)):
            pass
        assert values(list(found)) == ["a", "b"]
        await read(subscription, 3)
        assert not await subscription.poll(max_messages=2, timeout_s=0.2)


async def test_a_waiting_poll_gets_what_another_handle_publishes(engine: Engine) -> None:
    topic = await new_topic(engine.open())
    async with engine.open().subscribe([topic], group="g") as subscription:
        waiting = asyncio.ensure_future(read(subscription, 1))
        await engine.open().publish(topic, messages("late"))
        assert values(await waiting) == ["late"]


async def test_publishers_at_the_same_time_lose_nothing(engine: Engine) -> None:
    topic = await new_topic(engine.open())

    async def publish(bus: Bus, key: str) -> None:
        for number in range(15):
            await bus.publish(topic, messages(str(number), key=key))

    await asyncio.gather(*(publish(engine.open(), key) for key in "abcd"))
    async with engine.open().subscribe([topic], group="g") as subscription:
        found = await read(subscription, 60)
    in_order = [str(number) for number in range(15)]
    assert {key: values([m for m in found if m.key == key]) for key in "abcd"} == dict.fromkeys("abcd", in_order)


async def test_processes_share_an_engine(engine: Engine) -> None:
    bus = engine.open()
    topic = await new_topic(bus)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    publisher = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUBLISHER, engine.url, topic.name, env=environment
    )
    async with bus.subscribe([topic], group="g") as subscription:
        assert values(await read(subscription, 1)) == ["from another process"]
    assert await publisher.wait() == 0


async def test_lag_counts_what_was_not_polled(bus: Bus) -> None:
    topic = await new_topic(bus, partitions=2)
    await bus.publish(topic, [Outgoing(b"x", key=str(number)) for number in range(6)])
    async with bus.subscribe([topic], group="g") as subscription:
        assert await subscription.lag() == 6
        found = await read(subscription, 4)
        assert await subscription.lag() == 6 - len(found)
        await subscription.commit(after(found))
    async with bus.subscribe([topic], group="g") as subscription:
        assert await subscription.lag() == 6 - len(found)


async def test_end_offsets_are_where_the_next_messages_will_lie(bus: Bus) -> None:
    topic = await new_topic(bus)
    place = (topic.name, 0)
    assert await bus.end_offsets([place]) == {place: 0}
    await bus.publish(topic, messages("a", "b"))
    assert await bus.end_offsets([place]) == {place: 2}
    assert await bus.end_offsets([]) == {}


async def test_tail_shows_the_newest_first(bus: Bus) -> None:
    topic = await new_topic(bus)
    assert list(await bus.tail(topic, limit=3)) == []
    for letter in "abcde":
        await bus.publish(topic, messages(letter))
    assert values(list(await bus.tail(topic, limit=3))) == ["e", "d", "c"]
    assert values(list(await bus.tail(topic, limit=9))) == ["e", "d", "c", "b", "a"]


async def test_messages_are_read_at_their_places(bus: Bus) -> None:
    topic = await new_topic(bus)
    await bus.publish(topic, [Outgoing(letter.encode(), key=letter, headers={"is": letter}) for letter in "abcde"])
    found = await bus.read(topic, [(0, 3), (0, 0), (0, 1), (0, 5), (0, 99), (7, 0)])
    assert {place: (message.value, message.key, message.headers) for place, message in found.items()} == {
        (0, 0): (b"a", "a", {"is": "a"}),
        (0, 1): (b"b", "b", {"is": "b"}),
        (0, 3): (b"d", "d", {"is": "d"}),
    }
    assert await bus.read(topic, []) == {}
    assert await bus.read(await new_topic(bus, partitions=2), [(0, 0), (1, 0)]) == {}


async def test_messages_are_read_at_scattered_places_of_several_partitions(bus: Bus) -> None:
    topic = await new_topic(bus, partitions=3)
    await bus.publish(topic, [Outgoing(str(n).encode(), key=f"session-{n}") for n in range(60)])
    async with bus.subscribe([topic], group=None) as subscription:
        lying = {(message.partition, message.offset): message for message in await read(subscription, 60)}
    wanted = sorted(lying)[::7]
    assert await bus.read(topic, wanted) == {place: lying[place] for place in wanted}


async def test_what_is_scrubbed_is_gone_from_the_disk_and_passed_over(engine: Engine, tmp_path: Path) -> None:
    bus = engine.open()
    topic = await new_topic(bus, max_message_bytes=5000)
    chance = random.Random(1)
    words = [f"canary{number:04d}" for number in range(1500)]
    sizes = [chance.randint(1, 900) for _ in words]
    await bus.publish(
        topic,
        [
            Outgoing(f"{word} {'x' * size}".encode(), word, {"who": word})
            for word, size in zip(words, sizes, strict=True)
        ],
    )
    places = [(0, offset) for offset in range(1500)]
    for _ in range(3):  # rows that grow and shrink are moved from page to page, and leave copies behind
        some = chance.sample(places, 500)
        await bus.scrub(topic, {place: f"{words[place[1]]} {'z' * chance.randint(1, 1800)}".encode() for place in some})
    first = await bus.scrub(topic, {place: f"left {place[1]} {'y' * 1400}".encode() for place in places[1::2]})
    second = await bus.scrub(topic, dict.fromkeys(places[::2], b""))
    await bus.expunge()
    until_ms = await bus.kept_until_ms(topic)
    if not engine.url.startswith("sqlite:"):
        assert (first, second) == (None, None)
        assert until_ms is not None
        assert until_ms > 1_700_000_000_000
        return
    assert (first, second, until_ms) == (750, 750, None)
    found = await bus.read(topic, places)
    assert [place for place in places if found[place].is_scrubbed] == places[::2]
    assert {(found[place].key, found[place].value) for place in places[::2]} == {(None, b"")}
    assert (found[0, 1].key, found[0, 1].headers) == (None, {"who": words[1]})
    assert found[0, 1].value.startswith(b"left 1 ")
    raw = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert not [word for word in words[::2] if word.encode() in raw]
    assert not (await bus.read(topic, [(0, 1500)]))
    assert not Message("t", 0, 0, None, b"", 0).is_scrubbed


async def test_scrubbing_a_compacted_topic_leaves_nothing_under_its_keys(engine: Engine) -> None:
    bus = engine.open()
    topic = await new_topic(bus, compacted=True)
    await bus.publish(topic, [*messages("one", key="a"), *messages("two", key="b")])
    assert await bus.scrub(topic, {(0, 0): b""}) == 1
    async with bus.subscribe([topic], group=None) as subscription:
        found = await read(subscription, 2 if engine.url.startswith("sqlite:") else 3)
    last = {message.key: message.value for message in found}
    assert (last["b"], last.get("a", b"")) == (b"two", b"")


async def test_the_largest_message_passes_and_a_larger_one_is_refused_with_its_batch(bus: Bus) -> None:
    topic = await new_topic(bus, max_message_bytes=5 * 2**20)
    largest = os.urandom(topic.max_message_bytes - 3)  # bytes that do not shrink, and a key of three
    with pytest.raises(MessageTooLarge, match="message 1 of 2"):
        await bus.publish(topic, [Outgoing(b"small"), Outgoing(largest + b"x", key="key")])
    await bus.publish(topic, [Outgoing(largest, key="key")])
    async with bus.subscribe([topic], group="g") as subscription:
        (found,) = await read(subscription, 1)
    assert found.value == largest


async def test_many_small_messages_pass_where_one_of_their_size_would_not(bus: Bus) -> None:
    topic = await new_topic(bus, max_message_bytes=1000)
    await bus.publish(topic, [Outgoing(os.urandom(900)) for _ in range(300)])
    async with bus.subscribe([topic], group="g") as subscription:
        assert len(await read(subscription, 300)) == 300


async def test_creating_topics_again_changes_nothing(bus: Bus) -> None:
    topic = await new_topic(bus, compacted=True)
    await bus.publish(topic, messages("kept", key="k"))
    await bus.create_topics([topic])
    assert values(list(await bus.tail(topic, limit=1))) == ["kept"]


async def test_an_engine_that_answers_is_pinged(bus: Bus) -> None:
    await bus.ping()


async def test_an_absent_engine_is_unavailable(engine: Engine) -> None:
    bus = open_bus(engine.absent_url)
    topic = Topic(name="any", record=LogRecord, key="session_id", producers=(), consumers=())
    for call in (
        bus.ping(),
        bus.create_topics([topic]),
        bus.publish(topic, messages("a")),
        bus.tail(topic, limit=1),
        bus.read(topic, [(0, 0)]),
        bus.end_offsets([("t", 0)]),
    ):
        with pytest.raises(BusUnavailable):
            await call
    with pytest.raises(BusUnavailable):
        async with bus.subscribe([topic], group="g"):
            pass
    await bus.close()
