"""Model invocation logs of Amazon Bedrock, in the words of each API and of each model's own body."""

import json
from typing import Any

import pytest
from fakes.odd_json import check, odd
from hypothesis import given, settings

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import NotACall, Reading

HELLO = {"role": "user", "content": [{"text": "hello"}]}
RECORD = {
    "schemaType": "ModelInvocationLog",
    "schemaVersion": "1.0",
    "timestamp": "2026-05-28T20:26:40Z",
    "accountId": "123456789012",
    "identity": {"arn": "arn:aws:sts::123456789012:assumed-role/shop/i-1"},
    "region": "eu-central-1",
    "requestId": "req-1",
    "operation": "Converse",
    "modelId": "anthropic.claude-sonnet",
}


def record(asked: Any, answered: Any, *, tokens: tuple[int, int] = (3, 4), **fields: Any) -> dict[str, Any]:
    return {
        **RECORD,
        "input": {"inputContentType": "application/json", "inputBodyJson": asked, "inputTokenCount": tokens[0]},
        "output": {"outputContentType": "application/json", "outputBodyJson": answered, "outputTokenCount": tokens[1]},
        **fields,
    }


def decoded(value: Any) -> Reading:
    return decode(json.dumps(value).encode(), ts_ms=7)


def read(value: Any) -> LogRecord:
    found = decoded(value)
    assert isinstance(found, LogRecord)
    return found


def invoked(asked: Any, answered: Any, **fields: Any) -> LogRecord:
    operation = "InvokeModelWithResponseStream" if isinstance(answered, list) else "InvokeModel"
    return read(record(asked, answered, **{"operation": operation, **fields}))


def conversed(*content: Any, stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    return {"output": {"message": {"role": "assistant", "content": list(content)}}, "stopReason": stop, **more}


CONVERSE = record(
    {
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {
                "role": "user",
                "content": [{"text": "Weather?"}, {"image": {"format": "png", "source": {"bytes": "AA"}}}],
            },
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "Eq"}}},
                    {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"town": "Rome"}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "t1", "content": [{"json": {"celsius": 31}}], "status": "success"}}
                ],
            },
        ],
        "inferenceConfig": {"maxTokens": 64, "temperature": 0.5, "stopSequences": ["x"]},
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "weather", "description": "d", "inputSchema": {"json": {"type": "object"}}}},
                {"cachePoint": {"type": "default"}},
            ],
            "toolChoice": {"auto": {}},
        },
        "additionalModelRequestFields": {"top_k": 5},
    },
    conversed(
        {"text": "Now Oslo."},
        {"toolUse": {"toolUseId": "t2", "name": "weather", "input": {"town": "Oslo"}}},
        stop="tool_use",
        usage={"inputTokens": 3, "outputTokens": 4, "totalTokens": 7, "cacheReadInputTokens": 2},
        metrics={"latencyMs": 551},
    ),
    requestMetadata={"tier": "gold"},
)
STREAM = record(
    {"messages": [HELLO]},
    [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "h"}}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "m"}}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"reasoningContent": {"signature": "Eq"}}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "I "}, "contentBlockIndex": 1}},
        {"contentBlockDelta": {"delta": {"text": "look."}, "contentBlockIndex": 1}},
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t1", "name": "f"}}, "contentBlockIndex": 2}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"x"'}}, "contentBlockIndex": 2}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": ": 1}"}}, "contentBlockIndex": 2}},
        {"contentBlockStop": {"contentBlockIndex": 2}},
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 4}, "metrics": {"latencyMs": 99}}},
    ],
    operation="ConverseStream",
)
CLAUDE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hello"}],
}
CLAUDES_ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 4},
}
CLAUDES_STREAM = [
    {"type": "message_start", "message": {**CLAUDES_ANSWER, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"invocationLatency": 1500, "firstByteLatency": 300}},
]


def test_a_conversation():
    log = read(CONVERSE)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    assert log.messages == (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Weather?", parts=[{"type": "text", "text": "Weather?"}, image]),
        Message(
            role="assistant",
            reasoning="hm",
            tool_calls=(ToolCall(name="weather", arguments='{"town":"Rome"}', id="t1"),),
        ),
        Message(role="tool", content='{"celsius":31}', tool_call_id="t1"),
    )
    assert log.output == (
        Message(
            role="assistant",
            content="Now Oslo.",
            tool_calls=(ToolCall(name="weather", arguments='{"town":"Oslo"}', id="t2"),),
        ),
    )
    assert log.tools == [
        {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}},
        {"cachePoint": {"type": "default"}},
    ]
    assert log.params == {
        "max_tokens": 64,
        "temperature": 0.5,
        "stop_sequences": ["x"],
        "toolChoice": {"auto": {}},
        "additionalModelRequestFields": {"top_k": 5},
    }


def test_what_the_record_says_around_a_call():
    log = read(CONVERSE)
    assert (log.log_id, log.response_id, log.ts_ms) == ("req-1", "req-1", 1_780_000_000_000)
    assert (log.source, log.provider, log.model) == ("bedrock", "aws.bedrock", "anthropic.claude-sonnet")
    assert (log.usage, log.finish_reason, log.latency_ms) == (
        Usage(input_tokens=3, output_tokens=4),
        "tool_calls",
        551.0,
    )
    assert (log.status, log.user_id) == ("ok", None)
    assert log.metadata == {
        "tier": "gold",
        "identity_arn": "arn:aws:sts::123456789012:assumed-role/shop/i-1",
        "account_id": "123456789012",
        "region": "eu-central-1",
    }
    assert log.extra == {
        "system": {"1": {"type": "cachePoint", "cachePoint": {"type": "default"}}},
        "messages": {
            "1": {"content": {"0": {"signature": "Eq"}}},
            "2": {"content": {"0": {"status": "success"}}},
        },
        "response": {"stop_reason": "tool_use", "metrics": {"latencyMs": 551}},
        "record": {"operation": "Converse"},
        "usage": {"cacheReadInputTokens": 2},
    }


def test_a_streamed_conversation():
    log = read(STREAM)
    call = ToolCall(name="f", arguments='{"x": 1}', id="t1")
    assert log.messages == (Message(role="user", content="hello"),)
    assert log.output == (Message(role="assistant", content="I look.", reasoning="hm", tool_calls=(call,)),)
    assert (log.finish_reason, log.latency_ms) == ("tool_calls", 99.0)


@pytest.mark.parametrize("answered", [CLAUDES_ANSWER, CLAUDES_STREAM], ids=["whole", "streamed"])
def test_claude_invoked_with_its_own_body(answered: Any):
    log = invoked(CLAUDE, answered)
    assert log.messages == (Message(role="user", content="hello"),)
    assert log.output == (Message(role="assistant", content="hi"),)
    assert (log.finish_reason, log.response_id, log.model) == ("stop", "msg_1", "anthropic.claude-sonnet")
    assert log.params == {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9}
    assert log.extra["response"] == {"stop_reason": "end_turn", "model": "claude-sonnet-4"}
    assert log.latency_ms == (1500.0 if isinstance(answered, list) else None)


@pytest.mark.parametrize(
    ("asked", "answered", "finish_reason"),
    [
        (  # Titan
            {"inputText": "hello", "textGenerationConfig": {"temperature": 0.5}},
            {
                "inputTextTokenCount": 3,
                "results": [{"tokenCount": 4, "outputText": "hi", "completionReason": "FINISH"}],
            },
            "stop",
        ),
        (
            {"inputText": "hello", "textGenerationConfig": {"temperature": 0.5}},
            [
                {"outputText": "h", "index": 0, "completionReason": None},
                {"outputText": "i", "index": 0, "completionReason": "LENGTH", "totalOutputTextTokenCount": 4},
            ],
            "length",
        ),
        (  # Llama
            {"prompt": "hello", "temperature": 0.5},
            {"generation": "hi", "prompt_token_count": 3, "generation_token_count": 4, "stop_reason": "stop"},
            "stop",
        ),
        (
            {"prompt": "hello", "temperature": 0.5},
            [
                {"generation": "h", "prompt_token_count": 3, "generation_token_count": 1, "stop_reason": None},
                {"generation": "i", "prompt_token_count": None, "generation_token_count": 4, "stop_reason": "length"},
            ],
            "length",
        ),
        (  # Mistral
            {"prompt": "hello", "temperature": 0.5},
            {"outputs": [{"text": "hi", "stop_reason": "stop"}]},
            "stop",
        ),
        (  # Cohere
            {"message": "hello", "temperature": 0.5},
            {"text": "hi", "finish_reason": "COMPLETE", "generation_id": "g"},
            "stop",
        ),
        (
            {"prompt": "hello", "temperature": 0.5},
            {"generations": [{"text": "hi", "finish_reason": "MAX_TOKENS"}]},
            "length",
        ),
        (  # AI21
            {"prompt": "hello", "temperature": 0.5},
            {"completions": [{"data": {"text": "hi"}, "finishReason": {"reason": "length"}}]},
            "length",
        ),
        (  # Claude 2
            {"prompt": "hello", "temperature": 0.5},
            {"type": "completion", "completion": "hi", "stop_reason": "stop_sequence"},
            "stop",
        ),
    ],
)
def test_models_that_are_asked_with_one_text(asked: Any, answered: Any, finish_reason: str):
    log = invoked(asked, answered)
    assert (log.messages, log.operation) == ((Message(role="user", content="hello"),), "text_completion")
    assert log.output == (Message(role="assistant", content="hi"),)
    assert (log.finish_reason, log.usage) == (finish_reason, Usage(input_tokens=3, output_tokens=4))
    assert log.params == {"temperature": 0.5}


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (CLAUDE, CLAUDES_ANSWER),
        ({"prompt": "hello"}, {"generation": "hi", "prompt_token_count": 3, "generation_token_count": 4}),
        (
            {"inputText": "hello"},
            [
                {"outputText": "h", "inputTextTokenCount": 3},
                {"outputText": "i", "inputTextTokenCount": None, "totalOutputTextTokenCount": 4},
            ],
        ),
        ({"messages": [HELLO]}, conversed({"text": "hi"}, usage={"inputTokens": 3, "outputTokens": 4})),
    ],
)
def test_tokens_that_only_the_body_counts(asked: Any, answered: Any):
    value = record(asked, answered, inferenceRegion="eu-west-1")
    del value["input"]["inputTokenCount"], value["output"]["outputTokenCount"]
    log = read(value)
    assert log.usage == Usage(input_tokens=3, output_tokens=4)
    assert log.metadata["inference_region"] == "eu-west-1"


def test_several_answers_to_one_text():
    log = invoked({"prompt": "hello"}, {"generations": [{"text": "a"}, {"text": "b", "finish_reason": "COMPLETE"}]})
    assert [message.content for message in log.output] == ["a", "b"]


def test_a_picture_that_is_not_in_the_log_is_told_as_sent():
    elsewhere = {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}
    unnamed = {"source": {"bytes": "AA"}}
    asked = {"messages": [{"role": "user", "content": [{"text": "see"}, {"image": elsewhere}, {"image": unnamed}]}]}
    log = read(record(asked, conversed({"text": "hi"})))
    assert log.messages[0].parts == [
        {"type": "text", "text": "see"},
        {"type": "image", **elsewhere},
        {"type": "image", **unnamed},
    ]


def test_nova_speaks_as_converse_does():
    log = invoked({"schemaVersion": "messages-v1", "messages": [HELLO]}, conversed({"text": "hi"}))
    assert (log.messages[0].content, log.output[0].content, log.finish_reason) == ("hello", "hi", "stop")


@pytest.mark.parametrize(
    "answered",
    [
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "stop_reason": "length"}]},
        [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "h"}}]},
            {"choices": [{"index": 0, "delta": {"content": "i"}, "finish_reason": "length"}]},
        ],
    ],
    ids=["whole", "streamed"],
)
def test_models_that_speak_as_openais_do(answered: Any):
    log = invoked({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}, answered)
    assert (log.messages[0].content, log.output[0].content, log.finish_reason) == ("hello", "hi", "length")
    assert (log.operation, log.params) == ("chat", {"max_tokens": 9})


@pytest.mark.parametrize("asked", [{"messages": [HELLO]}, CLAUDE, {"prompt": "hello"}])
def test_a_call_that_failed(asked: Any):
    value = {**record(asked, None), "errorCode": "ThrottlingException"}
    del value["output"]
    log = read(value)
    assert (log.messages[0].content, log.output) == ("hello", ())
    assert (log.status, log.error) == ("error", "ThrottlingException")


def test_streams_that_were_cut_off_keep_what_came():
    log = invoked(CLAUDE, CLAUDES_STREAM[:3])
    assert (log.output[0].content, log.finish_reason, log.extra["stream"]) == ("hi", None, "cut")
    log = invoked({"messages": [HELLO]}, STREAM["output"]["outputBodyJson"][:5])
    assert (log.output[0].content, log.finish_reason, log.extra["stream"]) == ("I ", None, "cut")


@pytest.mark.parametrize(
    ("asked", "answered", "model", "kind"),
    [
        ({"inputText": "hello"}, {"embedding": [0.5]}, "amazon.titan-embed-text-v2:0", "embeddings"),
        ({"texts": ["hello"]}, None, "cohere.embed-v4", "embeddings"),
        ({"taskType": "TEXT_IMAGE"}, {"images": ["AA"]}, "amazon.nova-canvas-v1:0", "image"),
        ({"prompt": "a cat"}, {"images": ["AA"]}, "stability.sd3-5-large-v1:0", "image"),
        ({"query": "q", "documents": ["d"]}, {"results": []}, "cohere.rerank-v3-5:0", "rerank"),
    ],
)
def test_what_generates_no_text_is_no_call(asked: Any, answered: Any, model: str, kind: str):
    assert decoded(record(asked, answered, modelId=model, operation="InvokeModel")) == NotACall(kind)


@pytest.mark.parametrize(("part", "field"), [("input", "inputBodyS3Path"), ("output", "outputBodyS3Path")])
def test_a_body_that_lies_in_s3_is_refused_with_the_remedy(part: str, field: str):
    value = record({"messages": [HELLO]}, conversed({"text": "hi"}))
    value[part] = {field: "s3://bucket/private/key.json.gz"}
    with pytest.raises(Undecodable) as caught:
        read(value)
    assert caught.value.code == "elsewhere"
    assert field in str(caught.value)
    assert "bucket" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (record("hello", None), "invalid"),
        (record({"unknown": 1}, {}), "invalid"),
        (record({"messages": [HELLO]}, "hi"), "invalid"),
        (record({"messages": [HELLO]}, conversed({"text": 5})), "invalid"),
        (record({"messages": [HELLO]}, [{"messageStart": {}}, 5]), "invalid"),
        (record({"messages": [HELLO]}, conversed({"toolUse": {"toolUseId": "t"}})), "invalid"),
        (record({"prompt": "hello"}, [5]), "invalid"),
        (record({"messages": [HELLO]}, conversed({"text": "hi"}), timestamp="yesterday"), "bad_time"),
    ],
)
def test_what_cannot_be_read_is_refused(value: Any, code: str):
    with pytest.raises(Undecodable) as caught:
        read(value)
    assert caught.value.code == code


SAMPLES = [
    CONVERSE,
    STREAM,
    record(CLAUDE, CLAUDES_ANSWER),
    record(CLAUDE, CLAUDES_STREAM),
    record({"inputText": "hello"}, {"results": [{"outputText": "hi", "completionReason": "FINISH"}]}),
    record({"prompt": "hello"}, [{"generation": "h", "stop_reason": "stop"}]),
]


@settings(deadline=None, max_examples=400)
@given(odd(SAMPLES))
def test_odd_records_are_read_or_refused(value: Any):
    check(value)
