"""`{request, response}` of OpenAI's chat or text completions API, with any `LogRecord` field beside them.

Field names: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Mapping
from typing import Any

from tunemill.schemas.records import LogRecord, Message, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.chat import read_message, read_messages
from tunemill.streams.formats.fields import read_count, read_list, read_object, read_text
from tunemill.streams.formats.pair import Half, join
from tunemill.streams.formats.shape import Arrival, Envelope, JsonObject, Shape, left_over, read_envelope, read_metadata

_REQUEST_FIELDS = frozenset(("messages", "prompt", "model", "tools", "functions", "metadata", "user"))
_RESPONSE_FIELDS = frozenset(("id", "object", "model", "choices", "usage", "error"))
_CHOICE_FIELDS = frozenset(("index", "message", "text", "finish_reason"))
_USAGE_FIELDS = frozenset(
    ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens")
)  # the total is the sum of the two


def _matches(value: Mapping[str, Any]) -> bool:
    return "request" in value and ("response" in value or "error" in value)


def _read(value: JsonObject, arrival: Arrival) -> LogRecord:
    return read_pair(value, read_envelope(value), arrival, source="openai_pair", beside=value)


def read_pair(
    value: JsonObject, envelope: Envelope, arrival: Arrival, *, source: str, beside: Mapping[str, Any]
) -> LogRecord:
    """The log in a request and its response.

    Args:
        beside: the fields of `value` that this shape does not read itself.

    Raises:
        Undecodable: there is no request with messages, or a field has another type than it should.
    """
    asked, answered = read_request(read_object(value, "request")), read_response(read_object(value, "response"))
    return join(asked, answered, envelope=envelope, arrival=arrival, source=source, beside=beside)


def read_request(request: JsonObject) -> Half:
    """What a request says: its messages, or its prompt.

    Raises:
        Undecodable: it has neither, or a field has another type than it should.
    """
    messages, rests = _read_asked(request)
    return Half(
        {
            "messages": messages,
            "operation": "chat" if "messages" in request else "text_completion",
            "model": read_text(request, "model", "request"),
            "tools": request.get("tools") or request.get("functions"),
            "params": left_over(request, _REQUEST_FIELDS) or None,
            "user_id": read_text(request, "user", "request"),
            "metadata": read_metadata(request.get("metadata")),
        },
        {"messages": rests},
    )


def read_response(response: JsonObject) -> Half:
    """What a response says: each of its choices is a message.

    Raises:
        Undecodable: a field has another type than it should.
    """
    output, finish_reason, choice_rests = _read_choices(response)
    usage, usage_rest = read_usage(read_object(response, "usage", "response"))
    return Half(
        {
            "output": output,
            "model": read_text(response, "model", "response"),
            "usage": usage,
            "finish_reason": finish_reason,
            "response_id": read_text(response, "id", "response"),
        },
        {"response": left_over(response, _RESPONSE_FIELDS), "choices": choice_rests, "usage": usage_rest},
        response.get("error"),
    )


def read_usage(usage: JsonObject) -> tuple[Usage, JsonObject]:
    """The tokens of a call, in the spelling of any of OpenAI's APIs, and what else it says about them.

    Raises:
        Undecodable: a number of tokens is no whole number.
    """
    return Usage(
        input_tokens=read_count(usage, "prompt_tokens", "input_tokens", where="usage"),
        output_tokens=read_count(usage, "completion_tokens", "output_tokens", where="usage"),
    ), left_over(usage, _USAGE_FIELDS)


def _read_asked(request: JsonObject) -> tuple[tuple[Message, ...], JsonObject]:
    if "messages" in request:
        return read_messages(request["messages"], "request.messages")
    prompt = request.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Undecodable("invalid", "request has neither messages nor a prompt of text")
    return (Message(role="user", content=prompt),), {}


def _read_choices(response: JsonObject) -> tuple[tuple[Message, ...], str | None, JsonObject]:
    """The answers, why the first one ended, and what was left over of each choice."""
    answers: list[Message] = []
    reasons: list[str | None] = []
    rests: JsonObject = {}
    for position, choice in enumerate(read_list(response, "choices", "response")):
        where = f"response.choices[{position}]"
        message, rest = _read_choice(choice, where)
        answers.append(message)
        reasons.append(read_text(choice, "finish_reason", where))
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
    message = choice.get("message")
    if isinstance(message, dict) and message.get("role") is None:  # some servers take it for granted
        message = {**message, "role": "assistant"}
    return read_message(message, f"{where}.message")


SHAPE = Shape("openai_pair", _matches, _read, "Request and response of OpenAI's chat or text completions")
