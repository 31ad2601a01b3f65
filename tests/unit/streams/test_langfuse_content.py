"""Input and output of Langfuse's observations, in the spellings of those who log them."""

import json
from typing import Any

import pytest
from fakes.spans import attribute_values
from hypothesis import given

from tunemill.schemas.records import Message, ToolCall, Usage
from tunemill.streams.formats.json_text import DEEPEST, read_json
from tunemill.streams.formats.langfuse_content import (
    read_cost,
    read_input,
    read_output,
    read_parameters,
    read_usage,
)

ASKED = Message(role="user", content="hi")
SAID = Message(role="assistant", content="hello")
USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("as_json", [False, True], ids=["value", "JSON text"])
@pytest.mark.parametrize(
    ("value", "messages", "tools", "rest"),
    [
        ([USER], (ASKED,), None, {}),
        (USER, (ASKED,), None, {}),
        ("hi", (ASKED,), None, {}),
        ({"messages": [USER], "tools": [TOOL]}, (ASKED,), [TOOL], {}),
        ({"messages": [USER], "functions": [{"name": "f"}]}, (ASKED,), [{"name": "f"}], {}),
        ({"messages": [{**USER, "id": 1}], "tool_choice": "auto"}, (ASKED,), None,
         {"tool_choice": "auto", "messages": {"0": {"id": 1}}}),
        ([USER, {"role": "tool", "content": TOOL}], (ASKED,), [TOOL], {}),
        ([{"role": None, "content": "hi"}], (ASKED,), None, {}),
        ([{"role": "user", "content": {"a": 1}}], (Message(role="user", content='{"a":1}'),), None, {}),
        ([USER, {"role": "assistant"}], (ASKED, Message(role="assistant")), None, {}),
        ({"input": "hi", "instructions": "Be kind.", "tools": [{"type": "function", "name": "f"}], "tool_choice": "auto"},
         (Message(role="system", content="Be kind."), ASKED), [TOOL], {"params": {"tool_choice": "auto"}}),
        ([USER, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
          {"type": "function_call_output", "call_id": "c", "output": "done"}],
         (ASKED, Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}", id="c"),)),
          Message(role="tool", content="done", tool_call_id="c")), None, {}),
        ([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], (ASKED,), None, {}),
    ],
)  # fmt: skip
def test_requests(value: Any, messages: Any, tools: Any, rest: Any, as_json: bool) -> None:
    assert read_input(json.dumps(value) if as_json and not isinstance(value, str) else value) == (messages, tools, rest)


@pytest.mark.parametrize("as_json", [False, True], ids=["value", "JSON text"])
@pytest.mark.parametrize(
    ("value", "output", "finish_reason", "rest"),
    [
        (ASSISTANT, (SAID,), None, {}),
        ("hello", (SAID,), None, {}),
        ([ASSISTANT, ASSISTANT], (SAID, SAID), None, {}),
        ({**ASSISTANT, "finish_reason": "end_turn", "id": 1}, (SAID,), "stop", {"choices": {"0": {"id": 1}}}),
        ([{"message": ASSISTANT, "finish_reason": "length"}], (SAID,), "length", {}),
        ({"choices": [{"message": ASSISTANT, "finish_reason": "stop"}], "id": "r", "created": 1}, (SAID,), "stop",
         {"response": {"created": 1}}),
        ({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "c"}]},
         (Message(role="assistant", content="", tool_calls=(ToolCall(name="f", arguments='{"a":1}', id="c"),)),), None, {}),
        ({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}, (SAID,), None, {}),
        ([{"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c", "status": "completed"}],
         (Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}", id="c"),)),), "tool_calls", {}),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
          {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}],
         (Message(role="assistant", content="hello", reasoning="Hm."),), None, {}),
    ],
)  # fmt: skip
def test_answers(value: Any, output: Any, finish_reason: Any, rest: Any, as_json: bool) -> None:
    assert read_output(json.dumps(value) if as_json and not isinstance(value, str) else value) == (
        output,
        finish_reason,
        rest,
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"role": "admin", "name": "Ann"}',
        '{"content": "a poem"}',
        '{"answer":  1}',
        "[1, 2]",
        "{",
        "[]x",
        '{"choices": [{"message": 5}]}',
    ],
)
def test_json_that_is_no_message_is_the_text_as_it_was_written(text: str) -> None:
    assert read_output(text)[0] == (Message(role="assistant", content=text),)
    assert read_input(text)[0] == (Message(role="user", content=text),)


@pytest.mark.parametrize("value", [None, "", [], {}, "[]", "{}"])
def test_nothing_is_no_message(value: Any) -> None:
    assert read_input(value) == ((), None, {})
    assert read_output(value) == ((), None, {})


def test_a_message_that_cannot_be_read_is_the_text_of_one() -> None:
    messages, _, _ = read_input([USER, {"role": "user", "content": "x", "tool_calls": 5}])
    assert messages == (ASKED, Message(role="user", content='{"role":"user","content":"x","tool_calls":5}'))


@pytest.mark.parametrize(
    "details",
    [
        {"input": 3, "output": 2, "total": 5},
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        {"promptTokens": 3, "completionTokens": 2, "totalTokens": 5},
    ],
)
def test_tokens_in_every_spelling(details: dict[str, Any]) -> None:
    usage = Usage(input_tokens=3, output_tokens=2)
    assert read_usage(details) == (usage, {})
    assert read_usage(json.dumps({**details, "input_cached_tokens": 1})) == (usage, {"input_cached_tokens": 1})


def test_cost_is_the_total_or_the_sum() -> None:
    assert read_cost({"input": 1, "output": 2, "total": 9}) == 9
    assert read_cost('{"input": 0.25, "output": 0.5}') == 0.75
    assert read_cost({"total": 10**400}) is None
    assert (read_cost({}), read_cost("x"), read_cost({"total": True})) == (None, None, None)


def test_limits_that_are_none_are_no_parameters() -> None:
    assert read_parameters('{"max_tokens": "Infinity", "temperature": 0, "seed": null}') == {"temperature": 0}
    assert read_parameters({"max_tokens": "inf"}) is None
    assert read_parameters("text") is None


def test_json_text_that_nests_too_deep_stays_text() -> None:
    for depth, is_read in ((DEEPEST, True), (DEEPEST + 1, False), (100_000, False)):
        text = "[" * depth + "]" * depth
        assert isinstance(read_json(text), list) is is_read
    assert read_input("[" * 100_000 + "]" * 100_000)[0][0].role == "user"


@given(attribute_values)
def test_nothing_is_rejected(value: Any) -> None:
    for message in (*read_input(value)[0], *read_output(value)[0]):
        assert isinstance(message, Message)
    read_usage(value)
    read_cost(value)
    read_parameters(value)
