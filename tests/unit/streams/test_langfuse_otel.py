"""Spans in Langfuse's dialect: those that its SDKs 3 to 5 were seen to send, and what others may."""

import json
from typing import Any

import pytest
from clients.case import Case, model_of
from clients.chat_cases import TABLE
from fakes.spans import attribute_values, captured_spans, made_span
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas.records import LogRecord, Message, Usage
from tunemill.schemas.trace import TraceNote
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.langfuse_otel import DIALECT
from tunemill.streams.formats.span import Told

GENERATION = {"langfuse.observation.type": "generation"}
MEDIA = "@@@langfuseMedia:type=image/png|id=xBTNDiBN6XT3N1PH4o12OO|source=base64_data_uri@@@"


def told(attributes: dict[str, Any]) -> Told:
    span = made_span(attributes, name="answer")
    assert DIALECT.matches(span)
    return DIALECT.read(span)


def log_of(attributes: dict[str, Any]) -> LogRecord:
    found = told({**GENERATION, **attributes})
    assert found.is_call
    return LogRecord(log_id="x", ts_ms=0, **{"messages": (), **found.fields})


@pytest.mark.parametrize("sdk", ["langfuse3", "langfuse4", "langfuse5"])
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_what_the_real_clients_send(case: Case, sdk: str) -> None:
    call, root = captured_spans(sdk, case.name)
    found, of_root = DIALECT.read(call), DIALECT.read(root)
    log = LogRecord(log_id="x", ts_ms=0, **{"messages": (), **found.fields})
    expected, model = case.expected, model_of(case.name, sdk)
    assert (found.is_call, of_root.is_call, of_root.kind) == (True, False, "span")
    assert [(m.role, m.content, m.tool_calls, m.tool_call_id) for m in log.messages] == [
        (m.role, m.content, m.tool_calls, m.tool_call_id) for m in expected.messages
    ]
    assert (log.output, log.tools, log.model) == (expected.output, expected.tools, model)
    assert (log.usage, log.status) == (expected.usage, expected.status)
    assert log.finish_reason == (expected.finish_reason if "stream" in case.request else None), "told of streams alone"
    told_of = {name: value for name, value in expected.params.items() if not name.startswith("stream")}
    assert told_of.items() <= log.params.items()
    assert "max_tokens" not in log.params or case.name == "plain", "no limit is no parameter"
    assert set(call.attributes) - found.used <= {"langfuse.observation.completion_start_time"}
    note = TraceNote(trace_id="t", **of_root.note)
    assert (note.user_id, note.session_id) == (f"user of {model}", f"session of {model}")
    assert (note.tags, note.metadata) == (("team:shop", "beta"), {"tier": "gold"})


def test_an_image_that_the_sdk_uploaded_stays_a_token() -> None:
    call, _ = captured_spans("langfuse5", "image")
    message = DIALECT.read(call).fields["messages"][0]
    assert message.parts[1] == {"type": "image_url", "image_url": {"url": MEDIA}}


def test_a_failed_call_names_its_error_and_keeps_the_text_aside() -> None:
    call, _ = captured_spans("langfuse4", "error")
    fields = DIALECT.read(call).fields
    assert (fields["status"], fields["error"]) == ("error", "429")
    assert fields["extra"]["error"]["message"].startswith("Error code: 429 - ")


def test_everything_that_a_generation_may_say() -> None:
    found = told(
        {
            **GENERATION,
            "langfuse.observation.input": json.dumps({"messages": [{"role": "user", "content": "hi", "id": 7}]}),
            "langfuse.observation.output": json.dumps({"role": "assistant", "content": "hello"}),
            "langfuse.observation.model.name": "small-1",
            "langfuse.observation.model.parameters": '{"temperature": 0, "max_tokens": "inf", "n": null}',
            "langfuse.observation.usage_details": '{"input": 3, "output": 2, "total": 5, "input_cached_tokens": 1}',
            "langfuse.observation.cost_details": '{"input": 0.25, "output": 0.5}',
            "langfuse.observation.level": "WARNING",
            "langfuse.observation.status_message": "slow",
            "langfuse.observation.metadata.tier": '"gold"',
            "langfuse.observation.metadata.n": 1,
            "langfuse.observation.metadata.quoted": '"a" and "b"',
            "langfuse.observation.metadata.nested": '{"a":1}',
            "langfuse.observation.prompt.name": "greet",
            "langfuse.trace.name": "talk",
            "langfuse.trace.input": "told again",
            "langfuse.environment": "staging",
            "langfuse.release": "r1",
            "langfuse.version": "7",
            "langfuse.user.id": "u",
            "langfuse.session.id": "s",
            "langfuse.trace.tags": '["beta"]',
        }
    )
    log = LogRecord(log_id="x", ts_ms=0, **found.fields)
    assert log.messages == (Message(role="user", content="hi"),)
    assert (log.user_id, log.session_id, log.tags) == ("u", "s", ("beta",))
    assert (log.params, log.usage) == ({"temperature": 0}, Usage(input_tokens=3, output_tokens=2))
    assert (log.cost_usd, log.status, log.error) == (0.75, "ok", None)
    of_trace = {"trace_name": "talk", "environment": "staging", "release": "r1"}
    own = {"name": "answer", "version": "7", "tier": "gold", "n": "1", "quoted": '"a" and "b"', "nested": '{"a":1}'}
    assert log.metadata == {**of_trace, **own}
    assert found.note == {"user_id": "u", "session_id": "s", "tags": ("beta",), "metadata": of_trace}
    assert log.extra == {
        "input": {"messages": {"0": {"id": 7}}},
        "usage": {"input_cached_tokens": 1},
        "cost": {"input": 0.25, "output": 0.5},
        "level": "WARNING",
        "status_message": "slow",
    }
    assert "langfuse.observation.prompt.name" not in found.used
    assert "langfuse.trace.input" in found.used, "that is the call told again"


def test_metadata_that_is_no_object_is_kept_whole() -> None:
    assert log_of({"langfuse.observation.metadata": '"free text"'}).metadata["metadata"] == "free text"
    assert log_of({"langfuse.observation.metadata": '{"a": "b"}'}).metadata["a"] == "b"


def test_a_stream_of_the_responses_api_tells_its_id_in_the_metadata() -> None:
    item = {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "The Baltic Sea."}],
    }
    log = log_of(
        {
            "langfuse.observation.input": '[{"role": "user", "content": "Name a sea."}]',
            "langfuse.observation.output": json.dumps(item),
            "langfuse.observation.metadata.object": '"response"',
            "langfuse.observation.metadata.id": '"resp_1"',
            "langfuse.observation.metadata.status": '"completed"',
            "langfuse.observation.metadata.tier": '"gold"',
        }
    )
    assert log.output == (Message(role="assistant", content="The Baltic Sea."),)
    assert (log.response_id, log.finish_reason) == ("resp_1", "stop")
    assert log.metadata == {"name": "answer", "tier": "gold"}


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("embedding", "embeddings"),
        ("span", "span"),
        ("event", "event"),
        ("agent", "agent"),
        ("tool", "tool"),
        ("chain", "chain"),
        ("retriever", "retrieval"),
        ("evaluator", "evaluator"),
        ("guardrail", "guardrail"),
        ("whatever", "span"),
    ],
)
def test_other_observations_are_no_calls_even_with_input_and_output(kind: str, counted: str) -> None:
    found = told(
        {
            "langfuse.observation.type": kind,
            "langfuse.observation.input": '[{"role": "user", "content": "hi"}]',
            "langfuse.observation.model.name": "m",
            "langfuse.trace.input": "hi",
            "langfuse.trace.output": "hello",
        }
    )
    assert (found.is_call, found.kind, found.note) == (False, counted, {})


def test_a_span_without_a_type_is_a_call_if_it_names_a_model() -> None:
    assert told({"langfuse.observation.model.name": "m", "langfuse.observation.input": "hi"}).is_call
    assert not told({"langfuse.environment": "staging"}).is_call


names = st.sampled_from(
    [
        *("langfuse.observation.type", "langfuse.observation.input", "langfuse.observation.output", "user.id"),
        *("langfuse.observation.model.name", "langfuse.observation.model.parameters", "langfuse.observation.level"),
        *("langfuse.observation.usage_details", "langfuse.observation.cost_details", "langfuse.trace.tags"),
        *("langfuse.observation.status_message", "langfuse.observation.metadata", "langfuse.observation.metadata.a"),
        *("langfuse.observation.metadata.finish_reason", "langfuse.trace.metadata", "langfuse.trace.name"),
        *("langfuse.environment", "langfuse.version", "langfuse.trace.metadata.", "session.id"),
    ]
)


@given(st.dictionaries(names, attribute_values))
def test_nothing_throws(attributes: dict[str, Any]) -> None:
    span = made_span(attributes)
    if not DIALECT.matches(span):
        return
    try:
        found = DIALECT.read(span)
    except Undecodable:
        return
    assert found.used <= set(attributes)
    LogRecord(**{"log_id": "x", "ts_ms": 0, "messages": (), **found.fields})
    TraceNote(trace_id="t", **found.note)
