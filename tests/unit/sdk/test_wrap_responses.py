"""`wrap` and OpenAI's Responses API, with the real `openai` client against a small server that speaks it."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fakes.http_server import Answer, Asked, json_answer, serving
from fakes.log_server import LogServer, log_server
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.sdk import Producer, wrap

USAGE = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 1},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 14,
}
THOUGHT = {"id": "rs1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "add them"}]}
TEXT = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": '{"answer": 42}', "annotations": []}],
}
CALL = {
    "id": "f1",
    "type": "function_call",
    "call_id": "c1",
    "name": "add",
    "arguments": '{"a":1}',
    "status": "completed",
}
OUTPUT = [THOUGHT, TEXT, CALL]


def response(model: str, output: list[Any], status: str = "completed") -> dict[str, Any]:
    return {
        "id": "resp-1",
        "object": "response",
        "created_at": 1,
        "model": "m-1",
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": USAGE if status == "completed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if model == "long" else None,
    }


def events(model: str) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "response": response(model, [], "in_progress")}
    for index, item in enumerate(OUTPUT):
        begun = {**item, **({"content": []} if item is TEXT else {"arguments": ""} if item is CALL else {})}
        yield {"type": "response.output_item.added", "output_index": index, "item": begun}
        if item is TEXT:
            at = {"output_index": index, "content_index": 0, "item_id": "m1"}
            empty = {"type": "output_text", "text": "", "annotations": []}
            yield {"type": "response.content_part.added", **at, "part": empty}
            for piece in ('{"answer"', ": 42}"):
                yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
        if item is CALL:
            at = {"output_index": index, "item_id": "f1"}
            yield {"type": "response.function_call_arguments.delta", **at, "delta": '{"a":1}'}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response(model, OUTPUT)}


def answer(asked: Asked) -> Answer:
    """Streams when asked to; the model's name says how to fail."""
    request = asked.json()
    model = request["model"]
    if model == "broken":
        return json_answer({"error": {"message": "private words", "type": "server_error"}}, 500)
    if request.get("stream"):
        told = [{**event, "sequence_number": number} for number, event in enumerate(events(model))]
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in told]
        return Answer(200, "".join(lines).encode(), "text/event-stream")
    return json_answer(
        response(model, OUTPUT if model != "long" else [TEXT], "incomplete" if model == "long" else "completed")
    )


class Rig:
    def __init__(self, url: str, logs: LogServer, producer: Producer) -> None:
        self._url = url + "/v1"
        self._logs = logs
        self.producer = producer

    def sync(self) -> OpenAI:
        return wrap(OpenAI(base_url=self._url, api_key="sk-secret", max_retries=0), self.producer)

    def asynchronous(self) -> AsyncOpenAI:
        return wrap(AsyncOpenAI(base_url=self._url, api_key="sk-secret", max_retries=0), self.producer)

    def log(self) -> LogRecord:
        """The one log that arrived."""
        assert self.producer.flush(10), self.producer.stats()
        (log,) = self._logs.logs
        assert b"sk-secret" not in self._logs.asked[0].body
        return log


@pytest.fixture
def rig() -> Iterator[Rig]:
    with serving(answer) as model, log_server() as logs, Producer(logs.url) as producer:
        yield Rig(model.url, logs, producer)


def assert_whole(log: LogRecord) -> None:
    call = ToolCall(name="add", arguments='{"a":1}', id="c1")
    assert log.output == (
        Message(role="assistant", content='{"answer": 42}', reasoning="add them", tool_calls=(call,)),
    )
    assert (log.model, log.response_id, log.finish_reason, log.status) == ("m-1", "resp-1", "tool_calls", "ok")
    assert (log.usage, log.operation) == (Usage(input_tokens=5, output_tokens=9), "chat")


ITEMS: list[Any] = [
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": "data:,"}],
    },
    THOUGHT,
    CALL,
    {"type": "function_call_output", "call_id": "c1", "output": "3"},
]


def test_a_call_is_logged_with_its_conversation(rig: Rig) -> None:
    with rig.sync() as client:
        got = client.responses.create(
            model="m", instructions="be brief", input=ITEMS, temperature=0.5, previous_response_id="resp-0", user="u1"
        )
    assert type(got) is openai.types.responses.Response
    assert got.output_text == '{"answer": 42}'
    log = rig.log()
    assert_whole(log)
    assert [message.role for message in log.messages] == ["system", "user", "assistant", "tool"]
    assert log.messages[0].content == "be brief"
    assert log.messages[1].parts == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
    ]
    assert (log.messages[2].reasoning, log.messages[2].tool_calls[0].id) == ("add them", "c1")
    assert (log.messages[3].content, log.messages[3].tool_call_id) == ("3", "c1")
    assert (log.params, log.user_id) == ({"temperature": 0.5}, "u1")
    assert log.extra["request"]["previous_response_id"] == "resp-0"


async def test_an_async_call_is_logged(rig: Rig) -> None:
    async with rig.asynchronous() as client:
        await client.responses.create(model="m", input="hi")
    log = rig.log()
    assert_whole(log)
    assert log.messages == (Message(role="user", content="hi"),)


def test_an_answer_that_was_cut_short_says_so(rig: Rig) -> None:
    with rig.sync() as client:
        client.responses.create(model="long", input="hi")
    assert rig.log().finish_reason == "length"


def test_a_stream_is_put_together(rig: Rig) -> None:
    with rig.sync() as client, client.responses.create(model="m", input="hi", stream=True) as stream:
        assert type(stream) is openai.Stream
        assert len(list(stream)) == len(list(events("m")))
    assert_whole(rig.log())


async def test_an_async_stream_is_put_together(rig: Rig) -> None:
    async with rig.asynchronous() as client:
        stream = await client.responses.create(model="m", input="hi", stream=True)
        assert len([event async for event in stream]) == len(list(events("m")))
    assert_whole(rig.log())


def test_a_stream_left_early_is_logged_as_far_as_it_came(rig: Rig) -> None:
    with rig.sync() as client, client.responses.create(model="m", input="hi", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    log = rig.log()
    assert (log.output[0].content, log.output[0].reasoning) == ('{"answer"', "add them")
    assert (log.finish_reason, log.response_id, log.metadata) == (None, "resp-1", {"stream": "left early"})


def test_the_stream_helper_is_logged_once(rig: Rig) -> None:
    with rig.sync() as client, client.responses.stream(model="m", input="hi") as stream:
        assert stream.get_final_response().output_text == '{"answer": 42}'
    assert_whole(rig.log())


class Answer42(BaseModel):
    answer: int


def test_a_parsed_answer_is_logged_as_its_text(rig: Rig) -> None:
    with rig.sync() as client:
        parsed = client.responses.parse(model="m", input="hi", text_format=Answer42)
    assert parsed.output_parsed == Answer42(answer=42)
    log = rig.log()
    assert_whole(log)
    assert "parsed" not in json.dumps(log.extra)


async def test_an_async_parsed_answer_is_logged(rig: Rig) -> None:
    async with rig.asynchronous() as client:
        parsed = await client.responses.parse(model="m", input="hi", text_format=Answer42)
    assert parsed.output_parsed == Answer42(answer=42)
    assert_whole(rig.log())


def test_a_raw_response_is_logged_and_left_as_it_was(rig: Rig) -> None:
    with rig.sync() as client:
        raw = client.responses.with_raw_response.create(model="m", input="hi")
    assert raw.parse().output_text == '{"answer": 42}'
    assert_whole(rig.log())


def test_an_error_is_logged_by_its_type_and_raised_as_it_is(rig: Rig) -> None:
    with rig.sync() as client, pytest.raises(openai.InternalServerError, match="private words"):
        client.responses.create(model="broken", input="hi")
    log = rig.log()
    assert (log.status, log.error, log.output) == ("error", "InternalServerError", ())
    assert "private" not in str(log)
