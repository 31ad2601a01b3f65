"""OpenAI's chat format in and out."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.openai_chat import from_line, to_line
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
    row = from_line(line(USER, asked, told, ANSWER, tools=TOOLS, parallel_tool_calls=False))
    assert row.messages[1] == RowMessage(
        role="assistant", tool_calls=(ToolCall(id="c1", name="add", arguments='{"a": 1}'),)
    )
    out = json.loads(to_line(row.messages, row.tools))
    assert out == {"messages": [USER, asked, told, ANSWER], "tools": TOOLS}


words = st.text(min_size=1).filter(lambda text: text.strip() != "")
texts = st.builds(
    lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "assistant"]), words
)


@settings(deadline=None)
@given(st.lists(texts, max_size=5), words, words)
def test_what_goes_out_comes_back_with_the_same_id(middle: list[dict[str, str]], question: str, answer: str) -> None:
    messages = [{"role": "user", "content": question}, *middle, {"role": "assistant", "content": answer}]
    row = from_line(json.dumps({"messages": messages}).encode())
    exported = to_line(row.messages, row.tools)
    assert exported.count(b"\n") == 1
    again = from_line(exported)
    assert (again.row_id(), again.row_key) == (row.row_id(), row.row_key)


def test_text_parts_are_joined() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}
    assert from_line(line(parts, ANSWER)).messages[0].content == "one\ntwo"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "messages"),
        (b"[" * 100_000, "not JSON"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "not JSON"),
        (line(), "at least one"),
        (line(USER), "assistant"),
        (line(ANSWER), "order"),
        (line(USER, {"role": "assistant", "content": ""}), "say something"),
        (line(USER, {"role": "narrator", "content": "x"}), "messages[1].role"),
        (line({"role": "user", "content": [{"type": "image_url"}]}, ANSWER), "messages[0].content"),
        (line({"role": "user", "content": 3}, ANSWER), "messages[0].content"),
        (line(USER, {**ANSWER, "weight": 0}), "weight"),
        (line(USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}), "arguments"),
        (line(USER, {"role": "assistant", "tool_calls": [{"function": {}}]}), "name a function"),
        (line(USER, ANSWER, tools="x"), "tools"),
        (line(USER, ANSWER, preferred_output=[]), "cannot be kept"),
    ],
)
def test_a_line_that_cannot_be_kept_says_why(bad: bytes, reason: str) -> None:
    with pytest.raises(InvalidRow, match=reason.replace("[", r"\[")):
        from_line(bad)
