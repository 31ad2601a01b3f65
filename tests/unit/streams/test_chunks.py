"""Streamed answers of OpenAI's completions API, logged as the chunks they came in."""

import json
from pathlib import Path
from typing import Any

import pytest
from clients.cases import CASES
from clients.compare import differences
from fakes.odd_json import check, odd
from hypothesis import given, settings

from tunemill.schemas.chunks import assemble
from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable

CAPTURES = Path(__file__).parent / "captures" / "openai"
STREAMED = ("streaming", "streaming_uncounted", "streaming_tools")
REQUEST = {"model": "small-1", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def capture(name: str) -> dict[str, Any]:
    return json.loads((CAPTURES / f"{name}.json").read_text(encoding="utf-8"))


def read(value: Any) -> LogRecord:
    found = decode(json.dumps(value).encode(), ts_ms=7)
    assert isinstance(found, LogRecord)
    return found


def chunk(*, finish_reason: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "small-1-0613",
        "choices": [choice],
    }


def of(*chunks: Any, name: str = "response", **beside: Any) -> LogRecord:
    return read({"request": REQUEST, name: list(chunks), **beside})


@pytest.mark.parametrize("name", STREAMED)
def test_what_openais_client_streams(name: str):
    value = capture(name)
    log = read(value)
    assert differences(CASES["chat", name], log, model=value["request"]["model"]) == {}
    assert (log.source, log.app) == ("openai_chunks", "shop")
    assert "stream" not in (log.extra or {})


def test_pieces_of_text_calls_and_reasoning_are_put_together():
    log = of(
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo", reasoning_content="think"),
        chunk(reasoning_content="ing"),
        chunk(tool_calls=[{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}}]),
        chunk(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}}]),
        chunk(
            tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}, {"index": 1, "function": {"arguments": "}"}}]
        ),
        chunk(finish_reason="tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
        name="chunks",
    )
    assert log.output == (
        Message(
            role="assistant",
            content="Hello",
            reasoning="thinking",
            tool_calls=(ToolCall(name="f", arguments='{"x": 1}', id="a"), ToolCall(name="g", arguments="{}", id="b")),
        ),
    )
    assert (log.finish_reason, log.usage) == ("tool_calls", Usage(input_tokens=3, output_tokens=4))
    assert (log.response_id, log.model) == ("chatcmpl-1", "small-1-0613")
    assert log.extra == {"request": {"model": "small-1"}, "response": {"created": 5}}


def test_choices_that_come_interleaved():
    log = of(
        chunk(index=1, content="b"),
        chunk(index=0, content="a"),
        chunk(index=1, content="B", finish_reason="length"),
        chunk(index=0, content="A", finish_reason="stop"),
    )
    assert [message.content for message in log.output] == ["aA", "bB"]
    assert (log.finish_reason, log.extra["choices"]) == ("stop", {"1": {"finish_reason": "length"}})


def test_what_is_not_text_is_kept_too():
    first, second = chunk(content="a"), chunk(content="b", annotations=[{"n": 2}], finish_reason="stop")
    first["choices"][0]["logprobs"] = {"content": [{"token": "a"}], "refusal": None}
    first["choices"][0]["delta"]["annotations"] = [{"n": 1}]
    second["choices"][0]["logprobs"] = {"content": [{"token": "b"}]}
    log = of(first, second)
    assert log.extra["choices"]["0"] == {
        "annotations": [{"n": 1}, {"n": 2}],
        "logprobs": {"content": [{"token": "a"}, {"token": "b"}]},
    }


def test_of_a_stream_that_was_cut_off_what_came_is_kept():
    log = of(chunk(role="assistant", content="Once upon"), chunk(content=" a"))
    assert (log.output[0].content, log.finish_reason, log.status) == ("Once upon a", None, "ok")
    assert log.extra["stream"] == "cut"


def test_a_stream_that_broke_before_its_first_word_is_an_error():
    log = of()
    assert (log.output, log.status, log.error, log.extra) == ((), "error", "no_answer", {"stream": "cut"})
    broken = of(chunk(content="Once"), {"error": {"message": "gone", "code": "server_error"}})
    assert (broken.output[0].content, broken.status, broken.error) == ("Once", "error", "server_error")


def test_text_completions_stream_text():
    chunks = [
        {"object": "text_completion", "choices": [{"index": 0, "text": " wor", "finish_reason": None}]},
        {"object": "text_completion", "choices": [{"index": 0, "text": "ld", "finish_reason": "length"}]},
    ]
    log = read({"request": {"model": "m", "prompt": "hello", "stream": True}, "response": chunks})
    assert (log.operation, log.output[0].content, log.finish_reason) == ("text_completion", " world", "length")


@pytest.mark.parametrize(
    "chunks",
    [["data: {}"], [5], [{"choices": {}}], [{"choices": ["x"]}], [chunk(content=5)], [chunk(tool_calls=["f"])]],
)
def test_what_are_no_chunks_is_refused(chunks: list[Any]):
    with pytest.raises(Undecodable) as caught:
        of(*chunks)
    assert caught.value.code == "invalid"


def test_a_far_off_position_takes_no_memory():
    far = {"index": 10**15, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    assert of(chunk(tool_calls=[far], index=10**15, finish_reason="stop")).output[0].tool_calls[0].name == "f"


def test_chunks_are_not_changed_by_putting_them_together():
    chunks = [chunk(annotations=[{"n": 1}], audio={"data": "a"}), chunk(annotations=[{"n": 2}], audio={"data": "b"})]
    before = json.dumps(chunks)
    first = assemble(chunks)
    assert json.dumps(chunks) == before
    assert assemble(chunks) == first
    assert first["choices"][0]["message"]["audio"] == {"data": "ab"}


@settings(deadline=None, max_examples=200)
@given(odd([capture(name) for name in STREAMED]))
def test_odd_chunks_are_read_or_refused(value: Any):
    check(value)
