"""One call in each of the wire shapes that applications send: a tunemill record, an OpenAI pair, a workload record."""

from random import Random
from typing import Any

from ulid import ULID

from tunemill.examples.calls import Call, Json

CHARACTERS_PER_TOKEN = 4  # a rule of thumb; the sample's token counts are worked out, not measured


def record(call: Call, ts_ms: int, rng: Random) -> Json:
    """A tunemill `LogRecord`: the only shape that carries consent and the producer's own id."""
    fields: Json = {
        "log_id": str(ULID.from_bytes(ts_ms.to_bytes(6, "big") + rng.randbytes(10))),
        "ts_ms": ts_ms,
        "app": call.app,
        "model": call.model,
        "provider": "sample",
        "messages": [_flat(message) for message in call.messages],
        "output": [] if call.answer is None else [_flat(call.answer)],
        "tools": list(call.tools) or None,
        "usage": {"input_tokens": _tokens(call.messages), "output_tokens": _answer_tokens(call)},
        "latency_ms": _latency_ms(call, rng),
        "finish_reason": None if call.answer is None else call.finish_reason,
        "status": "ok" if call.error is None else "error",
        "error": call.error,
        "session_id": call.session,
        "user_id": call.user,
        "metadata": call.metadata or None,
        "consent": call.consent,
    }
    return {name: value for name, value in fields.items() if value is not None}


def pair(call: Call, ts_ms: int, rng: Random) -> Json:
    """What a wrapper around OpenAI's client sees: the request, the response, and a little of its own."""
    return {
        "app": call.app,
        "session_id": call.session,
        "user_id": call.user,
        "latency_ms": _latency_ms(call, rng),
        "request": _request(call),
        "response": _response(call, ts_ms, rng),
    }


def workload(call: Call, ts_ms: int, rng: Random) -> Json:
    """`{timestamp, workload_id, client_id, request, response}`; the time is in seconds."""
    return {
        "timestamp": ts_ms // 1000,
        "workload_id": call.app,
        "client_id": call.user,
        "request": _request(call),
        "response": _response(call, ts_ms, rng),
    }


def _request(call: Call) -> Json:
    request: Json = {"model": call.model, "messages": list(call.messages), "temperature": 0.2}
    return request | {"tools": list(call.tools)} if call.tools else request


def _response(call: Call, ts_ms: int, rng: Random) -> Json:
    used, made = _tokens(call.messages), _answer_tokens(call)
    return {
        "id": f"chatcmpl-{rng.randrange(16**12):012x}",
        "object": "chat.completion",
        "created": ts_ms // 1000,
        "model": call.model,
        "choices": [{"index": 0, "message": call.answer, "finish_reason": call.finish_reason}],
        "usage": {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made},
    }


def _flat(message: Json) -> Json:
    """OpenAI's message with its tool calls flattened to `{id, name, arguments}`."""
    if "tool_calls" not in message:
        return message
    calls = [{"id": call["id"], **call["function"]} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _tokens(messages: tuple[Json, ...]) -> int:
    return sum(4 + _text_length(message) // CHARACTERS_PER_TOKEN for message in messages)


def _answer_tokens(call: Call) -> int:
    return 0 if call.answer is None else 1 + _text_length(call.answer) // CHARACTERS_PER_TOKEN


def _text_length(message: Json) -> int:
    called: list[Any] = message.get("tool_calls", [])
    return len(message["content"] or "") + sum(len(call["function"]["arguments"]) for call in called)


def _latency_ms(call: Call, rng: Random) -> float:
    return float(180 + 11 * _answer_tokens(call) + rng.randrange(250))
