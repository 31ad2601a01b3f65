"""One chat message, in OpenAI's spelling or ours, and what was left over of it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tunemill.schemas.records import Json, Message, ToolCall
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.fields import read_text
from tunemill.streams.formats.shape import JsonObject, left_over

_MESSAGE_FIELDS = frozenset(
    (
        *("role", "content", "parts", "tool_calls", "function_call", "tool_call_id", "name"),
        *("refusal", "reasoning", "reasoning_content"),
    )
)
_CALL_FIELDS = frozenset(("id", "type", "function", "custom", "name", "arguments"))
_NAMED_FIELDS = frozenset(("name", "arguments", "input"))
_USUAL = (None, "function", "tool_call")  # types of a call that say no more than that it is one


def read_messages(values: Any, where: str) -> tuple[tuple[Message, ...], JsonObject]:
    """Messages in order, and what was left over of each by its position.

    Args:
        where: the list's name, for the reason of a rejection.

    Raises:
        Undecodable: it is not a list of messages.
    """
    if not isinstance(values, list):
        raise Undecodable("invalid", f"{where} is not a list")
    messages, rests = [], {}
    for position, value in enumerate(values):
        message, rest = read_message(value, f"{where}[{position}]")
        messages.append(message)
        if rest:
            rests[str(position)] = rest
    return tuple(messages), rests


def read_message(value: Any, where: str) -> tuple[Message, JsonObject]:
    """One message and what no field of it holds.

    Raises:
        Undecodable: it is not an object with a role, or a field has another type than it should.
    """
    if not isinstance(value, dict):
        raise Undecodable("invalid", f"{where} is not an object")
    text, parts, refusal = _read_content(value, where)
    calls, call_rests = _read_tool_calls(value, where)
    role = read_text(value, "role", where)
    if not role:
        raise Undecodable("invalid", f"{where}.role is missing")
    message = Message(
        role="tool" if role == "function" else role,
        content=text,
        parts=parts,
        tool_calls=calls,
        tool_call_id=read_text(value, "tool_call_id", where),
        name=read_text(value, "name", where),
        refusal=read_text(value, "refusal", where) or refusal,
        reasoning=read_text(value, "reasoning", where) or read_text(value, "reasoning_content", where),
    )
    rest = left_over(value, _MESSAGE_FIELDS)
    return message, {**rest, "tool_calls": call_rests} if call_rests else rest


def _read_content(value: JsonObject, where: str) -> tuple[str | None, Any, str | None]:
    """The text, the parts as sent when there are any, and a refusal that came as a part."""
    content, parts = value.get("content"), value.get("parts")
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        refusals = [
            part["refusal"] for part in content if isinstance(part, dict) and isinstance(part.get("refusal"), str)
        ]
        return "\n".join(texts) if texts else None, content, "\n".join(refusals) or None
    if content is not None and not isinstance(content, str):
        raise Undecodable("invalid", f"{where}.content is neither text nor a list of parts")
    return content, parts, None


def _read_tool_calls(value: JsonObject, where: str) -> tuple[tuple[ToolCall, ...], JsonObject]:
    calls = value.get("tool_calls") or []
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise Undecodable("invalid", f"{where}.tool_calls is not a list")
    if value.get("function_call") is not None:  # the older spelling of a single call
        calls = [*calls, value["function_call"]]
    read = [_read_tool_call(call, f"{where}.tool_calls[{position}]") for position, call in enumerate(calls)]
    rests = {str(position): rest for position, (_, rest) in enumerate(read) if rest}
    return tuple(call for call, _ in read), rests


def _read_tool_call(value: Any, where: str) -> tuple[ToolCall, JsonObject]:
    if not isinstance(value, dict):
        raise Undecodable("invalid", f"{where} is not an object")
    named = value.get("function") or value.get("custom") or value
    if not isinstance(named, dict):
        raise Undecodable("invalid", f"{where}.function is not an object")
    name = read_text(named, "name", where)
    if not name:
        raise Undecodable("invalid", f"{where} names no tool")
    arguments = named.get("arguments", named.get("input"))
    call = ToolCall(name=name, arguments=as_json_text(arguments), id=read_text(value, "id", where))
    rest = left_over(value, _CALL_FIELDS)
    if named is not value:
        rest |= left_over(named, _NAMED_FIELDS)
    if value.get("type") not in _USUAL:
        rest["type"] = value["type"]
    return call, rest


def as_json_text(arguments: Any) -> str:
    """The arguments as the model wrote them; some loggers parse them first, so they are written again."""
    if isinstance(arguments, str):
        return arguments
    return "{}" if arguments is None else msgspec.json.encode(arguments).decode()


def as_content(parts: Sequence[JsonObject]) -> tuple[str | None, Json]:
    """A message's `content` and `parts` from its content parts in OpenAI's spelling; one text alone needs no parts."""
    texts = [part["text"] for part in parts if part.get("type") == "text" and isinstance(part.get("text"), str)]
    return "\n".join(texts) if texts else None, None if len(parts) == len(texts) < 2 else list(parts)


def text_part(text: str) -> JsonObject:
    """A content part of text."""
    return {"type": "text", "text": text}


def image_part(url: str, **more: Any) -> JsonObject:
    """A content part of an image, whose URL may hold the image itself (`data:`)."""
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file_part(**file: Any) -> JsonObject:
    """A content part of a file: `file_id` or `file_data`, and `filename`; what is None is left out."""
    return {"type": "file", "file": {name: item for name, item in file.items() if item is not None}}


def data_url(mime_type: str, base64_text: str) -> str:
    """The URL that holds these bytes."""
    return f"data:{mime_type};base64,{base64_text}"


def function_tool(**function: Any) -> JsonObject:
    """The definition of a tool: `name`, `description`, `parameters`; what is None is left out."""
    return {"type": "function", "function": {name: item for name, item in function.items() if item is not None}}
