"""Feedback from its topic into the index: each is accounted for, without secrets, and none outlives its log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from fakes.index_memory import MemoryIndex

from tunemill.bus.port import Message, Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import Erasure, Feedback, RejectedLog
from tunemill.schemas.topics import ERASURES, FEEDBACK, REJECTED
from tunemill.schemas.trace import TraceNote
from tunemill.streams.batch import Hop
from tunemill.streams.erased import follow_erasures
from tunemill.streams.feedback import follow_feedback, keep_feedback
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules

RULES = load_rules()
SECRET = "sk-" + "a1B2" * 8


def feedback(feedback_id: str, **fields: object) -> Feedback:
    return Feedback(**{"feedback_id": feedback_id, "ts_ms": 1, "name": "helpful", "log_id": "a", **fields})


def at(offset: int, value: bytes | Feedback) -> Message:
    payload = value if isinstance(value, bytes) else wire.encode(value)
    return Message(FEEDBACK.name, 0, offset, None, payload, 1)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SqliteBus]:
    bus = SqliteBus(tmp_path / "bus.db")
    await bus.create_topics([FEEDBACK, REJECTED, ERASURES])
    yield bus
    await bus.close()


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


@asynccontextmanager
async def hop(bus: SqliteBus, index: MemoryIndex) -> AsyncIterator[Hop]:
    async with follow_erasures(bus, index) as erased:
        yield Hop(index, bus, erased, Rulebook(RULES))


async def letters(bus: SqliteBus) -> list[RejectedLog]:
    return [wire.decode(message.value, RejectedLog) for message in reversed(await bus.tail(REJECTED, limit=100))]


async def erase(bus: SqliteBus, log_id: str) -> None:
    await bus.publish(ERASURES, [Outgoing(wire.encode(Erasure(erasure_id="e", ts_ms=1, log_id=log_id)), key=log_id)])


async def test_each_feedback_is_accounted_for(bus: SqliteBus, index: MemoryIndex):
    index.rejects = {"odd"}
    await erase(bus, "gone")
    batch = [
        at(0, feedback("f", score=1.0)),
        at(1, feedback("odd", comment=SECRET)),
        at(2, b"torn"),
        at(3, feedback("g", log_id="gone")),
        at(4, b""),
        at(5, feedback("f", score=0.0)),
        at(6, b'{"feedback_id": "j", "ts_ms": 1, "name": "helpful", "trace_id": "t"}'),
    ]
    async with hop(bus, index) as on:
        counts = await keep_feedback(batch, on)
    assert counts == {Outcome.INDEXED: 2, Outcome.DUPLICATE: 1, Outcome.REJECTED: 2, Outcome.ERASED: 1}
    assert {name: item.score for name, item in index.feedback.items()} == {"f": 0.0, "j": None}
    found = {letter.offset: letter for letter in await letters(bus)}
    assert {(offset, letter.stage, letter.error_code) for offset, letter in found.items()} == {
        (1, "index", "bad_id"),
        (2, "decode", "not_json"),
    }
    assert wire.decode(found[1].payload, Feedback).comment == "[SECRET:api-key]"


async def test_secrets_in_words_are_never_stored_and_ids_still_find_their_log(bus: SqliteBus, index: MemoryIndex):
    async with hop(bus, index) as on:
        await keep_feedback([at(0, feedback("f", comment=SECRET, correction=f"use {SECRET}", label="bad"))], on)
    stored = index.feedback["f"]
    assert (stored.comment, stored.correction, stored.log_id) == ("[SECRET:api-key]", "use [SECRET:api-key]", "a")


async def test_a_replay_changes_nothing(bus: SqliteBus, index: MemoryIndex):
    batch = [at(0, feedback("f")), at(1, b"torn")]
    async with hop(bus, index) as on:
        await keep_feedback(batch, on)
        stored = dict(index.feedback)
        await keep_feedback(batch, on)
    assert index.feedback == stored
    assert {letter.rejected_id for letter in await letters(bus)} == {"llm.feedback:0:1:0"}


async def test_feedback_about_a_log_that_is_erased_meanwhile_is_deleted_with_it(bus: SqliteBus, index: MemoryIndex):
    async def erase_now(name: str) -> None:
        if name == "add_feedback":
            await erase(bus, "a")

    index.between = erase_now
    async with hop(bus, index) as on:
        counts = await keep_feedback([at(0, feedback("f")), at(1, feedback("g", log_id="b"))], on)
    assert (counts[Outcome.INDEXED], counts[Outcome.ERASED]) == (1, 1)
    assert "a" in index.deleted


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_feedback_about_an_erased_answer_or_trace_is_dropped(bus: SqliteBus, index: MemoryIndex, when: str):
    async def erase_now(name: str = "add_feedback") -> None:
        if name == "add_feedback":
            await erase(bus, "response:r")
            await erase(bus, "trace:t")

    if when == "before":
        await erase_now()
    index.between = erase_now if when == "meanwhile" else None
    about = [
        {"response_id": "r"},
        {"trace_id": "t"},
        {"response_id": "q", "trace_id": "t"},
        {"log_id": "b", "trace_id": "t"},
    ]
    messages = [at(place, feedback(f"f{place}", **{"log_id": None, **one})) for place, one in enumerate(about)]
    messages.append(at(9, feedback("kept", log_id=None, response_id="other")))
    async with hop(bus, index) as on:
        counts = await keep_feedback(messages, on)
    assert (counts[Outcome.INDEXED], counts[Outcome.ERASED]) == (2, 3)
    assert set(index.feedback) >= {"f3", "kept"}
    assert {"f0", "f1"}.isdisjoint(index.feedback)


async def test_what_is_said_about_the_trace_of_an_answer_that_is_erased_meanwhile_stays(
    bus: SqliteBus, index: MemoryIndex
):
    async def erase_now(name: str) -> None:
        if name == "add_feedback":
            await erase(bus, "response:r")

    index.between = erase_now
    index.notes["t"] = TraceNote(trace_id="t", user_id="u")
    both = feedback("both", log_id=None, response_id="r", trace_id="t")
    trace = feedback("trace", log_id=None, trace_id="t")
    async with hop(bus, index) as on:
        counts = await keep_feedback([at(0, both), at(1, trace)], on)
    assert (counts[Outcome.INDEXED], counts[Outcome.ERASED]) == (1, 1)
    assert (set(index.feedback), index.notes["t"].user_id) == ({"trace"}, "u")


async def test_feedback_that_is_stored_after_somebody_else_read_the_erasure_is_deleted_again(
    bus: SqliteBus, index: MemoryIndex
):
    async with hop(bus, index) as on:

        async def erase_and_read(name: str) -> None:
            if name == "add_feedback":
                await erase(bus, "a")
                await on.erased.catch_up()  # as a batch of logs does at the same time: it deletes too early

        index.between = erase_and_read
        counts = await keep_feedback([at(0, feedback("f"))], on)
    assert counts[Outcome.ERASED] == 1
    assert index.calls == ["add_feedback", "delete", "delete"]


async def test_it_follows_the_topic_in_a_group_of_its_own(bus: SqliteBus, index: MemoryIndex):
    await bus.publish(FEEDBACK, [Outgoing(wire.encode(feedback("f")), key="f")])
    async with hop(bus, index) as on:
        following = asyncio.create_task(follow_feedback(on, group="own-feedback"))
        async with asyncio.timeout(30), bus.subscribe([FEEDBACK], group="other") as other:
            while True:
                async with bus.subscribe([FEEDBACK], group="own-feedback") as subscription:
                    if await subscription.lag() == 0:
                        break
                await asyncio.sleep(0.01)
            assert await other.lag() == 1
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
    assert set(index.feedback) == {"f"}
