"""Spans in OpenInference's dialect: those that its instrumentation of OpenAI's client was seen to send, and others' spellings."""

import json
from typing import Any

import pytest
from clients.case import Case, model_of, response_id
from clients.chat_cases import TABLE
from fakes.spans import attribute_values, captured_spans, made_span
from hypothesis import given
from hypothesis import strategies as st

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.openinference import DIALECT
from tunemill.streams.formats.span import Told

SCOPE = "openinference.instrumentation.openai"
LLM = {"openinference.span.kind": "LLM"}


def told(attributes: dict[str, Any], *, scope: str = "openinference.instrumentation.anthropic") -> Told:
    span = made_span(attributes, scope=scope)
    assert DIALECT.matches(span)
    return DIALECT.read(span)


def log_of(attributes: dict[str, Any], *, scope: str = "openinference.instrumentation.anthropic") -> LogRecord:
    found = told({**LLM, **attributes}, scope=scope)
    assert found.is_call
    return LogRecord(log_id="x", ts_ms=0, **{"messages": (), **found.fields})


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole request", "flattened attributes alone"])
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_what_the_real_client_sends(case: Case, is_whole: bool) -> None:
    call, parent = captured_spans("openinference", case.name)
    assert not DIALECT.matches(parent)
    attributes = {
        name: value
        for name, value in call.attributes.items()
        if is_whole or name not in ("input.value", "output.value")
    }
    found = told(attributes, scope=call.scope)
    log = LogRecord(log_id="x", ts_ms=0, **found.fields)
    expected, model = case.expected, model_of(case.name, "openinference")
    assert found.is_call
    assert (log.messages, log.output, log.tools) == (expected.messages, expected.output, expected.tools)
    assert (log.model, log.usage, log.finish_reason) == (model, expected.usage, expected.finish_reason)
    assert expected.params.items() <= (log.params or {}).items()
    assert (log.provider, log.operation) == ("openai", "chat")
    assert log.response_id == (response_id(model) if is_whole and expected.output else None)
    assert set(attributes) == found.used, "nothing is left over"


def test_the_details_of_tokens_and_of_the_response_are_kept() -> None:
    (call, _) = captured_spans("openinference", "plain")
    assert told(dict(call.attributes), scope=SCOPE).fields["extra"] == {
        "usage": {"completion_tokens_details": {"reasoning_tokens": 1}, "prompt_tokens_details": {"cached_tokens": 2}},
        "response": {"created": 1_780_000_000, "system_fingerprint": "fp_case"},
    }


def test_whole_responses_hold_what_the_flattened_attributes_lack() -> None:
    message = {"role": "assistant", "content": None, "refusal": "No.", "reasoning_content": "Hm."}
    log = log_of(
        {
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "A secret?",
            "llm.output_messages.0.message.role": "assistant",
            "input.value": json.dumps(
                {"model": "m", "messages": [{"role": "user", "content": "A secret?"}], "user": "u"}
            ),
            "output.value": json.dumps({"id": "r", "model": "m-1", "choices": [{"message": message}]}),
        },
        scope=SCOPE,
    )
    assert log.output == (Message(role="assistant", refusal="No.", reasoning="Hm."),)
    assert (log.response_id, log.model, log.user_id) == ("r", "m-1", "u")


def test_a_call_of_the_responses_api_is_one_answer() -> None:
    items = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Como."}]},
    ]
    log = log_of(
        {
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.content": "Name a lake.",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.1.message.role": "assistant",
            "llm.output_messages.1.message.contents.0.message_content.text": "Como.",
            "input.value": json.dumps({"model": "m", "input": "Name a lake.", "instructions": "Be brief."}),
            "output.value": json.dumps({"object": "response", "id": "r", "status": "completed", "output": items}),
        },
        scope=SCOPE,
    )
    assert log.messages == (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Name a lake."),
    )
    assert log.output == (Message(role="assistant", content="Como.", reasoning="Hm."),)
    assert (log.finish_reason, log.response_id) == ("stop", "r")


def test_what_the_sender_hides_in_the_messages_is_not_taken_from_the_request() -> None:
    found = told(
        {
            **LLM,
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "__REDACTED__",
            "input.value": json.dumps({"messages": [{"role": "user", "content": "private"}]}),
        },
        scope=SCOPE,
    )
    assert "private" not in repr(found.fields)
    assert "input.value" in found.used, "nor does it stay among the attributes"
    assert log_of({"input.value": "__REDACTED__", "output.value": "__REDACTED__"}).messages == ()


def test_tool_calls_results_and_older_function_calls() -> None:
    log = log_of(
        {
            "llm.input_messages.0.message.role": "assistant",
            "llm.input_messages.0.message.tool_calls.0.tool_call.id": "c1",
            "llm.input_messages.0.message.tool_calls.0.tool_call.function.name": "f",
            "llm.input_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"a": 1}',
            "llm.input_messages.0.message.tool_calls.1.tool_call.function.name": "g",
            "llm.input_messages.1.message.role": "tool",
            "llm.input_messages.1.message.tool_call_id": "c1",
            "llm.input_messages.1.message.content": "done",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.function_call_name": "h",
            "llm.output_messages.0.message.function_call_arguments_json": "{}",
        }
    )
    calls = (ToolCall(name="f", arguments='{"a": 1}', id="c1"), ToolCall(name="g", arguments="{}"))
    assert log.messages == (
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", content="done", tool_call_id="c1"),
    )
    assert log.output == (Message(role="assistant", tool_calls=(ToolCall(name="h", arguments="{}"),)),)


def test_content_parts_are_spelt_as_openai_spells_them() -> None:
    place = "llm.input_messages.0.message.contents"
    log = log_of(
        {
            "llm.input_messages.0.message.role": "user",
            f"{place}.0.message_content.type": "text",
            f"{place}.0.message_content.text": "What is this?",
            f"{place}.1.message_content.type": "image",
            f"{place}.1.message_content.image.image.url": "https://example.com/a.png",
            f"{place}.2.message_content.type": "audio",
            f"{place}.2.message_content.audio.audio.url": "data:audio/mpeg;base64,AAAA",
            f"{place}.10.message_content.type": "video",
            f"{place}.10.message_content.video.video.url": "https://example.com/a.mp4",
        }
    )
    assert log.messages == (
        Message(
            role="user",
            content="What is this?",
            parts=[
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
                {"type": "video", "video": {"video": {"url": "https://example.com/a.mp4"}}},
            ],
        ),
    )


def test_reasoning_among_the_contents_belongs_to_the_answer() -> None:
    place = "llm.output_messages.0.message.contents"
    log = log_of(
        {
            "llm.output_messages.0.message.role": "assistant",
            f"{place}.0.message_content.type": "reasoning",
            f"{place}.0.message_content.text": "17 times 3 is 51.",
            f"{place}.1.message_content.type": "text",
            f"{place}.1.message_content.text": "51",
        }
    )
    assert log.output == (Message(role="assistant", content="51", reasoning="17 times 3 is 51."),)


def test_several_choices_stay_in_their_order() -> None:
    log = log_of({f"llm.output_messages.{number}.message.content": str(number) for number in (10, 2, 0)})
    assert [message.content for message in log.output] == ["0", "2", "10"]


def test_a_text_completion() -> None:
    log = log_of({"llm.prompts.0.prompt.text": "hello", "llm.choices.0.completion.text": " world"})
    assert (log.operation, log.messages[0].content, log.output[0].content) == ("text_completion", "hello", " world")


def test_input_and_output_are_read_where_there_are_no_messages() -> None:
    log = log_of(
        {
            "input.value": json.dumps({"messages": [{"role": "system", "content": "Be kind."}], "tools": [{"a": 1}]}),
            "output.value": "Hello.",
        }
    )
    assert (log.messages, log.tools) == ((Message(role="system", content="Be kind."),), [{"a": 1}])
    assert log.output == (Message(role="assistant", content="Hello."),)


def test_who_called_what_it_cost_and_what_was_left_over() -> None:
    found = told(
        {
            **LLM,
            "llm.input_messages.0.message.content": "hi",
            "user.id": "u",
            "session.id": "s",
            "metadata": '{"tier": "gold", "n": 1}',
            "tag.tags": ["team:a", "beta"],
            "llm.provider": "azure",
            "llm.system": "openai",
            "llm.request.model_name": "asked",
            "llm.model_name": "given",
            "llm.invocation_parameters": '{"model": "asked", "temperature": 0.0, "tools": [], "user": "other"}',
            "llm.token_count.prompt": 3,
            "llm.token_count.completion": 2,
            "llm.token_count.prompt_details.cache_read": 1,
            "llm.cost.prompt": 0.25,
            "llm.cost.total": 0.5,
            "llm.finish_reason": "end_turn",
            "llm.tools.0.tool.json_schema": '{"type": "function", "function": {"name": "f"}}',
            "llm.tools.1.tool.name": "g",
            "llm.prompt_template.template": "hi {name}",
        }
    )
    log = LogRecord(log_id="x", ts_ms=0, **found.fields)
    assert (log.user_id, log.session_id, log.tags) == ("u", "s", ("team:a", "beta"))
    assert log.metadata == {"tier": "gold", "n": "1"}
    assert (log.provider, log.model, log.params) == ("azure", "given", {"temperature": 0.0})
    assert (log.usage, log.cost_usd, log.finish_reason) == (Usage(input_tokens=3, output_tokens=2), 0.5, "stop")
    assert log.tools == [{"type": "function", "function": {"name": "f"}}, {"name": "g"}]
    assert log.extra == {
        "usage": {"prompt_details.cache_read": 1},
        "cost": {"prompt": 0.25},
        "request": {"model": "asked"},
    }
    assert "llm.prompt_template.template" not in found.used


@pytest.mark.parametrize("cost", [10**400, float("inf"), float("nan"), True, "0.5"])
def test_a_cost_that_is_no_number_is_left_to_extra(cost: Any) -> None:
    found = told({**LLM, "llm.input_messages.0.message.content": "hi", "llm.cost.prompt": 0.25, "llm.model_name": 5,
                  "llm.token_count.prompt": -1, "tag.tags": "a", "metadata": "text", "llm.cost.total": cost})  # fmt: skip
    assert set(found.fields) == {"messages", "operation", "extra"}
    assert set(found.fields["extra"]["cost"]) == {"prompt", "total"}
    assert found.fields["extra"]["usage"] == {"prompt": -1}
    assert not {"llm.model_name", "tag.tags", "metadata"} & found.used


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("CHAIN", "chain"),
        ("TOOL", "tool"),
        ("RETRIEVER", "retrieval"),
        ("RERANKER", "retrieval"),
        ("EMBEDDING", "embeddings"),
        ("AGENT", "agent"),
        ("GUARDRAIL", "span"),
        ("anything", "span"),
    ],
)
def test_other_kinds_are_no_calls_and_may_tell_whose_trace_it_is(kind: str, counted: str) -> None:
    found = told({"openinference.span.kind": kind, "session.id": "s", "user.id": "u", "input.value": "hi"})
    assert (found.is_call, found.kind) == (False, counted)
    assert found.note == {"user_id": "u", "session_id": "s"}


names = st.sampled_from(
    [
        *("openinference.span.kind", "llm.input_messages.0.message.role", "llm.input_messages.0.message.content"),
        *("llm.input_messages.0.message", "llm.input_messages.0", "llm.input_messages.x.message.role"),
        *("llm.input_messages.0.message.contents.0.message_content.type", "llm.input_messages.0.message.contents.0"),
        *("llm.output_messages.0.message.tool_calls.0.tool_call.function.name", "llm.output_messages.0.message.name"),
        *("llm.output_messages.0.message.tool_calls.0", "llm.output_messages.0.message.tool_calls"),
        *("llm.tools.0.tool.json_schema", "llm.tools.0.tool", "llm.prompts.0.prompt", "llm.choices.0.completion.text"),
        *("llm.invocation_parameters", "llm.token_count.prompt", "llm.cost.total", "llm.model_name", "metadata"),
        *("tag.tags", "user.id", "input.value", "output.value", "llm.finish_reason", "output.images.0.image.url"),
    ]
)


@given(st.dictionaries(names, attribute_values))
def test_nothing_throws(attributes: dict[str, Any]) -> None:
    span = made_span(attributes, scope=SCOPE)
    if not DIALECT.matches(span):
        return
    try:
        found = DIALECT.read(span)
    except Undecodable:
        return
    assert found.used <= set(attributes)
    LogRecord(**{"log_id": "x", "ts_ms": 0, "messages": (), **found.fields})
