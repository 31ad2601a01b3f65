"""OpenAI's formats in and out: what cannot be kept says why."""

import json
from typing import Any

import pytest

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.openai_chat import to_value
from tunemill.curator_api.row_formats import read_line
from tunemill.curator_api.rows import RowMessage
from tunemill.schemas.records import ToolCall

USER: dict[str, Any] = {"role": "user", "content": "hi"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def line(*messages: Any, **more: Any) -> bytes:
    return json.dumps({"messages": messages, **more}).encode()


def test_a_row_with_tools_comes_through() -> None:
    asked = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    told = {"role": "tool", "content": "2", "tool_call_id": "c1"}
    row = read_line(line(USER, asked, told, ANSWER, tools=TOOLS, parallel_tool_calls=False)).row
    assert row.messages[1] == RowMessage(
        role="assistant", tool_calls=(ToolCall(id="c1", name="add", arguments='{"a": 1}'),)
    )
    value = to_value(row).value
    assert value is not None
    assert value["messages"] == [USER, asked, told, ANSWER]


def test_tools_as_json_text_are_those_tools() -> None:
    texts = line(USER, ANSWER, tools=json.dumps(TOOLS))
    assert read_line(texts).row == read_line(line(USER, ANSWER, tools=TOOLS)).row


def test_text_parts_are_joined() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}
    assert read_line(line(parts, ANSWER)).row.messages[0].content == "one\ntwo"


def test_arguments_that_are_an_object_are_spelled_out() -> None:
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
    assert read_line(line(USER, called)).row.messages[1].tool_calls == (ToolCall(name="f", arguments='{"a":1}'),)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "messages"),
        (b"[" * 100_000, "not JSON"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "not JSON"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "not JSON in UTF-8"),
        (line(), "at least one"),
        (line(USER), "assistant"),
        (line(ANSWER), "order"),
        (line(USER, {"role": "assistant", "content": ""}), "say something"),
        (line(USER, {"role": "narrator", "content": "x"}), "messages[1].role"),
        (line({"role": "user", "content": [{"type": "image_url"}]}, ANSWER), "messages[0].content"),
        (line({"role": "user", "content": 3}, ANSWER), "messages[0].content"),
        (line(USER, {**ANSWER, "weight": 0}), "weight"),
        (line(USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 3}}]}), "arguments"),
        (line(USER, {"role": "assistant", "tool_calls": [{"function": {}}]}), "name a function"),
        (line(USER, ANSWER, tools="x"), "tools"),
        (line(USER, ANSWER, tools={"a": 1}), "tools"),
        (line(*[USER] * 1_000, ANSWER), "at most 1000"),
        (b'{"text": "private"}', "pre-training"),
    ],
)
def test_a_line_that_cannot_be_kept_says_why(bad: bytes, reason: str) -> None:
    with pytest.raises(InvalidRow, match=reason.replace("[", r"\[")) as raised:
        read_line(bad)
    assert "private" not in raised.value.detail
