"""Every accepted shape, read into the one record."""

import json
from typing import Any

import msgspec
import pytest

from tunemill.schemas.ids import payload_log_id
from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.registry import SHAPES

TS_MS = 1_780_000_000_123
REQUEST = {"model": "small-1", "messages": [{"role": "user", "content": "2 + 2?"}], "temperature": 0.5}
RESPONSE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_780_000_000,
    "model": "small-1-0613",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "4", "refusal": None}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
}


def read(value: Any) -> LogRecord:
    return decode(json.dumps(value).encode(), ts_ms=TS_MS)


def rejected(value: Any) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        read(value)
    return caught.value


def test_each_shape_is_listed_once():
    assert [shape.name for shape in SHAPES] == [
        *("otlp", "langfuse", "litellm", "bedrock", "flywheel", "openai_responses", "anthropic", "openai_chunks"),
        *("openai_pair", "tunemill_record"),
    ]


def test_a_tunemill_record_comes_back_as_it_was_sent():
    log = LogRecord(
        log_id="one",
        ts_ms=5,
        messages=(Message(role="user", content="hello"),),
        output=(Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{", id="c"),)),),
        app="shop",
        tools=[{"type": "function"}],
        params={"temperature": 0},
        usage=Usage(input_tokens=3),
        tags=("team:a",),
        metadata={"k": "v"},
        consent="train",
        extra={"mine": [1, 2]},
    )
    assert decode(msgspec.json.encode(log), ts_ms=TS_MS) == log


def test_a_tunemill_record_without_id_and_time_gets_a_digest_and_the_messages_time():
    payload = b'{"messages":[{"role":"user","content":"hi"}]}'
    log = decode(payload, ts_ms=TS_MS)
    assert (log.log_id, log.ts_ms) == (payload_log_id(payload), TS_MS)
    assert decode(payload, ts_ms=TS_MS) == log


def test_unknown_fields_of_a_tunemill_record_go_to_extra():
    message = {"role": "user", "content": "hi", "annotations": [{"a": 1}]}
    log = read({"messages": [message], "extra": {"mine": 1}, "colour": "red", "app": None})
    assert log.extra == {
        "extra": {"mine": 1},
        "record": {"colour": "red"},
        "messages": {"0": {"annotations": [{"a": 1}]}},
    }


def test_an_openai_pair():
    log = read({"request": REQUEST, "response": RESPONSE})
    assert log.messages == (Message(role="user", content="2 + 2?"),)
    assert log.output == (Message(role="assistant", content="4"),)
    assert (log.source, log.model, log.response_id, log.finish_reason) == (
        "openai_pair",
        "small-1-0613",
        "chatcmpl-1",
        "stop",
    )
    assert log.usage == Usage(input_tokens=7, output_tokens=1)
    assert log.params == {"temperature": 0.5}
    assert (log.status, log.error) == ("ok", None)
    assert log.extra == {"request": {"model": "small-1"}, "response": {"created": 1_780_000_000}}


def test_a_pair_may_carry_our_fields_beside_it():
    log = read(
        {
            "request": {**REQUEST, "user": "u-1", "metadata": {"n": 1}},
            "response": RESPONSE,
            "log_id": "given",
            "ts_ms": 9,
            "app": "shop",
            "session_id": "s",
            "tags": ["team:a"],
            "latency_ms": 1.5,
            "consent": "train",
            "metadata": {"k": "v"},
            "trace_id": "t",
            "odd": True,
        }
    )
    assert (log.log_id, log.ts_ms, log.app, log.session_id, log.user_id) == ("given", 9, "shop", "s", "u-1")
    assert (log.tags, log.latency_ms, log.consent, log.trace_id) == (("team:a",), 1.5, "train", "t")
    assert log.metadata == {"n": "1", "k": "v"}
    assert log.extra["record"] == {"odd": True}


def test_tool_calls_in_every_spelling():
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": {"x": 1}}},
        {"id": "c", "name": "h", "arguments": "{}"},
        {"id": "d", "type": "custom", "custom": {"name": "i", "input": "free text"}},
    ]
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": calls,
        "function_call": {"name": "j", "arguments": "{}"},
    }
    answer = {"role": "tool", "tool_call_id": "a", "content": "done"}
    log = read({"request": {**REQUEST, "messages": [*REQUEST["messages"], message, answer]}, "response": RESPONSE})
    assert log.messages[1].tool_calls == (
        ToolCall(name="f", arguments='{"x": 1', id="a"),
        ToolCall(name="g", arguments='{"x":1}', id="b"),
        ToolCall(name="h", arguments="{}", id="c"),
        ToolCall(name="i", arguments="free text", id="d"),
        ToolCall(name="j", arguments="{}"),
    )
    assert log.messages[2] == Message(role="tool", content="done", tool_call_id="a")


def test_multimodal_parts_are_kept_and_their_text_joined():
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "this?"},
    ]
    log = read({"request": {**REQUEST, "messages": [{"role": "user", "content": parts}]}, "response": RESPONSE})
    assert log.messages[0] == Message(role="user", content="what is\nthis?", parts=parts)


def test_a_refusal_as_field_or_as_part():
    as_field = {"role": "assistant", "content": None, "refusal": "No."}
    as_part = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    for message in (as_field, as_part):
        log = read({"request": REQUEST, "response": {"choices": [{"message": message, "finish_reason": "stop"}]}})
        assert (log.output[0].refusal, log.output[0].content) == ("No.", None)


def test_an_answer_without_a_role_is_the_assistants():
    log = read({"request": REQUEST, "response": {"choices": [{"message": {"content": "hi"}}]}})
    assert log.output == (Message(role="assistant", content="hi"),)


def test_several_choices_are_several_outputs():
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length", "logprobs": {"p": 1}},
    ]
    log = read({"request": REQUEST, "response": {**RESPONSE, "choices": choices}})
    assert [message.content for message in log.output] == ["a", "b"]
    assert log.finish_reason == "stop"
    assert log.extra["choices"] == {"1": {"logprobs": {"p": 1}, "finish_reason": "length"}}


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (
            {"error": {"message": "too many", "type": "rate_limit", "code": "rate_limit_exceeded"}},
            "rate_limit_exceeded",
        ),
        ({"error": {"message": "bad", "type": "invalid_request_error", "code": None}}, "invalid_request_error"),
        ({"error": "a whole sentence about what the user had written"}, "unnamed"),
        (None, "no_answer"),
        ({"choices": []}, "no_answer"),
    ],
)
def test_a_failed_call_names_the_kind_of_error_only(response: Any, error: str):
    log = read({"request": REQUEST, "response": response})
    assert (log.status, log.error, log.output) == ("error", error, ())
    assert ((log.extra or {}).get("error") is not None) == bool(response and response.get("error"))


@pytest.mark.parametrize("prompt", ["hello", ["hello"]])
def test_text_completions_are_read_as_one_question(prompt: Any):
    response = {"object": "text_completion", "choices": [{"text": " world", "finish_reason": "length"}]}
    log = read({"request": {"model": "m", "prompt": prompt}, "response": response})
    assert (log.operation, log.messages[0].content, log.output[0].content) == ("text_completion", "hello", " world")


def test_a_flywheel_record():
    value = {
        "timestamp": 1_780_000_000.25,
        "workload_id": "tutor",
        "client_id": "u-7",
        "request": REQUEST,
        "response": RESPONSE,
    }
    log = read(value)
    assert (log.source, log.ts_ms, log.app, log.user_id) == ("flywheel", 1_780_000_000_250, "tutor", "u-7")
    assert log.output[0].content == "4"
    assert "record" not in log.extra
    assert read({**value, "shard": 3}).extra["record"] == {"shard": 3}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"event": "page_view"}, "unknown_shape"),
        ([], "unknown_shape"),
        (42, "unknown_shape"),
        ({"messages": []}, "invalid"),
        ({"messages": "hi"}, "invalid"),
        ({"messages": [{"content": "hi"}]}, "invalid"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid"),
        ({"messages": [{"role": "user", "content": "hi", "tool_calls": 5}]}, "invalid"),
        ({"messages": [{"role": "user", "content": "hi", "tool_calls": [{"function": "f"}]}]}, "invalid"),
        ({"messages": [{"role": "user", "content": "hi"}], "ts_ms": "yesterday"}, "invalid"),
        ({"messages": [{"role": "user", "content": "hi"}], "ts_ms": -1}, "bad_time"),
        ({"messages": [{"role": "user", "content": "hi"}], "log_id": "x" * 200}, "bad_log_id"),
        ({"messages": [{"role": "user", "content": "hi"}], "log_id": "a\nb"}, "bad_log_id"),
        ({"messages": [{"role": "user", "content": "hi"}], "log_id": ".."}, "bad_log_id"),
        ({"messages": [{"role": "user", "content": "hi"}], "usage": {"input_tokens": -1}}, "invalid"),
        ({"messages": [{"role": "user", "content": "hi"}], "status": "fine"}, "invalid"),
        ({"request": {}, "response": RESPONSE}, "invalid"),
        ({"request": {"prompt": ["one", "two"]}, "response": RESPONSE}, "invalid"),
        ({"request": "hi", "response": RESPONSE}, "invalid"),
        ({"request": REQUEST, "response": {"choices": [{"message": None}]}}, "invalid"),
        ({"request": REQUEST, "response": {**RESPONSE, "usage": {"prompt_tokens": "7"}}}, "invalid"),
        ({"request": REQUEST, "response": RESPONSE, "workload_id": "w", "timestamp": "now"}, "bad_time"),
        ({"request": REQUEST, "response": RESPONSE, "workload_id": "w", "timestamp": 1e300}, "bad_time"),
        ({"request": REQUEST, "response": RESPONSE, "workload_id": "w", "timestamp": 1_780_000_000_000}, "bad_time"),
        ({"request": REQUEST, "response": RESPONSE, "tags": "a"}, "invalid"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_a_code(value: Any, code: str):
    assert rejected(value).code == code


def test_a_rejection_names_the_place_and_repeats_nothing_of_the_log():
    error = rejected({"messages": [{"role": "user", "content": {"private": "words"}}]})
    assert "messages[0].content" in str(error)
    assert "private" not in str(error)
