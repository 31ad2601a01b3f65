"""Events of Langfuse's ingestion batches: those that its SDK 2 was seen to send, and those that others may."""

import json
from pathlib import Path
from typing import Any

import pytest
from clients.case import Case
from clients.chat_cases import TABLE
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas.ids import span_log_id
from tunemill.schemas.records import Feedback, LogRecord, Message, Usage
from tunemill.schemas.trace import TraceNote
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import NotACall, Piece, Reading
from tunemill.streams.merge import begun, merge, merge_notes, with_note

CAPTURES = Path(__file__).parent / "captures"
TS_MS = 1_780_000_000_000
TOLD = "2026-11-22T18:47:05.500Z"
TOLD_MS = 1_795_373_225_500


def batches(path: str) -> list[dict[str, Any]]:
    """The items that a real client sent for one case, in the order of its requests."""
    lines = (CAPTURES / path).read_text(encoding="utf-8").splitlines()
    return [item for line in lines for item in json.loads(line)["batch"]]


def read(item: Any) -> Reading:
    return decode(json.dumps(item).encode(), ts_ms=TS_MS)


def event(kind: str, **body: Any) -> dict[str, Any]:
    return {"id": "e1", "type": kind, "timestamp": TOLD, "body": body}


def generation(step: str = "create", **body: Any) -> LogRecord:
    found = read(event(f"generation-{step}", **{"id": "g", "traceId": "t", **body}))
    assert isinstance(found, Piece)
    return found.log


def feedback(**body: Any) -> Feedback:
    found = read(event("score-create", **{"id": "s", "traceId": "t", "name": "helpful", **body}))
    assert isinstance(found, Feedback)
    return found


def joined(readings: list[Reading]) -> LogRecord:
    """The one log that these readings tell."""
    pieces = [reading for reading in readings if isinstance(reading, Piece)]
    assert len({piece.log.log_id for piece in pieces}) == 1
    log = begun(pieces[0])
    for piece in pieces[1:]:
        log = merge(log, piece)
    notes = [reading for reading in readings if isinstance(reading, TraceNote)]
    note = notes[0]
    for more in notes[1:]:
        note = merge_notes(note, more)
    return with_note(log, note)


def with_media_tokens(messages: tuple[Message, ...]) -> list[Any]:
    """The messages as plain values; SDK 2 uploads an image and leaves a token in its place."""
    plain = json.loads(
        json.dumps([{name: getattr(m, name) for name in ("role", "content", "parts")} for m in messages])
    )
    for message in plain:
        for part in message["parts"] or ():
            if part["type"] == "image_url":
                part["image_url"]["url"] = (
                    "@@@langfuseMedia:type=image/png|id=xBTNDiBN6XT3N1PH4o12OO|source=base64_data_uri@@@"
                )
    return plain


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_what_sdk_2_tells_in_several_events_is_one_whole_call(case: Case) -> None:
    readings = [read(item) for item in batches(f"langfuse2/ingestion-{case.name}.jsonl")]
    kinds = [type(reading).__name__ for reading in readings]
    assert sorted(kinds) == ["Feedback", "Piece", "Piece", "TraceNote", "TraceNote"]
    expected = case.expected
    for log in (joined(readings), joined(readings[::-1])):
        assert with_media_tokens(log.messages) == with_media_tokens(expected.messages)
        assert [m.tool_calls for m in log.messages] == [m.tool_calls for m in expected.messages]
        assert log.output == expected.output
        assert (log.model, log.tools, log.usage, log.status) == (
            f"case-{case.name}",
            expected.tools,
            expected.usage,
            expected.status,
        )
        told = {name: item for name, item in expected.params.items() if not name.startswith("stream")}
        assert told.items() <= log.params.items()
        assert log.user_id == f"user-{case.name}"
        assert log.session_id == f"session-{case.name}"
        assert log.tags == ("beta", "team:shop")
        assert log.metadata == {"tier": "gold", "name": case.name, "trace_name": "answer a customer"}
        assert log.source == "langfuse"
        assert log.latency_ms is not None, "the begin is told in one event, the end in the other"


def test_a_failed_call_names_its_error_and_keeps_the_text_aside() -> None:
    log = joined([read(item) for item in batches("langfuse2/ingestion-error.jsonl")])
    assert (log.status, log.error, log.output, log.cost_usd) == ("error", "429", (), 0.0)
    assert log.extra["error"].startswith("Error code: 429 - ")


@pytest.mark.parametrize("sdk", ["langfuse3", "langfuse4"])
def test_a_score_of_newer_sdks_is_feedback_on_a_trace(sdk: str) -> None:
    (item,) = batches(f"{sdk}/ingestion-plain.jsonl")
    found = read(item)
    assert isinstance(found, Feedback)
    assert (found.feedback_id, found.trace_id) == (item["body"]["id"], item["body"]["traceId"])
    assert (found.name, found.score, found.comment, found.log_id) == ("helpful", 0.75, "of plain", None)


def test_a_whole_generation_in_one_event() -> None:
    found = read(
        event(
            "generation-create",
            id="g",
            traceId="t",
            parentObservationId="root",
            name="answer",
            startTime="2026-11-22T18:47:05.250Z",
            completionStartTime="2026-11-22T18:47:05.300Z",
            endTime="2026-11-22T19:47:05.750+01:00",
            model="small-1",
            modelParameters={"temperature": "1e-05", "max_tokens": 64, "stop": ["a", "b"], "top_p": "0.9", "n": None},
            input=[{"role": "user", "content": "hi"}],
            output="hello",
            usageDetails={"input": 3, "output": 2, "total": 5, "input_cached_tokens": 1},
            costDetails={"input": 0.25, "output": 0.5, "total": 0.75},
            promptName="greet",
            promptVersion=4,
            level="DEFAULT",
            metadata={"tier": "gold", "n": 1},
            environment="staging",
            version="7",
            trace={"release": "r1"},
            later={"unknown": True},
        )
    )
    assert isinstance(found, Piece)
    log = found.log
    assert (log.log_id, log.trace_id, log.ts_ms, log.latency_ms) == (span_log_id("t", "g"), "t", TOLD_MS - 250, 500.0)
    assert found.end_ms == TOLD_MS + 250
    assert log.messages == (Message(role="user", content="hi"),)
    assert log.output == (Message(role="assistant", content="hello"),)
    assert (log.model, log.usage, log.cost_usd) == ("small-1", Usage(input_tokens=3, output_tokens=2), 0.75)
    assert log.params == {"temperature": 1e-05, "max_tokens": 64, "stop": ["a", "b"], "top_p": 0.9}
    assert (log.status, log.error) == ("ok", None)
    assert log.metadata == {
        "tier": "gold",
        "n": "1",
        "name": "answer",
        "environment": "staging",
        "version": "7",
        "release": "r1",
    }
    assert log.extra == {
        "parentObservationId": "root",
        "completionStartTime": "2026-11-22T18:47:05.300Z",
        "promptName": "greet",
        "promptVersion": 4,
        "usage": {"input_cached_tokens": 1},
        "cost": {"input": 0.25, "output": 0.5},
        "later": {"unknown": True},
    }


def test_the_user_is_known_from_the_call_alone() -> None:
    assert generation(user_id="u").user_id == "u", "as the wrapper of OpenAI in SDK 2 spells it"


def test_an_update_says_only_what_is_given() -> None:
    log = generation("update", level="WARNING", statusMessage="slow")
    assert (log.messages, log.output, log.model, log.params, log.usage) == ((), (), None, None, Usage())
    assert (log.status, log.error, log.latency_ms, log.cost_usd) == ("ok", None, None, None)
    assert log.extra == {"level": "WARNING", "statusMessage": "slow"}
    assert log.ts_ms == TOLD_MS, "when the event was made: not before the call began"


def test_what_an_update_adds_joins_what_the_beginning_said() -> None:
    first = read(event("generation-create", id="g", traceId="t", parentObservationId="p", startTime=TOLD, input="hi"))
    second = read(event("generation-update", id="g", traceId="t", completionStartTime=TOLD, output="yes"))
    assert isinstance(first, Piece)
    assert isinstance(second, Piece)
    for log in (merge(begun(first), second), merge(begun(second), first)):
        assert {"parentObservationId": "p", "completionStartTime": TOLD}.items() <= log.extra.items()
        assert (log.messages[0].content, log.output[0].content) == ("hi", "yes")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"usage": {"input": 1, "output": 2, "unit": "TOKENS"}}, Usage(input_tokens=1, output_tokens=2)),
        ({"usage": {"promptTokens": 1, "completionTokens": 2}}, Usage(input_tokens=1, output_tokens=2)),
        ({"usageDetails": {"prompt_tokens": 1, "completion_tokens": 2}}, Usage(input_tokens=1, output_tokens=2)),
        ({"usageDetails": {"input_tokens": 1, "output_tokens": 2}}, Usage(input_tokens=1, output_tokens=2)),
        ({"usage": {"input": 9}, "usageDetails": {"input": 1}}, Usage(input_tokens=1)),
        ({"usage": {"input": 9}, "usageDetails": {}}, Usage(input_tokens=9)),
        ({"usage": {"input": 9, "unit": "CHARACTERS"}}, Usage()),
        ({"usage": "many"}, Usage()),
    ],
)
def test_tokens_in_every_spelling(usage: Any, expected: Usage) -> None:
    assert generation(**usage).usage == expected


def test_what_is_not_counted_in_tokens_is_kept_aside() -> None:
    assert generation(usage={"input": 9, "unit": "CHARACTERS"}).extra == {
        "usage": {"older": {"input": 9, "unit": "CHARACTERS"}}
    }


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        ({"costDetails": {"total": 0.5, "input": 0.2}}, 0.5),
        ({"costDetails": {"input": 0.25, "output": 0.5}}, 0.75),
        ({"usage": {"totalCost": 0.5, "inputCost": 0.1}}, 0.5),
        ({"usage": {"inputCost": 0.25, "outputCost": 0.5}}, 0.75),
        ({"usage": {"totalCost": 9.0}, "costDetails": {"total": 0.5}}, 0.5),
        ({"costDetails": "dear"}, None),
        ({}, None),
    ],
)
def test_cost_in_every_spelling(cost: Any, expected: float | None) -> None:
    assert generation(**cost).cost_usd == expected


def test_a_generation_without_a_trace_is_a_call_by_its_own_id() -> None:
    found = read(event("generation-create", input="hi", output="ho"))
    assert isinstance(found, Piece)
    assert (found.log.log_id, found.log.trace_id) == ("e1", None)


def test_an_older_observation_is_a_call_if_it_says_that_it_is_one() -> None:
    created = read(event("observation-create", id="g", traceId="t", type="GENERATION", input="hi"))
    updated = read(event("observation-update", id="g", traceId="t", type="GENERATION", output="ho"))
    assert isinstance(created, Piece)
    assert isinstance(updated, Piece)
    assert (created.rank, updated.rank) == (0, 1)
    assert created.log.log_id == updated.log.log_id
    assert created.log.extra is None
    assert read(event("observation-create", id="g", traceId="t", type="SPAN", input="hi")) == NotACall("span")


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("span-create", "span"),
        ("span-update", "span"),
        ("event-create", "event"),
        ("embedding-create", "embeddings"),
        ("retriever-update", "retrieval"),
        ("tool-create", "tool"),
        ("sdk-log", "sdk_log"),
    ],
)
def test_what_is_no_call_is_counted_as_what_it_is(kind: str, counted: str) -> None:
    assert read(event(kind, id="x", traceId="t", input="hi", output="ho")) == NotACall(counted)


def test_a_trace_says_what_holds_for_its_calls() -> None:
    found = read(
        event(
            "trace-create",
            id="t",
            timestamp=TOLD,
            name="chat",
            userId="u",
            sessionId="s",
            tags=["a", "b"],
            metadata={"tier": "gold"},
            release="r1",
            version="7",
            environment="staging",
            externalId="x-1",
            public=False,
        )
    )
    assert found == TraceNote(
        trace_id="t",
        user_id="u",
        session_id="s",
        tags=("a", "b"),
        metadata={
            "tier": "gold",
            "trace_name": "chat",
            "release": "r1",
            "version": "7",
            "environment": "staging",
            "externalId": "x-1",
        },
    )


def test_a_traces_own_input_and_output_are_no_second_call() -> None:
    assert read(event("trace-create", id="t", input="hi", output="ho")) == NotACall("trace")
    assert read(event("trace-create", userId="u")) == NotACall("trace"), "nothing can refer to it"


def test_metadata_may_be_any_json_and_goes_before_the_names_of_langfuse() -> None:
    assert generation(metadata={"name": "mine"}, name="theirs").metadata == {"name": "mine"}
    assert generation(metadata=["a", 1]).metadata == {"metadata": '["a",1]'}
    assert generation(metadata="plain").metadata == {"metadata": "plain"}


def test_what_litellm_tells_of_a_person_is_not_kept() -> None:
    by_litellm = {
        "user_api_key_alias": "shop",
        "user_api_key_user_email": "a@b.example",
        "requester_ip_address": "10.0.0.9",
    }
    assert generation(metadata=by_litellm).metadata == {"user_api_key_alias": "shop"}
    assert generation(metadata={"user_agent": "my own word"}).metadata == {"user_agent": "my own word"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"value": 0.5}, {"score": 0.5}),
        ({"value": 1, "dataType": "BOOLEAN"}, {"score": 1.0}),
        ({"value": True}, {"score": 1.0}),
        ({"value": "good"}, {"label": "good"}),
        ({"value": "good", "dataType": "CATEGORICAL", "comment": "why"}, {"label": "good", "comment": "why"}),
        ({"value": "in short", "dataType": "TEXT"}, {"comment": "in short"}),
        ({"value": "in short", "dataType": "TEXT", "comment": "why"}, {"comment": "in short\nwhy"}),
        ({"value": "Better.", "dataType": "CORRECTION"}, {"correction": "Better."}),
        ({"value": "Better.", "name": "output"}, {"correction": "Better.", "name": "output"}),
        ({"value": 3, "name": "output"}, {"score": 3.0, "name": "output"}),
    ],
)
def test_a_scores_value_is_a_number_a_label_a_correction_or_a_comment(value: Any, expected: dict[str, Any]) -> None:
    plain = {"feedback_id": "s", "ts_ms": TOLD_MS, "name": "helpful", "trace_id": "t"}
    assert feedback(**value) == Feedback(**{**plain, **expected})


def test_a_score_of_an_observation_is_of_that_call_alone() -> None:
    found = feedback(value=1, observationId="g", timestamp="2026-11-22T18:47:05.000Z")
    assert (found.log_id, found.trace_id, found.ts_ms) == (span_log_id("t", "g"), None, TOLD_MS - 500)


def test_a_score_without_an_id_has_that_of_its_event() -> None:
    assert feedback(value=1, id=None).feedback_id == "e1"
    odd = feedback(value=1, id="x" * 4000).feedback_id
    assert odd.startswith("sha-")
    assert len(odd) < 128


def test_a_score_of_a_session_names_no_call() -> None:
    assert read(event("score-create", name="nice", value=1, sessionId="s")) == NotACall("score")


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({**event("generation-create", id="g"), "type": "generation-delete"}, "unknown_shape"),
        ({**event("generation-create", id="g"), "type": 7}, "invalid"),
        ({**event("generation-create", id="g"), "id": None}, "invalid"),
        ({**event("generation-create", id="g"), "body": [1]}, "invalid"),
        ({**event("generation-create", id="g"), "timestamp": "yesterday"}, "bad_time"),
        ({**event("generation-create", id="g"), "timestamp": 1.5}, "bad_time"),
        (event("generation-create", id="g", startTime="0001-01-01T00:00:00+14:00"), "bad_time"),
        (event("generation-create", id=7), "invalid"),
        (event("generation-create", model=7), "invalid"),
        (event("trace-create", id="t", tags="a"), "invalid"),
        (event("trace-create", id="t", tags=[1]), "invalid"),
        (event("score-create", traceId="t", value=1), "invalid"),
        (event("score-create", traceId="t", name="n"), "invalid"),
        (event("score-create", traceId="t", name="n", value=[1]), "invalid"),
        (event("score-create", traceId="t", name="n", value=10**400), "invalid"),
        (event("score-create", name="n", value=1), "invalid"),
    ],
)
def test_what_cannot_be_read_is_rejected_by_name(item: Any, code: str) -> None:
    with pytest.raises(Undecodable) as caught:
        read(item)
    assert caught.value.code == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)
SENT_NAMES = {
    name
    for path in CAPTURES.glob("langfuse*/ing*")
    for item in batches(f"{path.parent.name}/{path.name}")
    for name in item["body"]
}
OTHER_NAMES = {
    "observationId",
    "costDetails",
    "type",
    "dataType",
    "release",
    "timestamp",
    "tags",
    "level",
    "statusMessage",
}
BODY_NAMES = st.sampled_from(sorted(SENT_NAMES | OTHER_NAMES))
KINDS = st.sampled_from(
    ["trace-create", "score-create", "generation-create", "generation-update", "observation-create", "span-update"]
)


@given(kind=KINDS, body=st.dictionaries(BODY_NAMES, JSON), told=st.just(TOLD) | JSON, event_id=st.just("e") | JSON)
def test_nothing_that_is_odd_raises_but_undecodable(kind: str, body: Any, told: Any, event_id: Any) -> None:
    try:
        found = read({"id": event_id, "type": kind, "timestamp": told, "body": body})
    except Undecodable:
        return
    assert isinstance(found, Reading)


@given(data=st.data())
def test_a_real_event_with_one_odd_field_raises_nothing_but_undecodable(data: st.DataObject) -> None:
    item = data.draw(st.sampled_from(batches("langfuse2/ingestion-tools.jsonl")))
    name = data.draw(st.sampled_from(sorted(item["body"])))
    try:
        read({**item, "body": {**item["body"], name: data.draw(JSON)}})
    except Undecodable:
        return
