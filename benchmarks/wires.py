"""The same calls on every wire: an OpenAI pair -> the bytes that each source would send for it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Pair = Mapping[str, Any]  # {"request": ..., "response": ...} of chat completions, with a `timestamp` in seconds


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _ids(pair: Pair) -> tuple[str, str]:
    """A trace id and a span id in hexadecimal, the same ones for the same call."""
    found = hashlib.sha256(str(pair["response"]["id"]).encode()).hexdigest()
    return found[:32], found[32:48]


def _answer(pair: Pair) -> dict[str, Any]:
    return dict(pair["response"]["choices"][0]["message"])


def _usage(pair: Pair) -> tuple[int, int]:
    usage = pair["response"].get("usage") or {}
    return int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))


def _time(pair: Pair) -> str:
    return "2026-05-01T00:00:00.000Z"


def openai_pair(pair: Pair) -> bytes:
    """Request and response of chat completions."""
    return _json({"request": pair["request"], "response": pair["response"]})


def flywheel(pair: Pair) -> bytes:
    """The pair with its workload, client and time."""
    return _json(pair)


def chunks(pair: Pair) -> bytes:
    """The answer as the chunks of a stream, some words each."""
    words = str(_answer(pair).get("content") or "").split(" ")
    head = {"id": pair["response"]["id"], "object": "chat.completion.chunk", "model": pair["response"]["model"]}
    pieces = [" ".join(words[at : at + 8]) for at in range(0, len(words), 8)]
    stream: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": piece + " "}}]} for piece in pieces
    ]
    stream.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return _json({"request": {**pair["request"], "stream": True}, "response": stream})


def responses(pair: Pair) -> bytes:
    """The same exchange over the Responses API."""
    texts = [{"role": m["role"], "content": m.get("content") or ""} for m in pair["request"]["messages"]]
    asked, answered = _usage(pair)
    said = {"type": "output_text", "text": _answer(pair).get("content") or "", "annotations": []}
    return _json(
        {
            "request": {"model": pair["request"]["model"], "input": texts},
            "response": {
                "id": "resp_" + pair["response"]["id"],
                "object": "response",
                "status": "completed",
                "model": pair["response"]["model"],
                "output": [{"type": "message", "role": "assistant", "status": "completed", "content": [said]}],
                "usage": {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered},
            },
        }
    )


def anthropic(pair: Pair) -> bytes:
    """The same exchange over the Messages API of Anthropic."""
    messages = pair["request"]["messages"]
    asked, answered = _usage(pair)
    return _json(
        {
            "request": {
                "model": pair["request"]["model"],
                "max_tokens": 1024,
                "system": "\n".join(m["content"] for m in messages if m["role"] == "system"),
                "messages": [
                    {"role": "user", "content": m.get("content") or "-"} for m in messages if m["role"] != "system"
                ],
            },
            "response": {
                "id": "msg_" + pair["response"]["id"],
                "type": "message",
                "role": "assistant",
                "model": pair["response"]["model"],
                "content": [{"type": "text", "text": _answer(pair).get("content") or ""}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": asked, "output_tokens": answered},
            },
        }
    )


def bedrock(pair: Pair) -> bytes:
    """An invocation log of Bedrock with the same exchange in its bodies."""
    inner = json.loads(anthropic(pair))
    asked, answered = _usage(pair)
    return _json(
        {
            "schemaType": "ModelInvocationLog",
            "schemaVersion": "1.0",
            "timestamp": _time(pair),
            "accountId": "123456789012",
            "region": "eu-central-1",
            "requestId": str(pair["response"]["id"]),
            "operation": "InvokeModel",
            "modelId": "anthropic.claude-3-haiku-20240307-v1:0",
            "input": {
                "inputContentType": "application/json",
                "inputBodyJson": {"anthropic_version": "bedrock-2023-05-31", **inner["request"]},
                "inputTokenCount": asked,
            },
            "output": {
                "outputContentType": "application/json",
                "outputBodyJson": inner["response"],
                "outputTokenCount": answered,
            },
        }
    )


def litellm(pair: Pair) -> bytes:
    """LiteLLM's StandardLoggingPayload."""
    asked, answered = _usage(pair)
    start = float(pair.get("timestamp") or 1_777_000_000)
    return _json(
        {
            "id": pair["response"]["id"],
            "trace_id": _ids(pair)[0],
            "call_type": "acompletion",
            "stream": False,
            "response_cost": 0.0001,
            "status": "success",
            "custom_llm_provider": "openai",
            "total_tokens": asked + answered,
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "startTime": start,
            "endTime": start + 0.8,
            "completionStartTime": start + 0.2,
            "model": pair["request"]["model"],
            "model_id": "m1",
            "model_group": "chat",
            "metadata": {"user_api_key_alias": "team-a", "spend_logs_metadata": None},
            "request_tags": ["support"],
            "end_user": "u1",
            "messages": pair["request"]["messages"],
            "response": pair["response"],
            "model_parameters": {"temperature": 0.2},
            "hidden_params": {"model_id": "m1", "cache_key": None},
        }
    )


def langfuse(pair: Pair) -> bytes:
    """A generation of a Langfuse ingestion batch."""
    trace_id, span_id = _ids(pair)
    asked, answered = _usage(pair)
    body = {
        "id": span_id,
        "traceId": trace_id,
        "name": "OpenAI-generation",
        "startTime": _time(pair),
        "endTime": _time(pair),
        "model": pair["request"]["model"],
        "modelParameters": {"temperature": 0.2},
        "input": pair["request"]["messages"],
        "output": _answer(pair),
        "usageDetails": {"input": asked, "output": answered, "total": asked + answered},
    }
    return _json({"id": span_id + "-create", "timestamp": _time(pair), "type": "generation-create", "body": body})


def _text(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(string_value=value if isinstance(value, str) else json.dumps(value))


def _span(pair: Pair, attributes: Mapping[str, Any]) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="shop")))
    span = resource.scope_spans.add().spans.add()
    trace_id, span_id = _ids(pair)
    span.trace_id, span.span_id = bytes.fromhex(trace_id), bytes.fromhex(span_id)
    span.name = "chat"
    span.start_time_unix_nano = 1_777_000_000_000_000_000
    span.end_time_unix_nano = span.start_time_unix_nano + 800_000_000
    span.attributes.extend(KeyValue(key=key, value=_text(value)) for key, value in attributes.items())
    return bytes(request.SerializeToString())


def otlp_genai(pair: Pair) -> bytes:
    """A span by OpenTelemetry's GenAI conventions of today, as OTLP protobuf."""
    asked, answered = _usage(pair)
    messages = [
        {"role": m["role"], "parts": [{"type": "text", "content": m.get("content") or ""}]}
        for m in pair["request"]["messages"]
    ]
    said = [{"type": "text", "content": _answer(pair).get("content") or ""}]
    return _span(
        pair,
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": pair["request"]["model"],
            "gen_ai.response.model": pair["response"]["model"],
            "gen_ai.response.id": pair["response"]["id"],
            "gen_ai.usage.input_tokens": asked,
            "gen_ai.usage.output_tokens": answered,
            "gen_ai.input.messages": messages,
            "gen_ai.output.messages": [{"role": "assistant", "parts": said, "finish_reason": "stop"}],
        },
    )


def otlp_openinference(pair: Pair) -> bytes:
    """A span by OpenInference's conventions, as OTLP protobuf."""
    asked, answered = _usage(pair)
    attributes: dict[str, Any] = {"openinference.span.kind": "LLM", "llm.model_name": pair["response"]["model"]}
    for at, message in enumerate(pair["request"]["messages"]):
        attributes[f"llm.input_messages.{at}.message.role"] = message["role"]
        attributes[f"llm.input_messages.{at}.message.content"] = message.get("content") or ""
    attributes["llm.output_messages.0.message.role"] = "assistant"
    attributes["llm.output_messages.0.message.content"] = _answer(pair).get("content") or ""
    return _span(pair, {**attributes, "llm.token_count.prompt": asked, "llm.token_count.completion": answered})


def otlp_openllmetry(pair: Pair) -> bytes:
    """A span by OpenLLMetry's flattened attributes, as OTLP protobuf."""
    attributes: dict[str, Any] = {
        "llm.request.type": "chat",
        "gen_ai.system": "openai",
        "gen_ai.request.model": pair["request"]["model"],
    }
    for at, message in enumerate(pair["request"]["messages"]):
        attributes[f"gen_ai.prompt.{at}.role"] = message["role"]
        attributes[f"gen_ai.prompt.{at}.content"] = message.get("content") or ""
    attributes["gen_ai.completion.0.role"] = "assistant"
    attributes["gen_ai.completion.0.content"] = _answer(pair).get("content") or ""
    attributes["gen_ai.completion.0.finish_reason"] = "stop"
    return _span(pair, attributes)


WIRES: Mapping[str, Callable[[Pair], bytes]] = {
    wired.__name__: wired
    for wired in (
        *(openai_pair, flywheel, chunks, responses, anthropic, bedrock, litellm, langfuse),
        *(otlp_genai, otlp_openinference, otlp_openllmetry),
    )
}
