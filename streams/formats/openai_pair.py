"""`{request, response}` of OpenAI's chat or text completions API, with any `LogRecord` field beside them.

Field names: https://platform.openai.com/docs/api-reference/chat
"""

import re
from collections.abc import Mapping
from typing import Any

from tunemill.schemas.records import LogRecord, Message, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.chat import read_message, read_messages
from tunemill.streams.formats.shape import (
    ENVELOPE_FIELDS,
    Arrival,
    Envelope,
    JsonObject,
    Shape,
    as_extra,
    as_fields,
    left_over,
    read_envelope,
    read_metadata,
)

PAIR_FIELDS = ENVELOPE_FIELDS | {"request", "response", "metadata", "error"}
_REQUEST_FIELDS = frozenset(("messages", "prompt", "model", "tools", "functions", "metadata", "user"))
_RESPONSE_FIELDS = frozenset(("id", "object", "model", "choices", "usage", "error"))
_CHOICE_FIELDS = frozenset(("index", "message", "text", "finish_reason"))
_USAGE_FIELDS = frozenset(
    ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens")
)  # the total is the sum of the two
_ERROR_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}")  # a type or a code; anything longer may be text of the log


def _matches(value: Mapping[str, Any]) -> bool:
    return "request" in value and ("response" in value or "error" in value)


def _read(value: JsonObject, arrival: Arrival) -> LogRecord:
    return read_pair(value, read_envelope(value), arrival, source="openai_pair", used=PAIR_FIELDS)


def read_pair(
    value: JsonObject, envelope: Envelope, arrival: Arrival, *, source: str, used: frozenset[str]
) -> LogRecord:
    """The log in a request and its response.

    Args:
        used: the fields of `value` that the envelope already holds; what is in neither goes to `extra`.

    Raises:
        Undecodable: there is no request with messages, or a field has another type than it should.
    """
    request, response = _object(value, "request"), _object(value, "response")
    messages, message_rests = _read_asked(request)
    output, finish_reason, choice_rests = _read_choices(response)
    usage, usage_rest = _read_usage(response)
    error, error_rest = _read_error(value, response, answered=bool(output))
    model, asked_model = _text(response, "model"), _text(request, "model")
    fields = as_fields(envelope, arrival)
    fields["user_id"] = envelope.user_id or _text(request, "user")
    return LogRecord(
        **fields,
        source=source,
        messages=messages,
        output=output,
        model=model or asked_model,
        operation="text_completion" if "messages" not in request else "chat",
        tools=request.get("tools") or request.get("functions"),
        params=left_over(request, _REQUEST_FIELDS) or None,
        usage=usage,
        finish_reason=finish_reason,
        status="error" if error else "ok",
        error=error,
        response_id=_text(response, "id"),
        metadata=read_metadata(request.get("metadata")) | read_metadata(value.get("metadata")),
        extra=as_extra(
            {
                "record": left_over(value, used),
                "request": {"model": asked_model} if model and asked_model not in (None, model) else None,
                "response": left_over(response, _RESPONSE_FIELDS),
                "messages": message_rests,
                "choices": choice_rests,
                "usage": usage_rest,
                "error": error_rest,
            }
        ),
    )


def _object(value: JsonObject, name: str) -> JsonObject:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Undecodable("invalid", f"{name} is not an object")
    return found


def _read_asked(request: JsonObject) -> tuple[tuple[Message, ...], JsonObject]:
    if "messages" in request:
        return read_messages(request["messages"], "request.messages")
    prompt = request.get("prompt")
    if not isinstance(prompt, str):
        raise Undecodable("invalid", "request has neither messages nor a prompt of text")
    return (Message(role="user", content=prompt),), {}


def _read_choices(response: JsonObject) -> tuple[tuple[Message, ...], str | None, JsonObject]:
    """The answers, why the first one ended, and what was left over of each choice."""
    choices = response.get("choices") or []
    if not isinstance(choices, list):
        raise Undecodable("invalid", "response.choices is not a list")
    answers: list[Message] = []
    reasons: list[str | None] = []
    rests: JsonObject = {}
    for position, choice in enumerate(choices):
        where = f"response.choices[{position}]"
        message, rest = _read_choice(choice, where)
        answers.append(message)
        reasons.append(_text(choice, "finish_reason"))
        rest |= left_over(choice, _CHOICE_FIELDS)
        if position and reasons[position] != reasons[0]:
            rest["finish_reason"] = reasons[position]
        if rest:
            rests[str(position)] = rest
    return tuple(answers), reasons[0] if reasons else None, rests


def _read_choice(choice: Any, where: str) -> tuple[Message, JsonObject]:
    if not isinstance(choice, dict):
        raise Undecodable("invalid", f"{where} is not an object")
    if isinstance(choice.get("text"), str):  # text completions
        return Message(role="assistant", content=choice["text"]), {}
    return read_message(choice.get("message"), f"{where}.message")


def _read_usage(response: JsonObject) -> tuple[Usage, JsonObject]:
    usage = _object(response, "usage")
    return Usage(
        input_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        output_tokens=_count(usage, "completion_tokens", "output_tokens"),
    ), left_over(usage, _USAGE_FIELDS)


def _count(usage: JsonObject, *names: str) -> int | None:
    for name in names:
        found = usage.get(name)
        if isinstance(found, int) and not isinstance(found, bool):
            return found
        if found is not None:
            raise Undecodable("invalid", f"response.usage.{name} is not a whole number")
    return None


def _read_error(value: JsonObject, response: JsonObject, *, answered: bool) -> tuple[str | None, Any]:
    """The error's type or code, and all that was said about it. A call without any answer is an error, too."""
    error = value.get("error") or response.get("error")
    if not error:
        return (None if answered else "no_answer"), None
    names = [error.get("code"), error.get("type")] if isinstance(error, dict) else [error]
    for name in names:
        if isinstance(name, str | int) and _ERROR_NAME.fullmatch(str(name)):
            return str(name), error
    return "unnamed", error


def _text(value: JsonObject, name: str) -> str | None:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise Undecodable("invalid", f"{name} is not text")
    return found


SHAPE = Shape("openai_pair", _matches, _read)
