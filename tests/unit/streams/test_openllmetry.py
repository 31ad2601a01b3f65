"""Spans in OpenLLMetry's dialect: those that its instrumentation of OpenAI's client was seen to send, and others' spellings."""

import json
from typing import Any

import pytest
from clients.case import Case
from clients.chat_cases import TABLE
from fakes.spans import attribute_values, captured_spans, made_span
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.openllmetry import DIALECT
from tunemill.streams.formats.span import Told

CHAT = {"llm.request.type": "chat"}


def told(attributes: dict[str, Any]) -> Told:
    span = made_span(attributes)
    assert DIALECT.matches(span)
    return DIALECT.read(span)


def log_of(attributes: dict[str, Any]) -> LogRecord:
    found = told({**CHAT, **attributes})
    assert found.is_call
    return LogRecord(log_id="x", ts_ms=0, **{"messages": (), **found.fields})


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_what_the_real_client_sent_when_it_flattened_messages(case: Case) -> None:
    call, parent = captured_spans("openllmetry_old", case.name)
    assert not DIALECT.matches(parent)
    found = told(dict(call.attributes))
    log = LogRecord(log_id="x", ts_ms=0, **found.fields)
    expected = case.expected
    assert found.is_call
    assert (log.messages, log.output, log.tools) == (expected.messages, expected.output, expected.tools)
    assert log.finish_reason == expected.finish_reason
    assert log.usage == (Usage() if "stream" in case.request else expected.usage), (
        "this version counts no streamed tokens"
    )
    assert log.provider == "openai"
    left = {name for name in call.attributes if name not in found.used}
    assert {name.split(".")[0] for name in left} == {"gen_ai"}
    assert left & {"gen_ai.request.model", "gen_ai.openai.api_base"}, "the GenAI conventions' names are theirs to read"
    assert "llm.headers" in found.used


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_what_its_current_version_says_beside_the_conventions(case: Case) -> None:
    call, _ = captured_spans("openllmetry", case.name)
    found = told(dict(call.attributes))
    assert not found.is_call, "the GenAI conventions tell the call"
    assert set(found.fields) <= {"params", "extra"}
    assert found.fields.get("params") == ({"stream": True} if "stream" in case.request else None)
    assert "gen_ai.usage.total_tokens" not in set(call.attributes) - found.used


def test_refusals_reasoning_and_what_else_a_choice_says() -> None:
    log = log_of(
        {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "A secret?",
            "gen_ai.completion.0.role": "thinking",
            "gen_ai.completion.0.content": "Better not.",
            "gen_ai.completion.1.role": "assistant",
            "gen_ai.completion.1.refusal": "No.",
            "gen_ai.completion.1.finish_reason": "end_turn",
            "gen_ai.completion.1.content_filter_results": '{"a": 1}',
            "gen_ai.completion.2.role": "assistant",
            "gen_ai.completion.2.content": "Yes",
            "gen_ai.completion.2.reasoning_content": "Hm.",
            "gen_ai.completion.2.finish_reason": "max_tokens",
        }
    )
    assert log.output == (
        Message(role="assistant", refusal="No.", reasoning="Better not."),
        Message(role="assistant", content="Yes", reasoning="Hm."),
    )
    assert log.finish_reason == "stop"
    assert log.extra == {
        "choices": {"1": {"content_filter_results": '{"a": 1}'}},
        "finish_reasons": {"1": "max_tokens"},
    }


def test_reasoning_that_led_to_no_answer_stays() -> None:
    log = log_of({"gen_ai.completion.0.role": "thinking", "gen_ai.completion.0.content": "Hm."})
    assert log.output == (Message(role="assistant", reasoning="Hm."),)


def test_content_that_is_json_but_no_list_of_parts_stays_text() -> None:
    for text in ('{"type": "text"}', "[1, 2]", '[{"town": "Rome"}]', "[]"):
        assert log_of({"gen_ai.prompt.0.content": text}).messages == (Message(role="user", content=text),)


def test_a_text_completion_and_an_older_function_call() -> None:
    log = log_of(
        {
            "llm.request.type": "completion",
            "gen_ai.prompt.0.user": "hello",
            "gen_ai.completion.0.tool_calls.0.name": "f",
            "gen_ai.completion.0.tool_calls.0.arguments": "{",
        }
    )
    assert log.operation == "text_completion"
    assert log.messages == (Message(role="user", content="hello"),)
    assert log.output == (Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{"),)),)


def test_parameters_and_tools() -> None:
    log = log_of(
        {
            "llm.request.functions.0.name": "f",
            "llm.request.functions.0.input_schema": '{"type": "object"}',
            "llm.request.functions.1.name": "g",
            "llm.request.functions.1.parameters": "no JSON",
            "llm.top_k": 5,
            "llm.frequency_penalty": 0.0,
            "llm.chat.stop_sequences": ["a"],
            "llm.is_streaming": True,
            "llm.user": "u",
        }
    )
    assert log.tools == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g", "parameters": "no JSON"}},
    ]
    assert log.params == {"top_k": 5, "frequency_penalty": 0.0, "stop": ["a"], "stream": True}
    assert log.user_id == "u"


def test_association_properties_are_the_caller_and_metadata() -> None:
    log = log_of(
        {
            "traceloop.association.properties.user_id": "u",
            "traceloop.association.properties.session_id": "s",
            "traceloop.association.properties.tier": "gold",
            "traceloop.association.properties.n": 1,
            "traceloop.workflow.name": "answer",
            "llm.user": "whoever the request names",
        }
    )
    assert (log.user_id, log.session_id, log.metadata) == ("u", "s", {"tier": "gold", "n": "1"})


def test_names_of_workflows_are_left_to_extra() -> None:
    assert "traceloop.workflow.name" not in told({**CHAT, "traceloop.workflow.name": "answer"}).used


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"traceloop.span.kind": "workflow", "traceloop.entity.input": "{}"}, "chain"),
        ({"traceloop.span.kind": "task"}, "chain"),
        ({"traceloop.span.kind": "agent", "gen_ai.prompt.0.content": "hi"}, "agent"),
        ({"traceloop.span.kind": "tool"}, "tool"),
        ({"traceloop.span.kind": "unknown"}, "span"),
        ({"llm.request.type": "embedding", "gen_ai.prompt.0.content": "hi"}, "embeddings"),
        ({"llm.request.type": "rerank"}, "retrieval"),
        ({"llm.request.type": "unknown", "gen_ai.request.model": "m"}, "span"),
        ({"gen_ai.operation.name": "embeddings", "gen_ai.prompt.0.content": "hi"}, "embeddings"),
        ({"traceloop.association.properties.user_id": "u", "db.system": "postgresql"}, "span"),
    ],
)
def test_what_is_no_call(attributes: dict[str, Any], kind: str) -> None:
    found = told(attributes)
    assert (found.is_call, found.kind) == (False, kind)


names = st.sampled_from(
    [
        *("llm.request.type", "traceloop.span.kind", "traceloop.association.properties.user_id", "llm.headers"),
        *("traceloop.association.properties.", "gen_ai.prompt.0.role", "gen_ai.prompt.0.content", "gen_ai.prompt.0"),
        *("gen_ai.prompt.0.tool_calls.0.name", "gen_ai.prompt.0.tool_calls", "gen_ai.prompt.0.tool_calls.0.name.x"),
        *("gen_ai.prompt.00.role", "gen_ai.prompt.0.0", "gen_ai.prompt.9999999999.role", "gen_ai.prompt.².role"),
        *("gen_ai.completion.0.role", "gen_ai.completion.0.content", "gen_ai.completion.0.finish_reason"),
        *("gen_ai.completion.1.role", "gen_ai.completion.1.finish_reason", "gen_ai.completion.1.reasoning"),
        *("llm.request.functions.0.name", "llm.request.functions.0.parameters", "llm.request.functions.0.type"),
        *("gen_ai.system", "gen_ai.usage.prompt_tokens", "llm.is_streaming", "llm.top_k", "llm.usage.reasoning_tokens"),
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


def test_a_hostile_list_takes_no_more_than_it_holds() -> None:
    attributes = {f"gen_ai.prompt.{number}.content": "x" for number in (0, 999_999_999)}
    deep = "gen_ai.prompt.1." + ".".join("a" * 5000)
    log = log_of({**attributes, deep: "y"})
    assert len(log.messages) == 3
    assert json.dumps(log.extra), "and nests no deeper than can be written"


def test_names_that_contradict_one_another_are_not_both_read() -> None:
    for first, second in (("content", "content.x"), ("content.x", "content")):
        found = told({**CHAT, f"gen_ai.prompt.0.{first}": "a", f"gen_ai.prompt.0.{second}": "b"})
        assert f"gen_ai.prompt.0.{first}" in found.used
        assert f"gen_ai.prompt.0.{second}" not in found.used, "it stays among the attributes"
