"""One batch, end to end: every log is accounted for before anything is acknowledged, whatever breaks on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from fakes.index_memory import MemoryIndex, Refused
from prometheus_client import REGISTRY

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Message as BusMessage
from tunemill.bus.port import Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.indexer.local import LocalIndex
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.packing import pack
from tunemill.schemas.records import Edit, Erasure, Feedback, LogRecord, Message, RejectedLog
from tunemill.schemas.redrive import headers_of
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED, Topic
from tunemill.schemas.trace import TraceNote
from tunemill.streams import process as processing
from tunemill.streams.batch import Hop, next_offsets, run_batch
from tunemill.streams.erased import follow_erasures
from tunemill.streams.formats.shape import Piece
from tunemill.streams.local import GROUP, run_local
from tunemill.streams.ports import LogIndex
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules, read_rules

RULES = load_rules()


def log(log_id: str, text: str = "hello") -> LogRecord:
    return LogRecord(log_id=log_id, ts_ms=1, messages=(Message(role="user", content=text),))


def erasure(log_id: str) -> Outgoing:
    return Outgoing(wire.encode(Erasure(erasure_id=f"e-{log_id}", ts_ms=1, log_id=log_id)), key=log_id)


def at(offset: int, value: bytes) -> BusMessage:
    return BusMessage(LOGS.name, 0, offset, None, value, 1)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SqliteBus]:
    bus = SqliteBus(tmp_path / "bus.db")
    await bus.create_topics([LOGS, REJECTED, ERASURES, FEEDBACK])
    yield bus
    await bus.close()


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


@asynccontextmanager
async def hop(bus: SqliteBus, index: LogIndex) -> AsyncIterator[Hop]:
    async with follow_erasures(bus, index) as erased:
        yield Hop(index, bus, erased, Rulebook(RULES))


async def letters(bus: SqliteBus) -> list[RejectedLog]:
    return [wire.decode(message.value, RejectedLog) for message in reversed(await bus.tail(REJECTED, limit=100))]


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("tunemill_logs_total", {"outcome": outcome}) or 0.0


def not_calls(kind: str) -> float:
    return REGISTRY.get_sample_value("tunemill_not_calls_total", {"kind": kind}) or 0.0


async def test_every_log_of_a_batch_is_accounted_for(bus: SqliteBus, index: MemoryIndex):
    index.rejects = {"bad-field"}
    before = {name: counted(name) for name in ("received", *Outcome)}
    await bus.publish(ERASURES, [erasure("gone")])
    batch = [
        at(0, pack([log("a"), log("b"), log("gone")])),
        at(1, b"no JSON"),
        at(2, pack([log("bad-field"), log("a")])),
    ]
    async with hop(bus, index) as on:
        counts = await run_batch(batch, on)
    assert counts == {
        Outcome.INDEXED: 2,
        Outcome.MERGED: 0,
        Outcome.DUPLICATE: 1,
        Outcome.REJECTED: 2,
        Outcome.ERASED: 1,
    }
    assert set(index.logs) == {"a", "b"}
    assert [(letter.rejected_id, letter.stage, letter.error_code) for letter in await letters(bus)] == [
        ("llm.logs:0:1:0", "decode", "not_json"),
        ("llm.logs:0:2:0", "index", "mapping"),
    ]
    grown = {name: counted(name) - before[name] for name in before}
    assert grown["received"] == sum(grown[outcome] for outcome in Outcome) == 6


async def test_a_replay_makes_duplicates_and_the_same_dead_letters(bus: SqliteBus, index: MemoryIndex):
    batch = [at(0, pack([log("a")])), at(1, b"no JSON")]
    async with hop(bus, index) as on:
        await run_batch(batch, on)
        stored = dict(index.logs)
        counts = await run_batch(batch, on)
    assert counts[Outcome.DUPLICATE] == 1
    assert index.logs == stored
    assert {letter.rejected_id for letter in await letters(bus)} == {"llm.logs:0:1:0"}


async def test_a_log_under_the_id_of_another_is_a_dead_letter_however_often_it_is_sent_again(
    bus: SqliteBus, index: MemoryIndex
):
    other = msgspec.json.encode(log("a", "other words, key sk-" + "a1B2" * 8))
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a", "first words")]))], on)
        before = dict(index.logs)
        counts = await run_batch([at(1, other)], on)
        assert counts[Outcome.REJECTED] == sum(counts.values()) == 1
        sent_again = BusMessage(LOGS.name, 0, 2, None, other, 1, headers_of("llm.logs:0:1:0", 1, 1))
        assert (await run_batch([sent_again], on))[Outcome.REJECTED] == 1
    assert index.logs == before
    found = await letters(bus)
    assert [(letter.rejected_id, letter.stage, letter.error_code, letter.attempts) for letter in found] == [
        ("llm.logs:0:1:0", "index", "id_conflict", 1),
        ("llm.logs:0:1:0", "index", "id_conflict", 2),
    ]
    assert msgspec.json.decode(found[0].payload, type=LogRecord) == log("a", "other words, key [SECRET:api-key]")


WHOLE = LogRecord(
    log_id="t-call",
    ts_ms=1,
    trace_id="t",
    messages=(Message(role="user", content="mail to ann@norvale.io, password: hunter2"),),
    extra={"number": 1.0},
)


@pytest.mark.parametrize("since", ["a part of it", "another policy", "a stricter policy", "an edit"])
async def test_a_log_that_has_changed_since_is_no_conflict_when_it_comes_again(
    bus: SqliteBus, index: MemoryIndex, since: str
):
    batch = [at(0, pack([WHOLE]))]
    strict = Rulebook(read_rules("private_data: ingest\nrules: []", place="a test"))
    async with hop(bus, index) as on:
        masking = Hop(index, bus, on.erased, strict)
        await run_batch(batch, masking if since == "another policy" else on)
        if since == "a part of it":
            await run_batch([at(1, UPDATE)], on)
        stored = index.logs["t-call"]
        if since == "an edit":
            edit = Edit(messages=(Message(role="user", content="edited"),))
            index.logs["t-call"] = stored = msgspec.structs.replace(stored, edit=edit, revision=1)
        counts = await run_batch(batch, masking if since == "a stricter policy" else on)
    assert counts[Outcome.DUPLICATE] == sum(counts.values()) == 1
    assert index.logs["t-call"] == stored
    assert await letters(bus) == []


@pytest.mark.parametrize(
    ("stored", "outcome"),
    [
        ("[PII:email] wrote: [SECRET:credential], and [SECRET:api-key]", Outcome.DUPLICATE),
        ("[PII:email] wrote: [SECRET:credential], and no [SECRET:api-key]", Outcome.REJECTED),
        ("ann wrote: SHA-256, and more [SECRET:api-key]", Outcome.REJECTED),
        ("[PII:email] SHA-256, and [SECRET:api-key] and more", Outcome.REJECTED),
    ],
)
async def test_a_log_of_which_more_was_masked_once_is_no_conflict_when_it_comes_again(
    bus: SqliteBus, index: MemoryIndex, stored: str, outcome: Outcome
):
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a", stored)]))], on)
        counts = await run_batch([at(1, pack([log("a", "ann wrote: SHA-256, and more")]))], on)
    assert counts[outcome] == sum(counts.values()) == 1


async def test_a_log_without_a_time_is_no_conflict_when_it_was_sent_twice_and_comes_out_of_order(
    bus: SqliteBus, index: MemoryIndex
):
    timeless = b'{"messages": [{"role": "user", "content": "hello"}]}'
    async with hop(bus, index) as on:
        await run_batch([BusMessage(LOGS.name, 1, 0, None, timeless, 5)], on)
        counts = await run_batch([BusMessage(LOGS.name, 0, 0, None, timeless, 4)], on)
    assert counts[Outcome.DUPLICATE] == sum(counts.values()) == 1
    assert await letters(bus) == []


async def test_a_log_that_says_the_same_as_one_of_an_earlier_batch_is_marked(bus: SqliteBus, index: MemoryIndex):
    text = "Where is my parcel with the green lamp? It was promised for Monday, and the carrier only says that it left Kiel."
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a", text), log("b", "hello")]))], on)
        await run_batch([at(1, pack([log("c", text.upper())]))], on)
    marked = {
        log_id
        for log_id, tagged in index.logs.items()
        if "quality:near-duplicate" in {entry.tag for entry in tagged.tags}
    }
    assert marked == {"c"}


async def test_what_the_index_refuses_lies_in_the_dead_letters_masked_and_readable(bus: SqliteBus, index: MemoryIndex):
    index.rejects = {"a"}
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a", "key sk-" + "a1B2" * 8)]))], on)
    (letter,) = await letters(bus)
    again = msgspec.json.decode(letter.payload, type=LogRecord)
    assert again == log("a", "key [SECRET:api-key]")


def langfuse(kind: str, **body: object) -> bytes:
    """An item of a Langfuse batch: parts of calls, and what is said beside them."""
    item = {"id": "e", "type": kind, "timestamp": "2026-01-01T00:00:00Z", "body": body}
    return msgspec.json.encode(item)


SECRET = "sk-" + "a1B2" * 8
CREATE = langfuse("generation-create", id="call", traceId="t", model="m", input=[{"role": "user", "content": "hello"}])
UPDATE = langfuse("generation-update", id="call", traceId="t", output={"role": "assistant", "content": SECRET})
TRACE = langfuse("trace-create", id="t", userId="ann", metadata={"key": SECRET})
SCORE = langfuse("score-create", id="s", traceId="t", observationId="call", name="helpful", value=1, comment=SECRET)
SPAN = langfuse("span-create", id="x", traceId="t", name="retrieve")


async def feedback(bus: SqliteBus) -> list[Feedback]:
    return [wire.decode(message.value, Feedback) for message in reversed(await bus.tail(FEEDBACK, limit=100))]


async def test_parts_notes_feedback_and_what_is_no_call_go_their_own_ways_masked(bus: SqliteBus, index: MemoryIndex):
    before = {name: counted(name) for name in ("received", *Outcome)}
    spans = REGISTRY.get_sample_value("tunemill_not_calls_total", {"kind": "span"}) or 0.0
    async with hop(bus, index) as on:
        counts = await run_batch([at(0, b"\n".join([CREATE, SPAN, SCORE])), at(1, TRACE), at(2, UPDATE)], on)
        assert {outcome: count for outcome, count in counts.items() if count} == {
            Outcome.INDEXED: 1,
            Outcome.MERGED: 1,
        }
        again = await run_batch([at(2, UPDATE)], on)
    assert again[Outcome.DUPLICATE] == sum(again.values()) == 1
    tagged = index.logs["t-call"]
    assert (tagged.log.user_id, tagged.log.model, tagged.log.output[0].content) == ("ann", "m", "[SECRET:api-key]")
    assert "secret:api-key" in {entry.tag for entry in tagged.tags}
    assert index.notes["t"].metadata == {"key": "[SECRET:api-key]"}
    (said,) = await feedback(bus)
    assert (said.log_id, said.score, said.comment) == ("t-call", 1.0, "[SECRET:api-key]")
    assert REGISTRY.get_sample_value("tunemill_not_calls_total", {"kind": "span"}) == spans + 1
    after = {name: counted(name) - before[name] for name in before}
    assert after["received"] == sum(after[name] for name in Outcome) == 3


async def test_feedback_that_masking_makes_too_large_for_its_topic_is_a_dead_letter_and_holds_nothing_up(
    bus: SqliteBus, index: MemoryIndex
):
    grows = "https://ann:x@host " * (FEEDBACK.max_message_bytes // 20)
    large = langfuse("score-create", id="s", traceId="t", name="helpful", value=1, comment=grows)
    async with hop(bus, index) as on:
        counts = await run_batch([at(0, b"\n".join([large, SCORE]))], on)
    assert {outcome: count for outcome, count in counts.items() if count} == {Outcome.REJECTED: 1}
    assert [said.comment for said in await feedback(bus)] == ["[SECRET:api-key]"]
    (letter,) = await letters(bus)
    assert (letter.stage, letter.error_code) == ("decode", "too_large")


async def test_a_part_of_an_erased_log_is_dropped_and_counted(bus: SqliteBus, index: MemoryIndex):
    async with hop(bus, index) as on:
        await run_batch([at(0, CREATE)], on)
        await bus.publish(ERASURES, [erasure("t-call")])
        counts = await run_batch([at(1, UPDATE), at(2, TRACE)], on)
    assert counts[Outcome.ERASED] == sum(counts.values()) == 1
    assert index.logs == {}


async def test_a_part_whose_log_is_erased_while_it_is_joined_is_counted_as_erased(bus: SqliteBus, index: MemoryIndex):
    async def erase_now() -> None:
        await bus.publish(ERASURES, [erasure("t-call")])

    index.after_write = erase_now
    async with hop(bus, index) as on:
        counts = await run_batch([at(0, b"\n".join([CREATE, UPDATE]))], on)
    assert counts[Outcome.ERASED] == sum(counts.values()) == 2
    assert index.logs == {}


async def test_parts_that_the_index_refuses_lie_in_the_dead_letters_joined_and_masked(
    bus: SqliteBus, index: MemoryIndex
):
    index.rejects = {"t-call"}
    async with hop(bus, index) as on:
        counts = await run_batch([at(0, CREATE), at(1, UPDATE)], on)
    assert counts[Outcome.REJECTED] == sum(counts.values()) == 2
    found = await letters(bus)
    assert {letter.offset for letter in found} == {0, 1}
    for letter in found:
        log = msgspec.json.decode(letter.payload, type=LogRecord)
        assert (log.messages[0].content, log.output[0].content) == ("hello", "[SECRET:api-key]")


@pytest.mark.parametrize("extra", [{"a": (1, 2)}, {"a": 1.0}], ids=["tuple", "number"])
async def test_a_part_is_the_same_when_it_comes_again_whatever_its_shape_made_of_it(
    bus: SqliteBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: object
):
    piece = Piece(msgspec.structs.replace(log("a"), extra=extra, trace_id="t"))
    monkeypatch.setattr(processing, "decode", lambda record, ts_ms: piece)
    index = LocalIndex(tmp_path, project="default")
    async with hop(bus, index) as on:
        await run_batch([at(0, b"{}")], on)
        counts = await run_batch([at(0, b"{}")], on)
    assert counts[Outcome.DUPLICATE] == sum(counts.values()) == 1
    await index.close()


async def test_a_part_that_no_json_holds_is_rejected_alone(
    bus: SqliteBus, index: MemoryIndex, monkeypatch: pytest.MonkeyPatch
):
    broken = Piece(log("a", "\ud800"))
    monkeypatch.setattr(
        processing, "decode", lambda record, ts_ms: broken if record == b'{"a":1}' else TraceNote(trace_id="t", app="x")
    )
    async with hop(bus, index) as on:
        counts = await run_batch([at(0, b'[{"a":1},{"b":2}]')], on)
    assert counts[Outcome.REJECTED] == sum(counts.values()) == 1
    assert set(index.notes) == {"t"}


async def test_a_batch_of_whole_logs_asks_the_index_for_nothing_more(bus: SqliteBus, index: MemoryIndex):
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a"), log("b")])), at(1, SCORE), at(2, SPAN)], on)
    assert index.calls == ["write"]


async def test_a_replay_does_not_bring_an_erased_log_back(bus: SqliteBus, index: MemoryIndex):
    batch = [at(0, pack([log("a"), log("b")]))]
    async with hop(bus, index) as on:
        await run_batch(batch, on)
        await bus.publish(ERASURES, [erasure("a")])
        await index.delete(["a"])
        counts = await run_batch(batch, on)
    async with hop(bus, index) as restarted:
        await run_batch(batch, restarted)
    assert counts == {
        Outcome.INDEXED: 0,
        Outcome.MERGED: 0,
        Outcome.DUPLICATE: 1,
        Outcome.REJECTED: 0,
        Outcome.ERASED: 1,
    }
    assert set(index.logs) == {"b"}


@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
async def test_what_a_trace_says_that_is_erased_is_dropped_and_counted(bus: SqliteBus, index: MemoryIndex, when: str):
    async def erase_trace(name: str = "put_notes") -> None:
        if name == "put_notes":
            await bus.publish(ERASURES, [erasure("trace:t")])

    if when == "before":
        await erase_trace()
    index.behind = erase_trace if when == "meanwhile" else None
    before = [not_calls(kind) for kind in ("trace_note", "trace_note_erased")]
    async with hop(bus, index) as on:
        await run_batch([at(0, TRACE)], on)
        if when == "after":
            assert index.notes["t"].user_id
            await erase_trace()
            await on.erased.catch_up()
    assert index.notes.get("t", TraceNote(trace_id="t")) == TraceNote(trace_id="t")
    new = [0, 1] if when != "after" else [1, 0]
    assert [not_calls(kind) for kind in ("trace_note", "trace_note_erased")] == [
        count + more for count, more in zip(before, new, strict=True)
    ]


async def test_feedback_among_logs_about_what_was_erased_is_not_published_again(bus: SqliteBus, index: MemoryIndex):
    await bus.publish(ERASURES, [erasure("trace:t"), erasure("t-call")])
    before = not_calls("feedback_erased")
    about_trace = langfuse("score-create", id="s", traceId="t", name="helpful", value=1)
    async with hop(bus, index) as on:
        await run_batch([at(0, SCORE), at(1, about_trace)], on)
    assert await bus.tail(FEEDBACK, limit=1) == []
    assert not_calls("feedback_erased") == before + 2


async def test_a_part_that_is_erased_while_it_is_joined_leaves_nothing_in_its_erased_trace(
    bus: SqliteBus, index: MemoryIndex, monkeypatch: pytest.MonkeyPatch
):
    piece = Piece(msgspec.structs.replace(log("a"), trace_id="t"), note=TraceNote(trace_id="t", user_id="u"))
    monkeypatch.setattr(processing, "decode", lambda record, ts_ms: piece)
    async with hop(bus, index) as on:

        async def erase_and_read(name: str) -> None:
            if name == "put_notes":
                await bus.publish(ERASURES, [erasure("a"), erasure("trace:t")])
                await on.erased.catch_up()  # as another batch does at the same time: it forgets too early

        index.between = erase_and_read
        counts = await run_batch([at(0, b"{}")], on)
    assert counts[Outcome.ERASED] == sum(counts.values()) == 1
    assert index.notes["t"].user_id is None


async def test_an_erasure_that_comes_during_the_write_is_kept(bus: SqliteBus, index: MemoryIndex):
    """Published and deleted too early for this write: the second look finds it."""

    async def erase_now() -> None:
        await bus.publish(ERASURES, [erasure("a")])

    index.after_write = erase_now
    async with hop(bus, index) as on:
        counts = await run_batch([at(0, pack([log("a"), log("b")]))], on)
    assert counts[Outcome.ERASED] == counts[Outcome.INDEXED] == 1
    assert set(index.logs) == {"b"}


async def test_what_is_erased_during_the_write_leaves_no_dead_letter(bus: SqliteBus, index: MemoryIndex):
    async def erase_now() -> None:
        await bus.publish(ERASURES, [erasure("a")])

    index.after_write, index.rejects = erase_now, {"a"}
    async with hop(bus, index) as on:
        counts = await run_batch([at(0, pack([log("a")]))], on)
    assert counts[Outcome.ERASED] == 1
    assert await letters(bus) == []


async def test_an_erasure_that_is_published_after_the_write_still_deletes(bus: SqliteBus, index: MemoryIndex):
    """Who erased it deleted it too early, and its event came too late for the batch that wrote it."""
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a"), log("b")]))], on)
        await bus.publish(ERASURES, [erasure("a")])
        await on.erased.catch_up()
    assert set(index.logs) == {"b"}


async def test_an_erasure_that_a_crash_left_undone_is_done_at_the_next_start(bus: SqliteBus, index: MemoryIndex):
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a")]))], on)
    await bus.publish(ERASURES, [erasure("a")])
    async with hop(bus, index) as restarted:
        await restarted.erased.catch_up()
    assert index.logs == {}


async def test_the_embedded_loop_erases_also_while_no_log_comes(bus: SqliteBus, index: MemoryIndex):
    stop = asyncio.Event()
    loop = asyncio.create_task(run_local(bus, index, Rulebook(RULES), stop=stop))
    await bus.publish(LOGS, [Outgoing(pack([log("a")]))])
    await until(lambda: "a" in index.logs)
    await bus.publish(ERASURES, [erasure("a")])
    await until(lambda: not index.logs)
    stop.set()
    await loop


async def test_an_erased_log_that_a_crash_left_in_the_index_is_deleted(bus: SqliteBus, index: MemoryIndex):
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a")]))], on)
        await bus.publish(ERASURES, [erasure("a")])  # and the process dies before it can delete
        await run_batch([at(0, pack([log("a")]))], on)
    assert index.logs == {}


async def test_an_erasure_that_nobody_can_read_is_put_where_a_person_sees_it(bus: SqliteBus, index: MemoryIndex):
    await bus.publish(ERASURES, [Outgoing(b"torn", key="x"), erasure("a")])
    async with hop(bus, index) as on:
        await run_batch([at(0, pack([log("a")]))], on)
    (letter,) = await letters(bus)
    assert (letter.topic, letter.error_code) == ("llm.erasures", "not_json")
    assert index.logs == {}


async def test_when_the_dead_letters_are_down_the_batch_fails(bus: SqliteBus, index: MemoryIndex):
    class NoDeadLetters(SqliteBus):
        async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
            raise BusUnavailable("away")

    broken = NoDeadLetters(bus._path)
    async with follow_erasures(bus, index) as erased:
        with pytest.raises(BusUnavailable):
            await run_batch([at(0, b"no JSON")], Hop(index, broken, erased, Rulebook(RULES)))
    await broken.close()


def test_next_offsets_are_one_past_the_highest():
    messages = [at(4, b""), at(9, b""), BusMessage("other", 2, 1, None, b"", 1)]
    assert next_offsets(messages) == {(LOGS.name, 0): 10, ("other", 2): 2}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for lies in a fake, or in the bus
            await asyncio.sleep(0.01)


async def unread(bus: SqliteBus) -> int:
    """How many messages the loop's group has not committed."""
    async with bus.subscribe([LOGS], group=GROUP) as subscription:
        return await subscription.lag()


async def test_the_embedded_loop_indexes_commits_and_stops(bus: SqliteBus, index: MemoryIndex):
    stop = asyncio.Event()
    loop = asyncio.create_task(run_local(bus, index, Rulebook(RULES), stop=stop))
    await bus.publish(LOGS, [Outgoing(pack([log("a"), log("b")])), Outgoing(wire.encode(log("c")))])
    await until(lambda: set(index.logs) == {"a", "b", "c"})
    stop.set()
    await loop
    assert await unread(bus) == 0


async def test_the_embedded_loop_stores_feedback_also_that_from_among_the_logs(bus: SqliteBus, index: MemoryIndex):
    stop = asyncio.Event()
    loop = asyncio.create_task(run_local(bus, index, Rulebook(RULES), stop=stop))
    own = Feedback(feedback_id="own", ts_ms=1, name="helpful", trace_id="t")
    await bus.publish(FEEDBACK, [Outgoing(wire.encode(own), key="own")])
    await bus.publish(LOGS, [Outgoing(SCORE)])
    await until(lambda: len(index.feedback) == 2)
    stop.set()
    await loop
    async with bus.subscribe([FEEDBACK], group=GROUP) as subscription:
        assert await subscription.lag() == 0
    assert index.feedback["own"] == own


async def test_the_embedded_loop_finishes_the_batch_in_hand_before_it_stops(bus: SqliteBus, index: MemoryIndex):
    index.delay_s = 0.3
    stop = asyncio.Event()
    await bus.publish(LOGS, [Outgoing(pack([log("a")]))])
    loop = asyncio.create_task(run_local(bus, index, Rulebook(RULES), stop=stop))
    await index.writing.wait()
    stop.set()
    assert index.logs == {}
    await loop
    assert set(index.logs) == {"a"}
    assert await unread(bus) == 0


async def test_when_the_index_refuses_the_loop_ends_and_nothing_is_committed(bus: SqliteBus, index: MemoryIndex):
    index.refuses = True
    await bus.publish(LOGS, [Outgoing(pack([log("a")])), Outgoing(b"no JSON")])
    with pytest.raises(Refused):
        await run_local(bus, index, Rulebook(RULES), stop=asyncio.Event())
    assert await unread(bus) == 2
    assert await letters(bus) == []
    index.refuses = False
    stop = asyncio.Event()
    loop = asyncio.create_task(run_local(bus, index, Rulebook(RULES), stop=stop))
    await until(lambda: "a" in index.logs)
    stop.set()
    await loop
    assert len(await letters(bus)) == 1
