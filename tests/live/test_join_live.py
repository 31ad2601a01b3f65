"""Calls that are told in parts, on a real broker and a real index: one log each, whichever worker had which part when."""

import asyncio
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Message
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED
from tunemill.streams.batch import Hop, next_offsets, run_batch
from tunemill.streams.erased import follow_erasures
from tunemill.streams.feedback import follow_feedback
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules

pytestmark = pytest.mark.live

RULES = load_rules()
START_NS = 1_767_225_600_000_000_000
SCOPE = {"name": "opentelemetry.instrumentation.openai_v2", "version": "2.3b0"}
SPAN_ID = "b7ad6b7169203331"
DEADLINE_S = 60.0


def span(trace_id: str, span_id: str) -> bytes:
    """The span of a call whose messages come as events."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "small-1",
        "gen_ai.response.id": f"r-{span_id}",
        "gen_ai.usage.input_tokens": 7,
    }
    return msgspec.json.encode(
        {
            "resource": {"service.name": "shop"},
            "scope": SCOPE,
            "span": {
                "trace_id": trace_id,
                "span_id": span_id,
                "parent_span_id": None,
                "name": "chat small-1",
                "start_ns": START_NS,
                "end_ns": START_NS + 250_000_000,
                "attributes": attributes,
                "events": [],
                "is_error": False,
                "status_message": None,
            },
        }
    )


def event(trace_id: str, span_id: str, name: str, after_ns: int, body: dict[str, object]) -> bytes:
    """One of its messages."""
    return msgspec.json.encode(
        {
            "resource": {"service.name": "shop"},
            "scope": SCOPE,
            "log_record": {
                "trace_id": trace_id,
                "span_id": span_id,
                "time_ns": START_NS + after_ns,
                "event_name": name,
                "body": body,
                "attributes": {"gen_ai.system": "openai"},
            },
        }
    )


def told(trace_id: str, span_id: str) -> list[bytes]:
    """A whole call as its client tells it: a span, and its messages one by one."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Of course."}}
    return [
        span(trace_id, span_id),
        event(trace_id, span_id, "gen_ai.system.message", 1, {"content": "Be brief."}),
        event(trace_id, span_id, "gen_ai.user.message", 2, {"content": "I want a refund, my parcel never came"}),
        event(trace_id, span_id, "gen_ai.choice", 3, choice),
    ]


def langfuse(kind: str, **body: object) -> bytes:
    return msgspec.json.encode({"id": "e", "type": kind, "timestamp": "2026-01-01T00:00:00Z", "body": body})


def is_whole(tagged: TaggedLog | None) -> bool:
    if tagged is None:
        return False
    said = [message.content for message in (*tagged.log.messages, *tagged.log.output)]
    return (
        said == ["Be brief.", "I want a refund, my parcel never came", "Of course."] and tagged.log.model == "small-1"
    )


class Live:
    """A project of its own on the shared engines."""

    def __init__(self, bus: Bus, index: SearchIndex, hop: Hop) -> None:
        self.bus, self.index, self.hop = bus, index, hop
        self.trace_id = uuid.uuid4().hex
        self._offset = itertools.count()

    async def batch(self, *records: bytes) -> dict[Outcome, int]:
        """What became of these, worked on as one message."""
        message = Message(LOGS.name, 0, next(self._offset), None, b"\n".join(records), START_NS // 1_000_000)
        counts = await run_batch([message], self.hop)
        return {outcome: count for outcome, count in counts.items() if count}

    async def found(self, text: str) -> list[str]:
        await self.index.refresh()
        return [tagged.log.log_id async for tagged in self.index.scan(parse(text), limit=None)]


@asynccontextmanager
async def opened(kafka_url: str, elasticsearch_url: str, project: str) -> AsyncIterator[Live]:
    bus, index = open_bus(kafka_url), open_index(elasticsearch_url, project=project)
    try:
        await bus.create_topics([LOGS, REJECTED, ERASURES, FEEDBACK])
        await index.setup()
        async with follow_erasures(bus, index) as erased:
            yield Live(bus, index, Hop(index, bus, erased, Rulebook(RULES)))
    finally:
        await index.close()
        await bus.close()


@pytest.fixture
async def project(elasticsearch_url: str) -> AsyncIterator[str]:
    name = f"join-{uuid.uuid4().hex[:12]}"
    yield name
    async with httpx.AsyncClient(base_url=elasticsearch_url) as client:
        for kind in ("logs", "traces", "feedback"):
            await client.delete(f"/{kind}-{name}-000001")
            await client.delete(f"/_index_template/{kind}-{name}")


@pytest.fixture
async def live(kafka_url: str, elasticsearch_url: str, project: str) -> AsyncIterator[Live]:
    async with opened(kafka_url, elasticsearch_url, project) as live:
        yield live


@pytest.mark.parametrize("span_first", [True, False], ids=["span, then events", "events, then span"])
async def test_parts_that_come_seconds_apart_are_one_log(live: Live, span_first: bool):
    first, *events = told(live.trace_id, SPAN_ID)
    early, late = ([first], events) if span_first else (events, [first])
    log_id = f"{live.trace_id}-{SPAN_ID}"
    assert await live.batch(*early) == ({Outcome.INDEXED: 1} if span_first else {Outcome.INDEXED: 1, Outcome.MERGED: 2})
    assert not is_whole(await live.index.get(log_id))
    await asyncio.sleep(2)  # the index has written a segment in between
    assert sum((await live.batch(*late)).values()) == len(late)
    tagged = await live.index.get(log_id)
    assert is_whole(tagged)
    assert tagged is not None and "topic:support" in {entry.tag for entry in tagged.tags}
    assert await live.found("refund model:small-1 tag:topic:support") == [log_id]


async def test_parts_that_come_again_change_nothing(live: Live):
    parts = told(live.trace_id, SPAN_ID)
    await live.batch(*parts)
    before = await live.index.stored(log_ids=[f"{live.trace_id}-{SPAN_ID}"], trace_ids=[live.trace_id])
    assert await live.batch(*reversed(parts), *parts) == {Outcome.DUPLICATE: 8}
    assert await live.index.stored(log_ids=[f"{live.trace_id}-{SPAN_ID}"], trace_ids=[live.trace_id]) == before


async def test_what_is_said_about_a_trace_reaches_its_calls_in_either_order(live: Live):
    trace_id = live.trace_id
    call = {"traceId": trace_id, "input": "hi", "output": "well"}
    await live.batch(langfuse("generation-create", id="one", **call))
    await live.batch(langfuse("trace-create", id=trace_id, userId="ann", tags=["beta"]))
    await live.batch(langfuse("generation-create", id="two", **call))
    await live.batch(langfuse("trace-create", id=trace_id, sessionId="s-1"))
    assert await live.found("user:ann session:s-1 tag:beta") == [f"{trace_id}-one", f"{trace_id}-two"]


async def test_two_workers_with_parts_of_the_same_traces_make_one_log_of_each_call(
    kafka_url: str, elasticsearch_url: str, project: str
):
    chance = random.Random(7)
    calls = [(trace_id, f"{call + 1:016x}") for trace_id in (uuid.uuid4().hex for _ in range(6)) for call in range(2)]
    parts = [part for trace_id, span_id in calls for part in told(trace_id, span_id)]
    parts += [langfuse("trace-create", id=trace_id, userId="ann") for trace_id in {trace_id for trace_id, _ in calls}]
    parts += chance.sample(parts[: 4 * len(calls)], 10)
    chance.shuffle(parts)
    async with (
        opened(kafka_url, elasticsearch_url, project) as one,
        opened(kafka_url, elasticsearch_url, project) as two,
    ):

        async def work(worker: Live, mine: list[bytes]) -> list[dict[Outcome, int]]:
            return [await worker.batch(*mine[at : at + 3]) for at in range(0, len(mine), 3)]

        counts = await asyncio.gather(work(one, parts[::2]), work(two, parts[1::2]))
        total = {outcome: sum(batch.get(outcome, 0) for worker in counts for batch in worker) for outcome in Outcome}
        assert total[Outcome.INDEXED] == len(calls)
        assert total[Outcome.INDEXED] + total[Outcome.MERGED] + total[Outcome.DUPLICATE] == 4 * len(calls) + 10
        for trace_id, span_id in calls:
            tagged = await one.index.get(f"{trace_id}-{span_id}")
            assert is_whole(tagged)
            assert tagged is not None and tagged.log.user_id == "ann"
        assert len(await one.found("")) == len(calls)


async def test_a_kill_between_any_two_requests_and_a_replay_give_the_same_log(live: Live):
    """The task is cancelled at a moment that differs each time; what it left is made up for by the replay."""
    for attempt in range(12):
        trace_id = uuid.uuid4().hex
        parts = [*told(trace_id, SPAN_ID), langfuse("trace-create", id=trace_id, userId="ann")]
        for half in (parts[::2], parts[1::2]):
            task = asyncio.create_task(live.batch(*half))
            await asyncio.wait([task], timeout=0.004 * attempt)
            task.cancel()
            await asyncio.wait([task])
            await live.batch(*half)
        tagged = await live.index.get(f"{trace_id}-{SPAN_ID}")
        assert is_whole(tagged)
        assert tagged is not None and tagged.log.user_id == "ann"
        note = (await live.index.stored(log_ids=[], trace_ids=[trace_id])).notes[trace_id].note
        assert note.log_ids == (f"{trace_id}-{SPAN_ID}",)


async def test_feedback_among_the_logs_is_stored_and_shown_with_its_log(live: Live):
    group = f"join-{uuid.uuid4().hex[:12]}"
    await skip_history(live.bus, group)
    trace_id = live.trace_id
    await live.batch(langfuse("generation-create", id="one", traceId=trace_id, input="hi", output="well"))
    score = {"traceId": trace_id, "observationId": "one", "name": "helpful", "value": 1}
    await live.batch(langfuse("score-create", id=f"s-{trace_id}", **score))
    tagged = await live.index.get(f"{trace_id}-one")
    assert tagged is not None

    async def shown() -> bool:
        await live.index.refresh()
        return [item.feedback_id for item in await live.index.feedback_of(tagged.log)] == [f"s-{trace_id}"]

    following = asyncio.create_task(follow_feedback(live.hop, group=group))
    try:
        await until(shown)
    finally:
        following.cancel()
        await asyncio.wait([following])
    await live.index.delete([tagged.log.log_id])
    await live.index.refresh()
    assert await live.index.feedback_of(tagged.log) == ()


async def skip_history(bus: Bus, group: str) -> None:
    """Let the group begin at the end of the shared topic."""
    async with bus.subscribe([FEEDBACK], group=group) as subscription:
        async with asyncio.timeout(DEADLINE_S):
            while not subscription.consumer.assignment():  # type: ignore[attr-defined]
                await subscription.poll(max_messages=1, timeout_s=0.2)
            while await subscription.lag() > 0:
                messages = await subscription.poll(max_messages=500, timeout_s=0.5)
                if messages:
                    await subscription.commit(next_offsets(messages))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for lies in an index
            await asyncio.sleep(0.1)
