"""Parts of calls become logs in the index: in any order, over several workers, and whatever breaks on the way."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from fakes.index_memory import MemoryIndex
from prometheus_client import REGISTRY

from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import Edit, LogRecord, Message, Said, Tag, TaggedLog
from tunemill.schemas.trace import TraceNote
from tunemill.streams import assemble as assembling
from tunemill.streams.assemble import assemble
from tunemill.streams.formats.shape import Piece
from tunemill.streams.mask import MaskedPiece
from tunemill.streams.merge import MAX_NOTE_BYTES, join
from tunemill.streams.rules import Rules, load_rules

RULES = load_rules()
Told = MaskedPiece | TraceNote


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "_FIRST_WAIT_S", 0.0)


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


def part(
    log_id: str = "t-a", rank: int = 1, *, kinds: tuple[str, ...] = (), note: TraceNote | None = None, **fields: Any
) -> MaskedPiece:
    given = {"ts_ms": 1000, "messages": (), "trace_id": log_id.partition("-")[0], **fields}
    places = tuple(given.pop("message_ns", ()))
    return MaskedPiece(Piece(LogRecord(log_id=log_id, **given), rank, places, note=note), kinds)


def event(log_id: str, at_ns: int, text: str) -> MaskedPiece:
    return part(log_id, 0, messages=(Message(role="user", content=text),), message_ns=(at_ns,))


def note(trace_id: str = "t", **fields: Any) -> TraceNote:
    return TraceNote(trace_id=trace_id, **fields)


def without_tags(tagged: TaggedLog) -> TaggedLog:
    """The log after a person took all of its tags off."""
    return msgspec.structs.replace(tagged, tags=(), removed=tuple(entry.tag for entry in tagged.tags))


CODE = "Please explain to me why this function does not work\n```python\nprint(1)\n```"


async def joined(index: MemoryIndex, *told: Told) -> list[str]:
    """What became of each part."""
    ends = await assemble(told, index, RULES)
    return [ends[place].written.outcome.value for place in sorted(ends)]


def tags(tagged: TaggedLog) -> set[str]:
    return {entry.tag for entry in tagged.tags}


async def test_the_first_part_is_indexed_the_others_are_merged_and_a_repeat_is_a_duplicate(index: MemoryIndex):
    assert await joined(index, event("t-a", 1, "hi"), part(model="m"), part("t-b")) == ["indexed", "merged", "indexed"]
    assert await joined(index, event("t-a", 2, "again"), part(model="m"), part("t-c")) == [
        *("merged", "duplicate", "indexed"),
    ]
    assert await joined(index, event("t-a", 1, "hi"), event("t-a", 2, "again")) == ["duplicate", "duplicate"]
    log = index.logs["t-a"].log
    assert (log.model, [message.content for message in log.messages]) == ("m", ["hi", "again"])
    assert index.notes["t"].log_ids == ("t-a", "t-b", "t-c")


async def test_a_replay_of_parts_that_take_back_one_anothers_word_changes_nothing(index: MemoryIndex):
    updates = part(model="first"), part(model="second")
    await joined(index, *updates)
    stored = dict(index.logs)
    assert await joined(index, *updates) == ["duplicate", "duplicate"]
    assert index.logs == stored


async def test_a_note_is_applied_to_calls_before_and_after_it_and_to_no_other_trace(index: MemoryIndex):
    await joined(index, part("t-a"), part("u-a"), part("t-b", user_id="own"))
    assert await joined(index, note(user_id="ann", tags=("beta",), metadata={"env": "prod"})) == []
    await joined(index, part("t-c"))
    assert {log_id: tagged.log.user_id for log_id, tagged in index.logs.items()} == {
        "t-a": "ann",
        "t-b": "own",
        "t-c": "ann",
        "u-a": None,
    }
    assert "beta" in tags(index.logs["t-a"])
    assert index.logs["t-c"].log.metadata == {"env": "prod"}


async def test_what_a_trace_told_under_another_policy_comes_into_new_calls_masked(index: MemoryIndex):
    email = "ada.lovelace@work.co"
    await joined(index, part("t-a"), part(f"t-{email}"), note(user_id=email, metadata={"to": email}))
    await assemble([part("t-b")], index, Rules((), private_data="ingest"))
    assert email.encode() not in msgspec.json.encode(index.logs["t-b"])
    assert index.logs["t-b"].log.metadata == {"to": "[PII:email]"}
    assert index.notes["t"].log_ids == ("t-a", f"t-{email}", "t-b")


async def test_a_part_may_bring_the_note_of_its_trace(index: MemoryIndex):
    await joined(index, part("t-a"))
    await joined(index, part("t-b", note=note(session_id="s")))
    assert [index.logs[log_id].log.session_id for log_id in ("t-a", "t-b")] == ["s", "s"]


async def test_a_later_word_of_a_note_holds_for_all_calls(index: MemoryIndex):
    await joined(index, part("t-a"), note(user_id="ann"))
    await joined(index, note(user_id="bob"), part("t-b"))
    assert {tagged.log.user_id for tagged in index.logs.values()} == {"bob"}


async def test_a_log_is_tagged_when_it_is_joined_and_again_when_it_grows(index: MemoryIndex):
    await joined(index, part("t-a", 1, tags=("team:shop",)))
    assert "topic:code" not in tags(index.logs["t-a"])
    await joined(index, event("t-a", 1, CODE))
    assert tags(index.logs["t-a"]) >= {"team:shop", "topic:code", "lang:en"}
    assert index.logs["t-a"].language == "en"


async def test_what_people_set_or_took_off_stays_so_when_a_part_comes(index: MemoryIndex):
    await joined(index, event("t-a", 1, CODE), part("t-a", tags=("team:shop",), kinds=("api-key",)))
    tagged = index.logs["t-a"]
    off = ("topic:code", "team:shop")
    kept = tuple(entry for entry in tagged.tags if entry.tag not in off)
    mine = Tag("reviewed:yes", "person:ann")
    index.logs["t-a"] = msgspec.structs.replace(tagged, tags=(*kept, mine), removed=off)
    await joined(index, event("t-a", 2, "please"), part("t-a", app="x", kinds=("jwt",)))
    assert tags(index.logs["t-a"]) >= {*(entry.tag for entry in kept), mine.tag, "secret:jwt"}
    assert not tags(index.logs["t-a"]) & set(off)
    assert {"secret:api-key", "lang:en"} <= tags(index.logs["t-a"])


async def test_a_part_is_joined_beneath_what_people_put_in_the_logs_place(index: MemoryIndex):
    parts = event("t-a", 1, "1 + 1?"), part("t-a")
    await joined(index, *parts)
    edit = Edit(messages=(Message(role="user", content="2 + 2?"),), output=(Message(role="assistant", content="4"),))
    said = {"revision": 2, "edit": edit, "consent": "none", "feedback": (Said(name="correct", score=0.0),)}
    index.logs["t-a"] = msgspec.structs.replace(index.logs["t-a"], **said)
    assert await joined(index, *parts) == ["duplicate", "duplicate"]
    assert await joined(index, event("t-a", 2, "please"), part("t-a"), note(user_id="ann")) == ["merged", "duplicate"]
    now = index.logs["t-a"]
    assert {name: getattr(now, name) for name in said} == said
    assert (now.log.user_id, [one.content for one in now.log.messages]) == ("ann", ["1 + 1?", "please"])
    assert now.shown == msgspec.structs.replace(now.log, messages=edit.messages, output=edit.output, consent="none")


async def test_a_replay_brings_no_tag_back_that_a_person_took_off(index: MemoryIndex):
    parts = event("t-a", 1, CODE), part("t-a", kinds=("api-key",))
    await joined(index, *parts)
    tagged = index.logs["t-a"]
    index.logs["t-a"] = without_tags(tagged)
    assert await joined(index, *parts) == ["duplicate", "duplicate"]
    assert await joined(index, parts[1], part("t-a", app="x")) == ["duplicate", "merged"]
    assert index.logs["t-a"].tags == ()


async def test_private_data_in_a_new_part_is_tagged_though_a_person_took_the_tag_off_before(index: MemoryIndex):
    await joined(index, event("t-a", 1, "write to ann@example.com"))
    tagged = index.logs["t-a"]
    assert "pii:email" in tags(tagged)
    index.logs["t-a"] = without_tags(tagged)
    await joined(index, part("t-a", app="x"))
    assert "pii:email" not in tags(index.logs["t-a"])
    await joined(index, event("t-a", 2, "or to bob@example.com"))
    assert "pii:email" in tags(index.logs["t-a"])


async def test_a_log_that_came_whole_is_only_filled(index: MemoryIndex):
    whole = TaggedLog(
        log=LogRecord(log_id="t-a", ts_ms=1, messages=(Message(role="user", content="hi"),), model="m"),
        content_digest="d",
    )
    await index.write([whole])
    assert await joined(index, part("t-a", model="other", app="shop")) == ["merged"]
    assert (index.logs["t-a"].log.model, index.logs["t-a"].log.app) == ("m", "shop")


async def test_parts_without_a_trace_are_joined_without_a_note(index: MemoryIndex):
    assert await joined(index, part("x", trace_id=None), part("x", 0, trace_id=None, app="a")) == ["indexed", "merged"]
    assert index.notes == {}


@pytest.mark.parametrize("named_first", [True, False])
async def test_a_part_that_does_not_name_its_trace_is_joined_to_one_that_does(index: MemoryIndex, named_first: bool):
    named, unnamed = part("t-a", app="a"), part("t-a", trace_id=None, model="m")
    told = (named, unnamed) if named_first else (unnamed, named)
    assert await joined(index, *told) == ["indexed", "merged"]
    assert index.notes["t"].log_ids == ("t-a",)


async def test_what_the_index_rejects_is_rejected_with_the_joined_log(index: MemoryIndex):
    index.rejects = {"t-a"}
    ends = await assemble([part("t-a", model="m"), event("t-a", 1, "hi"), part("t-b")], index, RULES)
    assert [ends[place].written.outcome for place in (0, 1, 2)] == [Outcome.REJECTED, Outcome.REJECTED, Outcome.INDEXED]
    assert {(end.written.error_code, end.log.model, end.log.messages[0].content) for end in (ends[0], ends[1])} == {
        ("mapping", "m", "hi")
    }


async def test_a_log_that_grows_beyond_what_the_index_takes_stays_as_it_was(index: MemoryIndex):
    await joined(index, part("t-a"))
    stored = dict(index.logs)
    index.rejects = {"t-a"}
    assert await joined(index, event("t-a", 1, "hi")) == ["rejected"]
    assert await joined(index, note(user_id="ann")) == []
    assert index.logs == stored


async def test_a_log_grows_up_to_a_limit_and_a_part_beyond_it_is_rejected_alone(
    index: MemoryIndex, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(assembling, "MAX_LOG_BYTES", 2000)
    await joined(index, event("t-a", 1, "hi"))
    stored = dict(index.logs)
    too_much = [event("t-a", at, "x" * 900) for at in (2, 3)]
    ends = await assemble([*too_much, part("t-b")], index, RULES)
    assert [(ends[place].written.outcome, ends[place].written.error_code) for place in (0, 1, 2)] == [
        (Outcome.REJECTED, "too_large"),
        (Outcome.REJECTED, "too_large"),
        (Outcome.INDEXED, None),
    ]
    assert [ends[place].log for place in (0, 1)] == [part.piece.log for part in too_much]
    assert index.logs["t-a"] == stored["t-a"]
    assert await joined(index, too_much[0]) == ["merged"]


async def test_what_a_note_has_no_room_for_is_counted(index: MemoryIndex):
    name = ("tunemill_not_calls_total", {"kind": "trace_note_too_large"})
    before = REGISTRY.get_sample_value(*name) or 0.0
    await joined(index, part("t-a"), note(user_id="ann", metadata={"env": "x" * MAX_NOTE_BYTES}))
    assert (index.logs["t-a"].log.user_id, index.logs["t-a"].log.metadata) == ("ann", {})
    assert REGISTRY.get_sample_value(*name) == before + 1


async def test_parts_that_cannot_be_joined_hold_up_no_others(index: MemoryIndex, monkeypatch: pytest.MonkeyPatch):
    def stumbling(log: LogRecord | None, pieces: Sequence[Piece]) -> tuple[LogRecord, list[bool]]:
        if len(pieces) > 1:
            raise ZeroDivisionError("the text of a log")
        return join(log, pieces)

    monkeypatch.setattr(assembling, "join", stumbling)
    ends = await assemble([part("t-a"), event("t-a", 1, "hi"), part("t-b")], index, RULES)
    assert [(ends[place].written.outcome, ends[place].written.error_code) for place in (0, 1, 2)] == [
        (Outcome.REJECTED, "internal"),
        (Outcome.REJECTED, "internal"),
        (Outcome.INDEXED, None),
    ]
    assert "text" not in str(ends[0].written.reason)


async def test_a_trace_with_one_call_takes_one_read_and_two_writes(index: MemoryIndex):
    await joined(index, part("t-a"), event("t-a", 1, "hi"))
    assert index.calls == ["stored", "write", "put_notes"]
    index.calls.clear()
    await joined(index, event("t-a", 2, "more"))
    assert index.calls == ["stored", "replace"]
    index.calls.clear()
    await joined(index, event("t-a", 2, "more"))
    assert index.calls == ["stored"]


async def test_many_traces_at_once(index: MemoryIndex, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assembling, "_TRACES", 7)
    told = [part(f"t{at}-{call}") for at in range(20) for call in range(3)]
    assert await joined(index, *told) == ["indexed"] * 60
    assert index.calls == ["stored", "write", "put_notes"] * 3


class Crash(Exception):
    """The process is gone."""


SCRIPT: tuple[tuple[Told, ...], ...] = (
    (event("t-a", 2, "second"), part("t-b", model="m"), part("u-a")),
    (note(user_id="ann", tags=("beta",)), event("t-a", 1, "first")),
    (part("t-a", model="m", app="x"), part("t-c", 0), note("u", session_id="s")),
    (note(user_id="bob", metadata={"k": "v"}), part("t-b", 0, app="y")),
)


async def outcome_of(script: Sequence[Sequence[Told]]) -> tuple[dict[str, TaggedLog], dict[str, TraceNote]]:
    index = MemoryIndex()
    for batch in script:
        await assemble(batch, index, RULES)
    return index.logs, index.notes


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
async def test_a_crash_at_any_call_and_a_replay_give_the_same_documents(after: bool):
    expected = await outcome_of(SCRIPT)
    crashes = 0
    while True:
        index, calls = MemoryIndex(), 0

        async def crash(name: str) -> None:
            nonlocal calls
            calls += 1
            if calls == crashes + 1:  # noqa: B023
                raise Crash(name)

        setattr(index, "behind" if after else "between", crash)
        crashed = False
        for batch in SCRIPT:
            try:
                await assemble(batch, index, RULES)
            except Crash:
                crashed = True
                await assemble(batch, index, RULES)
        assert (index.logs, index.notes) == expected
        if not crashed:
            break
        crashes += 1
    assert crashes >= 9


async def test_another_worker_in_between_is_seen_at_any_call():
    """The second batch is worked on whole at each call of the first one: the logs get all parts and the note in either order."""
    first: tuple[Told, ...] = (event("t-a", 1, "hi"), part("t-b"))
    second: tuple[Told, ...] = (part("t-a", model="m"), note(user_id="ann"), part("t-c"))
    for at in range(8):
        index, calls = MemoryIndex(), 0

        async def other(_name: str) -> None:
            nonlocal calls
            calls += 1
            if calls == at + 1:  # noqa: B023
                index.between = None  # noqa: B023
                await assemble(second, index, RULES)  # noqa: B023

        index.between = other
        await assemble(first, index, RULES)
        if calls <= at:
            await assemble(second, index, RULES)
        assert {log_id: tagged.log.user_id for log_id, tagged in index.logs.items()} == dict.fromkeys(
            ("t-a", "t-b", "t-c"), "ann"
        ), at
        assert (index.logs["t-a"].log.model, len(index.logs["t-a"].log.messages)) == ("m", 1)
        assert set(index.notes["t"].log_ids) == {"t-a", "t-b", "t-c"}


@pytest.mark.parametrize("seed", range(20))
async def test_several_workers_with_parts_of_one_trace_agree(seed: int):
    """Each call of the index lets the others go on, in an order that the seed decides."""
    chance = random.Random(seed)
    index = MemoryIndex()
    told: list[Told] = [event(f"t-{call}", at, f"{at}") for call in "abc" for at in range(3)]
    told += [part(f"t-{call}", model="m") for call in "abc"]
    told += [note(user_id="ann"), note(tags=("beta",)), note(metadata={"k": "v"})]
    told += chance.sample(told, 5)
    chance.shuffle(told)

    async def pause(_name: str) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    index.between = pause
    ends = await asyncio.gather(*[assemble(told[worker::4], index, RULES) for worker in range(4)])
    outcomes = [end.written.outcome for worker in ends for end in worker.values()]
    assert outcomes.count(Outcome.INDEXED) == 3
    assert len(outcomes) == sum(isinstance(item, MaskedPiece) for item in told)
    for call in "abc":
        log = index.logs[f"t-{call}"].log
        assert (log.user_id, log.tags, log.metadata, log.model) == ("ann", ("beta",), {"k": "v"}, "m")
        assert [message.content for message in log.messages] == ["0", "1", "2"]


async def test_a_part_that_comes_while_a_later_note_is_applied_does_not_bring_the_earlier_word_back(index: MemoryIndex):
    await joined(index, part("t-a"), note(user_id="ann"))

    async def other(name: str) -> None:
        if name == "put_notes":  # the log has the new word already, the note has not
            index.between = None
            await joined(index, event("t-a", 1, "hi"))

    index.between = other
    await joined(index, note(user_id="bob"))
    log = index.logs["t-a"].log
    assert (log.user_id, len(log.messages), index.notes["t"].user_id) == ("bob", 1, "bob")


async def test_a_log_that_is_deleted_meanwhile_is_not_brought_back_by_a_note(index: MemoryIndex):
    await joined(index, part("t-a"))

    async def erase(name: str) -> None:
        if name == "replace":
            index.logs.clear()

    index.between = erase
    await joined(index, note(user_id="ann"))
    assert index.logs == {}
