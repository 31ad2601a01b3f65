"""Tool calls, read from answers of every family's kind."""

import json

import pytest

from tunemill.trainer.calls import Call, call_share, expected_calls, name_share, written_calls

LOOK_UP = Call("look_up", {"q": "x y"})


@pytest.mark.parametrize(
    "answer",
    [
        '<tool_call>\n{"name": "look_up", "arguments": {"q": "x y"}}\n</tool_call>',  # Qwen
        '{"name": "look_up", "parameters": {"q": "x y"}}',  # Llama 3.1
        '<|python_tag|>{"name": "look_up", "parameters": {"q": "x y"}}',
        '[TOOL_CALLS] [{"name": "look_up", "arguments": {"q": "x y"}, "id": "123456789"}]',  # Mistral
        'Let me see.\n### Call:\n{"name": "look_up", "arguments": {"q": "x y"}}',  # plain
        '{"type": "function", "function": {"name": "look_up", "arguments": "{\\"q\\": \\"x y\\"}"}}',  # OpenAI
        'a {brace and a [bracket, then {"name": "look_up", "arguments": {"q": "x y"}}',
    ],
)
def test_a_call_is_read_whatever_stands_round_it(answer: str) -> None:
    assert written_calls(answer) == (LOOK_UP,)


@pytest.mark.parametrize("answer", ["", "no call", '{"name": "look_up"}', '{"name": 3, "arguments": {}}', "{" * 3000])
def test_what_is_no_call_is_none(answer: str) -> None:
    assert written_calls(answer) == ()


def test_expected_calls_come_from_the_message() -> None:
    functions = [{"name": "look_up", "arguments": '{"q": "x y"}'}, {"name": "odd", "arguments": "not JSON"}]
    message = {"role": "assistant", "content": "", "tool_calls": [{"function": function} for function in functions]}

    assert expected_calls(message) == (LOOK_UP, Call("odd", "not JSON"))
    assert expected_calls({"role": "assistant", "content": "no call"}) == ()


def test_arguments_that_no_parser_takes_stay_text() -> None:
    deep = "[" * 100_000
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "odd", "arguments": deep}}]}

    assert expected_calls(message) == (Call("odd", deep),)
    assert written_calls(json.dumps({"name": "odd", "arguments": deep})) == (Call("odd", deep),)


def test_true_is_not_one() -> None:
    expected = (Call("f", {"a": [{"urgent": True}]}),)

    assert call_share(expected, (Call("f", {"a": [{"urgent": 1}]}),)) == 0.0
    assert call_share(expected, (Call("f", {"a": [{"urgent": True}]}),)) == 1.0
    assert call_share((Call("f", {"n": 1}),), (Call("f", {"n": 1.0}),)) == 1.0


def test_names_and_arguments_are_counted_call_by_call() -> None:
    expected = (LOOK_UP, Call("close", {"id": 1}))

    assert name_share(expected, (LOOK_UP, Call("close", {"id": 2}))) == 1.0
    assert call_share(expected, (LOOK_UP, Call("close", {"id": 2}))) == 0.5
    assert name_share(expected, (LOOK_UP,)) == 0.5
    assert name_share((LOOK_UP,), (LOOK_UP, LOOK_UP)) == 0.5, "a call too many counts against it"
    assert name_share(expected, ()) == call_share(expected, ()) == 0.0
    assert name_share((), (LOOK_UP,)) is None
