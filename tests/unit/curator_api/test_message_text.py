"""A message as JSON text: every message comes back as it was, and others read what it says."""

import json

import pytest
from datasets.utils.json import ujson_loads
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.message_text import from_text, spelled, to_text
from tunemill.curator_api.rows import RowMessage
from tunemill.schemas.records import ToolCall

maybe = st.none() | st.text()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
arguments = (
    st.text()
    | values.map(json.dumps)
    | st.dictionaries(st.text(), values).map(lambda value: json.dumps(value, indent=1, ensure_ascii=False))
    | st.sampled_from(
        ['{"a": NaN}', ' {"a": 1}', '{"a":1}\n', "{", '{"a": 1, "a": 2}', '{"a":' * 600 + "1" + "}" * 600]
    )
)
calls = st.lists(st.builds(ToolCall, name=st.text(), arguments=arguments, id=maybe), max_size=2).map(tuple)
messages = st.builds(RowMessage, role=st.text(), content=maybe, tool_calls=calls, tool_call_id=maybe, name=maybe)


@settings(deadline=None)
@given(messages)
def test_every_message_comes_back_and_datasets_can_read_it(message: RowMessage) -> None:
    text = to_text(message)
    assert from_text(text) == message
    assert ujson_loads(text).keys() == json.loads(text).keys()


def test_a_message_has_what_it_says_and_nothing_else() -> None:
    call = ToolCall(name="add", arguments='{ "a": 1 }')
    assert to_text(RowMessage(role="user", content="hi")) == '{"role":"user","content":"hi"}'
    assert json.loads(to_text(RowMessage(role="assistant", tool_calls=(call,)))) == {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
    }


@pytest.mark.parametrize("text", ["broken {", "[1]", '"text"', "", '{"a": 12345678901234567890}'])
def test_arguments_that_are_no_object_for_others_stay_text(text: str) -> None:
    message = RowMessage(role="assistant", tool_calls=(ToolCall(name="add", arguments=text),))
    assert json.loads(to_text(message))["tool_calls"][0]["function"]["arguments"] == text


@pytest.mark.parametrize("said", ['"tool_calls":[]', '{"tool_calls":[{"id":"x"}]}', '\\"tool_calls":'])
def test_a_text_about_calls_is_no_call(said: str) -> None:
    call = ToolCall(name="add", arguments="{}")
    for message in (
        RowMessage(role="user", content=said, name=said),
        RowMessage(role="assistant", content=said, tool_calls=(call,)),
    ):
        assert from_text(to_text(message)) == message


@pytest.mark.parametrize(
    "text",
    [
        '{"role":"user","content":"hi","extra":{"tool_calls":[]}}',
        '{"role":"user","content":"hi","extra":{"tool_calls":[1]}}',
        '{"role":"user","content":"hi","extra":{"tool_calls":[]},"tool_calls":null}',
    ],
)
def test_calls_inside_of_something_else_are_left_as_they_are(text: str) -> None:
    assert spelled(text) == json.loads(text)
