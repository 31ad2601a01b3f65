"""What an application hands over -> LogRecord: named fields, with messages in the shape of OpenAI's chat API."""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.schemas.ids import new_id
from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.sdk.plain import plain

_FIELDS = frozenset(LogRecord.__struct_fields__)
_MESSAGE_FIELDS = frozenset({*Message.__struct_fields__, "function_call", "reasoning_content"}) - {"parts"}


def record(fields: Mapping[str, Any]) -> LogRecord:
    """A record of these fields; those that LogRecord does not have are kept in `extra`.

    Raises:
        TypeError, ValueError, AttributeError: `messages` is missing, or a field is not of its shape.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    extra = {**plain(given.pop("extra", {})), **_extra(given)}
    read = {name: _READERS.get(name, _as_given)(value) for name, value in given.items() if name in _FIELDS}
    read.setdefault("log_id", new_id())
    read.setdefault("ts_ms", int(time.time() * 1000))
    return LogRecord(**read, extra=extra or None)


def message(value: Any) -> Message:
    """One chat message: a Message, a dict in OpenAI's shape or OpenAI's own object."""
    if isinstance(value, Message):
        return value
    given = plain(value)
    content = given.get("content")
    as_parts = isinstance(content, list)
    return Message(
        role=given["role"],
        content=_text(content) if as_parts else content,
        parts=content if as_parts else None,
        tool_calls=tuple(_tool_call(call) for call in _calls(given)),
        tool_call_id=given.get("tool_call_id"),
        name=given.get("name"),
        refusal=given.get("refusal"),
        reasoning=given.get("reasoning") or given.get("reasoning_content"),
    )


def _as_given(value: Any) -> Any:
    return value


def _messages(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    return tuple(message(item) for item in value)


def _output(value: Any) -> tuple[Message, ...]:
    """The answer: its text, its message, or one message per choice."""
    if isinstance(value, str):
        return (Message(role="assistant", content=value),)
    if isinstance(value, list | tuple):
        return tuple(message(item) for item in value)
    return (message(value),)


def _usage(value: Any) -> Usage:
    if isinstance(value, Usage):
        return value
    given = plain(value)
    return Usage(
        input_tokens=given.get("input_tokens", given.get("prompt_tokens")),
        output_tokens=given.get("output_tokens", given.get("completion_tokens")),
    )


def _metadata(value: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(item) for key, item in value.items()}


def _calls(given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tool calls, in today's shape or as the one function call of OpenAI's first version."""
    legacy = given.get("function_call")
    return [*(given.get("tool_calls") or ()), *([legacy] if legacy else ())]


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    """A call of a function, or of a custom tool whose input is free text."""
    what = call.get("function") or call.get("custom") or call
    arguments = what.get("arguments", what.get("input", ""))
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCall(name=what["name"], arguments=arguments, id=call.get("id"))


def _text(parts: list[Any]) -> str | None:
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts) if texts else None


def _extra(given: Mapping[str, Any]) -> dict[str, Any]:
    """What no field holds: unknown fields, and the parts of messages that Message has no place for."""
    extra = {name: plain(value) for name, value in given.items() if name not in _FIELDS}
    for name in ("messages", "output"):
        rest = _unmapped(given.get(name))
        if rest:
            extra[name] = rest
    return extra


def _unmapped(messages: Any) -> dict[str, Any]:
    """By position, the fields of each message that Message does not have."""
    listed = messages if isinstance(messages, list | tuple) else [messages]
    rest: dict[str, Any] = {}
    for position, item in enumerate(listed):
        given = plain(item) if not isinstance(item, Message) else None
        if isinstance(given, dict):
            left = {key: value for key, value in given.items() if key not in _MESSAGE_FIELDS and value is not None}
            if left:
                rest[str(position)] = left
    return rest


_READERS: Mapping[str, Any] = {
    "messages": _messages,
    "output": _output,
    "usage": _usage,
    "metadata": _metadata,
    "tags": tuple,
    "tools": plain,
    "params": plain,
}
