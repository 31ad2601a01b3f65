"""Parts of one call, joined: in any order and however often they come, the same log."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas.records import LogRecord, Message, Usage
from tunemill.schemas.trace import TraceNote
from tunemill.streams.formats.shape import Piece
from tunemill.streams.merge import JOINED, MAX_LOG_IDS, MAX_NOTE_BYTES, begun, join, merge, merge_notes, with_note

ID = "trace-span"
HI, WELL = Message(role="user", content="hi"), Message(role="assistant", content="well")


def part(rank: int = 1, *, message_ns: tuple[int, ...] = (), choices: tuple[int, ...] = (), **fields: Any) -> Piece:
    fields = {"ts_ms": 1000, "messages": (), **fields}
    end_ms = fields.pop("end_ms", None)
    return Piece(LogRecord(log_id=ID, **fields), rank, message_ns, choices, end_ms)


def joined(*parts: Piece | TraceNote) -> LogRecord:
    """The log after each part in turn, by way of the JSON in which an index holds it in between."""
    log: LogRecord | None = None
    for said in parts:
        if isinstance(said, TraceNote):
            assert log is not None
            log = with_note(log, said)
        else:
            log = begun(said) if log is None else merge(log, said)
        log = msgspec.json.decode(msgspec.json.encode(log), type=LogRecord)
    assert log is not None
    return log


words = st.sampled_from(["a", "b/c", "~1"])
maybe = st.none() | words
values = st.dictionaries(words, words | st.integers(0, 3) | st.lists(words, max_size=2), max_size=3)
extras = st.dictionaries(words, words | values, max_size=3)
messages = st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=maybe)
whole_lists = st.lists(messages, max_size=2).map(tuple)


@st.composite
def pieces(draw: st.DrawFn, rank: int) -> Piece:
    come_one_by_one = draw(st.booleans())
    asked, answered = draw(whole_lists), draw(whole_lists)
    log = LogRecord(
        log_id=ID,
        ts_ms=draw(st.integers(0, 9)),
        messages=asked,
        output=answered,
        model=draw(maybe),
        user_id=draw(maybe),
        operation=draw(st.sampled_from(["chat", "text_completion"])),
        params=draw(st.none() | values | words),
        extra=draw(st.none() | extras | words),
        metadata=draw(st.dictionaries(words, words, max_size=2)),
        usage=Usage(input_tokens=draw(st.none() | st.integers(0, 3))),
        latency_ms=draw(st.none() | st.integers(0, 9).map(float)),
        status=draw(st.sampled_from(["ok", "error"])),
        error=draw(maybe),
        tags=tuple(draw(st.lists(words, max_size=3))),
    )
    places = st.integers(0, 3)
    return Piece(
        log,
        rank,
        message_ns=tuple(draw(places) for _ in asked) if come_one_by_one else (),
        choices=tuple(draw(places) for _ in answered) if come_one_by_one else (),
        end_ms=draw(st.none() | st.integers(0, 20).map(float)),
    )


notes = st.builds(
    TraceNote,
    trace_id=st.just("t"),
    user_id=maybe,
    session_id=maybe,
    app=maybe,
    tags=st.lists(words, max_size=2).map(tuple),
    metadata=st.dictionaries(words, words, max_size=2),
)


@given(st.data())
def test_any_order_and_any_repetition_of_the_same_parts_gives_the_same_log(data: st.DataObject):
    known: list[Piece | TraceNote] = [data.draw(pieces(rank)) for rank in range(data.draw(st.integers(1, 3)))]
    beside = data.draw(st.lists(notes, max_size=1))
    expected = joined(*known, *beside)
    again = data.draw(st.lists(st.sampled_from([*known, *beside]), max_size=4))
    shuffled = data.draw(st.permutations([*known, *beside, *again]))
    first = next(at for at, said in enumerate(shuffled) if isinstance(said, Piece))
    shuffled.insert(0, shuffled.pop(first))  # a log begins with a part; a note waits for it
    assert joined(*shuffled) == expected


@given(st.lists(st.integers(0, 2).flatmap(pieces), min_size=1, max_size=6))
def test_parts_together_give_what_they_give_one_by_one_and_each_is_told_from_a_repeat(told: list[Piece]):
    together, is_new = join(None, told)
    log = begun(told[0])
    for piece, said_something in zip(told[1:], is_new[1:], strict=True):
        before, log = log, merge(log, piece)
        assert (log != before) == said_something
    assert log == together
    assert joined(*told) == msgspec.json.decode(msgspec.json.encode(together), type=LogRecord)
    assert join(together, told[-1:]) == (together, [False])


def test_many_parts_of_one_call_are_joined_in_one_go():
    events = [part(0, messages=(HI,), message_ns=(at,)) for at in range(3000)]
    log, is_new = join(None, events[::-1])
    assert len(log.messages) == len(is_new) == 3000
    assert log.extra[JOINED]["message_ns"] == list(range(3000))


def test_what_says_nothing_new_changes_nothing():
    log = joined(part(0, messages=(HI,), message_ns=(7,)), part(1, model="m", output=(WELL,), choices=(0,)))
    assert merge(log, part(0, messages=(HI,), message_ns=(7,))) == log
    whole = LogRecord(log_id=ID, ts_ms=1, messages=(HI,), extra={"a": 1})
    assert merge(whole, part(ts_ms=2)) == whole


def test_the_higher_rank_holds_and_the_lower_fills_what_it_left_open():
    create = part(0, model="asked", user_id="u", params={"a": 1, "b": 1}, extra={"x": "low"}, app="one")
    update = part(1, model="answered", params={"b": 2}, extra={"x": "high"}, usage=Usage(output_tokens=3))
    log = joined(update, create)
    assert (log.model, log.user_id, log.app, log.params) == ("answered", "u", "one", {"a": 1, "b": 2})
    assert log.usage == Usage(output_tokens=3)
    assert {name: item for name, item in log.extra.items() if name != JOINED} == {"x": "high"}


def test_a_part_that_does_not_say_what_was_done_takes_nothing_back():
    assert joined(part(0, operation="text_completion", source="langfuse"), part(1)).operation == "text_completion"
    assert joined(part(1, source="langfuse"), part(0)).source == "langfuse"


def test_what_two_parts_say_inside_one_part_of_extra_is_united():
    event, span = part(0, extra={"usage": {"cached": 1, "all": 2}}), part(1, extra={"usage": {"all": 3}, "scope": "s"})
    for log in (joined(event, span), joined(span, event)):
        assert log.extra | {JOINED: None} == {"usage": {"cached": 1, "all": 3}, "scope": "s", JOINED: None}


def test_of_three_ranks_the_middle_one_goes_before_the_lowest():
    low, middle, high = part(0, model="low"), part(1, model="middle"), part(2, app="high")
    assert joined(low, high, middle) == joined(low, middle, high)
    assert joined(low, high, middle).model == "middle"


def test_messages_that_come_one_by_one_stand_in_the_order_of_their_time():
    system = Message(role="system", content="be brief")
    log = joined(
        part(0, messages=(HI,), message_ns=(20,)),
        part(1, model="m"),
        part(0, messages=(system,), message_ns=(10,)),
        part(0, output=(Message(role="assistant", content="second"),), choices=(1,)),
        part(0, output=(WELL,), choices=(0,)),
    )
    assert log.messages == (system, HI)
    assert [message.content for message in log.output] == ["well", "second"]


@pytest.mark.parametrize("span_first", [True, False])
def test_a_whole_list_goes_before_messages_that_come_one_by_one(span_first: bool):
    event, span = part(0, messages=(HI,), message_ns=(20,)), part(1, messages=(HI, WELL, HI))
    assert joined(*((span, event) if span_first else (event, span))).messages == (HI, WELL, HI)


def test_an_error_that_any_part_tells_stays():
    assert joined(part(0, status="error", error="timeout"), part(1)).status == "error"
    assert joined(part(1, error="429", status="error"), part(0)).error == "429"


def test_the_begin_in_one_part_and_the_end_in_another_give_the_latency():
    create, update = part(0, ts_ms=1000), part(1, ts_ms=1500, end_ms=1250.5)
    assert joined(create, update).latency_ms == joined(update, create).latency_ms == 250.5
    assert joined(part(0, ts_ms=1200, end_ms=1250.5), create).latency_ms == 250.5  # worked out again
    assert joined(update).latency_ms is None  # it ended before it began: its begin is not known
    assert joined(create, update, part(0, latency_ms=7.0)).latency_ms == 7.0  # told goes before worked out


def test_what_the_log_says_goes_before_its_traces_note_whichever_came_first():
    note = TraceNote(trace_id="t", user_id="n", session_id="s", tags=("beta",), metadata={"env": "prod", "k": "note"})
    told, untold = part(0, user_id="u", metadata={"k": "own"}), part(1)
    early, late = joined(untold, note, told), joined(untold, told, note)
    assert early == late
    assert (early.user_id, early.session_id, early.tags) == ("u", "s", ("beta",))
    assert early.metadata == {"env": "prod", "k": "own"}


def test_a_later_note_replaces_what_an_earlier_one_said():
    first, second = TraceNote(trace_id="t", user_id="a"), TraceNote(trace_id="t", user_id="b")
    assert joined(part(), first, second).user_id == "b"


def test_a_log_that_came_whole_is_only_filled():
    whole = LogRecord(log_id=ID, ts_ms=5, messages=(HI,), model="m")
    log = merge(whole, part(3, model="other", app="shop", messages=(WELL,)))
    assert (log.model, log.app, log.messages) == ("m", "shop", (HI,))


@pytest.mark.parametrize("memory", [1, "x", [], {"rank": "high"}, {"message_ns": [1, 2, 3]}, {"ranks": {"model": "x"}}])
def test_a_memory_of_somebody_elses_making_does_no_harm(memory: Any):
    log = LogRecord(log_id=ID, ts_ms=5, messages=(HI,), extra={JOINED: memory, "own": 1})
    merged = merge(log, part(0, app="shop", messages=(WELL,), message_ns=(4,)))
    assert (merged.app, merged.messages) == ("shop", (HI,))
    assert merged.extra["own"] == 1


def test_notes_are_joined_and_a_trace_remembers_a_bounded_number_of_calls():
    first = TraceNote(trace_id="t", user_id="a", tags=("x",), metadata={"k": "1"}, log_ids=("l1",))
    second = TraceNote(trace_id="t", user_id="b", tags=("y", "x"), metadata={"j": "2"}, log_ids=("l1", "l2"))
    both = merge_notes(first, second)
    assert both == TraceNote(
        trace_id="t", user_id="b", tags=("x", "y"), metadata={"k": "1", "j": "2"}, log_ids=("l1", "l2")
    )
    assert merge_notes(both, TraceNote(trace_id="t")) == both
    many = tuple(f"m{at}" for at in range(2 * MAX_LOG_IDS))
    kept = merge_notes(both, TraceNote(trace_id="t", log_ids=many)).log_ids
    assert (len(kept), kept[:2]) == (MAX_LOG_IDS, ("l1", "l2"))


def test_a_note_grows_up_to_a_limit_metadata_and_tags_being_the_first_to_have_no_room():
    known = TraceNote(trace_id="t", user_id="ann", metadata={"env": "prod"}, log_ids=("l1",))
    wide = {str(at): "x" * 1024 for at in range(MAX_NOTE_BYTES // 1024)}
    more = TraceNote(trace_id="t", user_id="bob", metadata=wide, tags=("beta",), log_ids=("l2",))
    both = merge_notes(known, more)
    assert (both.user_id, both.metadata, both.tags, both.log_ids) == ("bob", {"env": "prod"}, (), ("l1", "l2"))
    endless = merge_notes(known, TraceNote(trace_id="t", user_id="x" * MAX_NOTE_BYTES, log_ids=("l2",)))
    assert (endless.user_id, endless.metadata, endless.log_ids) == ("ann", {"env": "prod"}, ("l1", "l2"))
