"""`wrap` around the real `openai` client, against a small server that speaks its API."""

import asyncio
import inspect
import json
import operator
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import openai
import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from fakes.log_server import LogServer, log_server
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tunemill.schemas.records import LogRecord, ToolCall, Usage
from tunemill.sdk import Producer, call, log_context, wrap

HI = [{"role": "user", "content": "hi"}]
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
CALLS = [{"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a"'}}]


def chunk(delta: dict[str, Any], finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "r1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-1",
        "choices": choices,
        "usage": usage,
    }


CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "yo "}),
    chunk({"content": "there"}),
    chunk({"tool_calls": CALLS}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    chunk({}, "tool_calls"),
    {**chunk({}, usage=USAGE), "choices": []},
]


def openai_answer(asked: Asked) -> Answer:
    """Streams when asked to; the model's name says how to fail."""
    request = asked.json()
    if request["model"] == "broken":
        return json_answer({"error": {"message": "private words", "type": "server_error"}}, 500)
    if request.get("stream"):
        broken = [{"error": {"message": "gone"}}] if request["model"] == "breaks-off" else []
        lines = [*CHUNKS[:3], *broken] if broken else [*CHUNKS, None]
        events = [f"data: {json.dumps(line) if line else '[DONE]'}\n\n" for line in lines]
        return Answer(200, "".join(events).encode(), "text/event-stream")
    content = {"json": '{"answer": 42}', "half": "yo \ud83d"}.get(request["model"], "yo")
    message = {"role": "assistant", "content": content, "refusal": None}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    return json_answer(
        {"id": "r1", "object": "chat.completion", "created": 1, "model": "m-1", "choices": choices, "usage": USAGE}
    )


class Rig:
    """An OpenAI-shaped server, a log server and a producer."""

    def __init__(self, openai_server: Server, logs: LogServer, producer: Producer) -> None:
        self.url = openai_server.url + "/v1"
        self.openai_server = openai_server
        self.logs_server = logs
        self.producer = producer

    def sync(self) -> OpenAI:
        return wrap(OpenAI(base_url=self.url, api_key="sk-secret", max_retries=0), self.producer, tags=["app:test"])

    def asynchronous(self) -> AsyncOpenAI:
        return wrap(AsyncOpenAI(base_url=self.url, api_key="sk-secret", max_retries=0), self.producer)

    def log(self) -> LogRecord:
        """The one log that arrived."""
        assert self.producer.flush(10)
        (log,) = self.logs_server.logs
        return log


@pytest.fixture
def rig() -> Iterator[Rig]:
    with (
        serving(openai_answer) as answering,
        log_server() as logs,
        Producer(logs.url, app="shop") as producer,
    ):
        yield Rig(answering, logs, producer)


def test_a_call_is_logged_and_its_answer_untouched(rig: Rig) -> None:
    with rig.sync() as client, log_context(session_id="s1"):
        answer = client.chat.completions.create(
            model="m", messages=HI, temperature=0.5, extra_headers={"X-Key": "hush"}
        )
    assert type(answer) is openai.types.chat.ChatCompletion
    assert answer.choices[0].message.content == "yo"
    log = rig.log()
    assert [message.content for message in log.messages + log.output] == ["hi", "yo"]
    assert (log.model, log.provider, log.app, log.session_id) == ("m-1", "127.0.0.1", "shop", "s1")
    assert (log.status, log.finish_reason, log.response_id) == ("ok", "stop", "r1")
    assert (log.usage, log.params, log.tags) == (
        Usage(input_tokens=5, output_tokens=2),
        {"temperature": 0.5},
        ("app:test",),
    )
    assert log.latency_ms is not None and log.latency_ms > 0
    sent = rig.logs_server.asked[0].body
    assert b"hush" not in sent and b"sk-secret" not in sent
    assert rig.openai_server.asked[0].headers["x-key"] == "hush"


async def test_an_async_call_is_logged(rig: Rig) -> None:
    async with rig.asynchronous() as client:
        answer = await client.chat.completions.create(model="m", messages=HI)
    assert type(answer) is openai.types.chat.ChatCompletion
    assert rig.log().output[0].content == "yo"


def assert_whole_stream(log: LogRecord) -> None:
    assert log.output[0].content == "yo there"
    assert log.output[0].tool_calls == (ToolCall(name="add", arguments='{"a":1}', id="c1"),)
    assert (log.finish_reason, log.model, log.response_id) == ("tool_calls", "m-1", "r1")
    assert log.usage == Usage(input_tokens=5, output_tokens=2)
    assert (log.status, log.metadata) == ("ok", {})


def test_a_stream_is_put_together(rig: Rig) -> None:
    with rig.sync() as client:
        stream = client.chat.completions.create(model="m", messages=HI, stream=True)
        assert type(stream) is openai.Stream
        with stream:
            chunks = list(stream)
    assert len(chunks) == len(CHUNKS)
    assert all(type(one) is openai.types.chat.ChatCompletionChunk for one in chunks)
    assert_whole_stream(rig.log())


async def test_an_async_stream_is_put_together(rig: Rig) -> None:
    async with rig.asynchronous() as client:
        stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
        assert type(stream) is openai.AsyncStream
        assert len([one async for one in stream]) == len(CHUNKS)
    assert_whole_stream(rig.log())


def test_a_stream_left_early_is_logged_as_far_as_it_came(rig: Rig) -> None:
    with rig.sync() as client, client.chat.completions.create(model="m", messages=HI, stream=True) as stream:
        next(stream)
        next(stream)
    log = rig.log()
    assert log.output[0].content == "yo "
    assert (log.status, log.finish_reason, log.metadata) == ("ok", None, {"stream": "left early"})


def test_an_error_is_logged_by_its_type_and_raised_as_it_is(rig: Rig) -> None:
    with rig.sync() as client, pytest.raises(openai.InternalServerError, match="private words"):
        client.chat.completions.create(model="broken", messages=HI)
    log = rig.log()
    assert (log.status, log.error, log.output, log.model) == ("error", "InternalServerError", (), "broken")
    assert b"private words" not in rig.logs_server.asked[0].body


async def test_an_async_error_is_logged_and_raised(rig: Rig) -> None:
    async with rig.asynchronous() as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="broken", messages=HI)
    assert rig.log().status == "error"


def test_a_stream_that_breaks_off_is_an_error_with_what_came(rig: Rig) -> None:
    with rig.sync() as client, pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="breaks-off", messages=HI, stream=True))
    log = rig.log()
    assert (log.status, log.error, log.output[0].content) == ("error", "APIError", "yo there")


def test_messages_are_those_of_the_call_though_the_application_goes_on(rig: Rig) -> None:
    messages: list[Any] = list(HI)
    with rig.sync() as client:
        stream = client.chat.completions.create(model="m", messages=messages, stream=True)
        messages.append({"role": "assistant", "content": "later"})
        list(stream)
    assert len(rig.log().messages) == 1


def test_a_raw_response_is_logged_and_left_as_it_was(rig: Rig) -> None:
    with rig.sync() as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=HI)
    assert raw.parse().choices[0].message.content == "yo"
    log = rig.log()
    assert (log.output[0].content, log.usage.input_tokens) == ("yo", 5)


def test_wrapping_again_logs_once(rig: Rig) -> None:
    with wrap(rig.sync(), rig.producer) as client:
        client.chat.completions.create(model="m", messages=HI)
    assert rig.log().tags == ()


def test_a_fault_of_ours_never_reaches_the_application(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(call, "snapshot", fail)
    monkeypatch.setattr(call, "StreamedAnswer", fail)
    with rig.sync() as client:
        assert client.chat.completions.create(model="m", messages=HI).id == "r1"
        assert len(list(client.chat.completions.create(model="m", messages=HI, stream=True))) == len(CHUNKS)
    assert rig.producer.stats().dropped == 2


def test_one_tag_may_be_given_as_a_text(rig: Rig) -> None:
    with wrap(rig.sync(), rig.producer, tags="team:blue") as client, log_context(tags="topic:math"):
        client.chat.completions.create(model="m", messages=HI)
    assert rig.log().tags == ("topic:math", "team:blue")


class Answer42(BaseModel):
    answer: int


def test_a_parsed_answer_is_logged_as_its_text(rig: Rig) -> None:
    with rig.sync() as client:
        parsed = client.chat.completions.parse(model="json", messages=HI, response_format=Answer42)
    assert parsed.choices[0].message.parsed == Answer42(answer=42)
    log = rig.log()
    assert log.output[0].content == '{"answer": 42}'
    assert log.params == {"response_format": "<Answer42>"}
    assert b"parsed" not in rig.logs_server.asked[0].body


async def test_an_async_parsed_answer_is_logged(rig: Rig) -> None:
    async with rig.asynchronous() as client:
        parsed = await client.chat.completions.parse(model="json", messages=HI, response_format=Answer42)
    assert parsed.choices[0].message.parsed == Answer42(answer=42)
    assert rig.log().output[0].content == '{"answer": 42}'


def test_the_stream_helper_is_logged_once(rig: Rig) -> None:
    with rig.sync() as client, client.chat.completions.stream(model="m", messages=HI) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "yo there"
    log = rig.log()
    assert_whole_stream(log)
    assert log.messages[0].content == "hi"


async def test_the_async_stream_helper_is_logged_once(rig: Rig) -> None:
    async with rig.asynchronous() as client, client.chat.completions.stream(model="m", messages=HI) as stream:
        assert "content.delta" in [event.type async for event in stream]
    assert_whole_stream(rig.log())


def test_a_raw_stream_is_logged_once_the_application_reads_it(rig: Rig) -> None:
    with rig.sync() as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=HI, stream=True)
        assert raw.headers["content-type"] == "text/event-stream"
        assert len(list(raw.parse())) == len(CHUNKS)
    assert_whole_stream(rig.log())


async def test_an_async_raw_response_is_logged(rig: Rig) -> None:
    async with rig.asynchronous() as client:
        raw = await client.chat.completions.with_raw_response.create(model="m", messages=HI)
        assert raw.parse().choices[0].message.content == "yo"
    assert rig.log().output[0].content == "yo"


def test_a_raw_response_that_was_looked_at_before_wrapping_is_logged(rig: Rig) -> None:
    with OpenAI(base_url=rig.url, api_key="sk-secret", max_retries=0) as client:
        assert client.chat.completions.with_raw_response
        assert client.chat.completions.with_streaming_response
        wrap(client, rig.producer).chat.completions.with_raw_response.create(model="m", messages=HI)
    assert rig.log().output[0].content == "yo"


def test_a_streaming_response_is_passed_on_and_counted_as_dropped(rig: Rig) -> None:
    with rig.sync() as client, client.chat.completions.with_streaming_response.create(model="m", messages=HI) as answer:
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "yo"
    assert rig.producer.stats().dropped == 1


@pytest.mark.parametrize("how", ["with_options", "copy"])
def test_copies_of_a_wrapped_client_are_wrapped(rig: Rig, how: str) -> None:
    with rig.sync() as client:
        again = getattr(client, how)(timeout=7)
        assert again is not client
        getattr(again, how)(timeout=8).chat.completions.create(model="m", messages=HI)
    assert rig.log().tags == ("app:test",)


def test_a_client_without_the_responses_api_is_wrapped_all_the_same(rig: Rig) -> None:
    class Completions:
        def create(self, **request: Any) -> Any:
            return openai.types.chat.ChatCompletion.model_validate(
                json.loads(openai_answer(Asked("POST", "/", {}, json.dumps(request).encode())).body)
            )

    imitation = SimpleNamespace(chat=SimpleNamespace(completions=Completions()), base_url="https://llm.example/v1")
    wrap(imitation, rig.producer).chat.completions.create(model="m", messages=HI)
    log = rig.log()
    assert (log.output[0].content, log.provider) == ("yo", "llm.example")


def test_a_client_of_mocks_is_left_alone(rig: Rig) -> None:
    client = MagicMock()
    answer = wrap(client, rig.producer).chat.completions.create(model="m", messages=HI)
    assert isinstance(answer, MagicMock)
    rig.producer.flush(10)
    assert rig.producer.stats().waiting == 0


def test_a_wrapped_method_looks_like_itself(rig: Rig) -> None:
    with rig.sync() as client:
        assert client.chat.completions.create.__name__ == "create"
        assert "temperature" in inspect.signature(client.chat.completions.create).parameters


def test_an_answer_with_half_a_character_is_logged_with_its_question(rig: Rig) -> None:
    with rig.sync() as client:
        assert client.chat.completions.create(model="half", messages=HI).choices[0].message.content == "yo \ud83d"
    assert [message.content for message in (*rig.log().messages, *rig.log().output)] == ["hi", "yo ?"]


def test_the_older_way_to_parse_is_logged(rig: Rig) -> None:
    with rig.sync() as client:
        parsed = client.beta.chat.completions.parse(model="json", messages=HI, response_format=Answer42)
    assert parsed.choices[0].message.parsed == Answer42(answer=42)
    assert rig.log().output[0].content == '{"answer": 42}'


async def test_what_was_a_coroutine_function_still_is_one(rig: Rig) -> None:
    async with AsyncOpenAI(base_url=rig.url, api_key="sk-secret", max_retries=0) as bare, rig.asynchronous() as client:
        for one in ("chat.completions.create", "chat.completions.parse", "responses.create", "responses.parse"):
            look_up = operator.attrgetter(one)
            assert inspect.iscoroutinefunction(look_up(client)) == inspect.iscoroutinefunction(look_up(bare)), one


async def test_a_call_that_is_cancelled_is_logged_and_ends_as_cancelled(rig: Rig) -> None:
    async def never(**request: Any) -> Any:
        await asyncio.sleep(60)

    client = wrap(SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=never))), rig.producer)
    call = asyncio.ensure_future(client.chat.completions.create(model="m", messages=HI))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert rig.log().error == "CancelledError"
