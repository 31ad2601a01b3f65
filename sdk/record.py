"""Named fields -> LogRecord, with messages in our spelling or OpenAI's. All values are plain data: dicts, lists and scalars."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage

_FIELDS = frozenset(LogRecord.__struct_fields__)
_MESSAGE_FIELDS = frozenset({*Message.__struct_fields__, "function_call", "reasoning_content"})
_OF_CLIENT = frozenset({"parsed"})  # what openai's `parse` makes of the content


def record(fields: Mapping[str, Any]) -> LogRecord:
    """A record of these fields; those that LogRecord does not have are kept in `extra`.

    Raises:
        TypeError, ValueError, AttributeError, LookupError: `messages` is missing, or a field is not of its shape.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    extra = {**given.pop("extra", {}), **_extra(given)}
    read = {name: _READERS.get(name, _as_given)(value) for name, value in given.items() if name in _FIELDS}
    return LogRecord(**read, extra=extra or None)


def message(given: Mapping[str, Any]) -> Message:
    """One chat message, with content as text or as a list of parts."""
    content: Any = given.get("content")
    parts, refusal = given.get("parts"), given.get("refusal")
    if isinstance(content, list):
        content, parts, refusal = _joined(content, "text"), content, refusal or _joined(content, "refusal")
    role = given["role"]
    return Message(
        role="tool" if role == "function" else role,
        content=content,
        parts=parts,
        tool_calls=tuple([_tool_call(call) for call in _calls(given)]),
        tool_call_id=given.get("tool_call_id"),
        name=given.get("name"),
        refusal=refusal,
        reasoning=given.get("reasoning") or given.get("reasoning_content"),
    )


def _as_given(value: Any) -> Any:
    return value


def _messages(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    return tuple([message(item) for item in value])


def _output(value: Any) -> tuple[Message, ...]:
    """The answer: its text, its message, or one message per choice."""
    if isinstance(value, str):
        return (Message(role="assistant", content=value),)
    return tuple([message(item) for item in value]) if isinstance(value, list) else (message(value),)


def _usage(given: Mapping[str, Any]) -> Usage:
    return Usage(
        input_tokens=given.get("input_tokens", given.get("prompt_tokens")),
        output_tokens=given.get("output_tokens", given.get("completion_tokens")),
    )


def _tags(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


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


def _joined(parts: list[Any], name: str) -> str | None:
    texts = [part[name] for part in parts if isinstance(part, dict) and isinstance(part.get(name), str)]
    return "\n".join(texts) if texts else None


def _extra(given: Mapping[str, Any]) -> dict[str, Any]:
    """What no field holds: unknown fields, and the parts of messages that Message has no place for."""
    extra = {name: value for name, value in given.items() if name not in _FIELDS}
    for name in ("messages", "output"):
        rest = _unmapped(given.get(name))
        if rest:
            extra[name] = rest
    return extra


def _unmapped(messages: Any) -> dict[str, Any]:
    """By position, the fields of each message that Message does not have."""
    rest: dict[str, Any] = {}
    for position, given in enumerate(messages if isinstance(messages, list) else [messages]):
        if isinstance(given, dict) and not given.keys() <= _MESSAGE_FIELDS:
            left = {
                key: value
                for key, value in given.items()
                if key not in _MESSAGE_FIELDS and key not in _OF_CLIENT and value is not None
            }
            if left:
                rest[str(position)] = left
    return rest


_READERS: Mapping[str, Any] = {
    "messages": _messages,
    "output": _output,
    "usage": _usage,
    "metadata": _metadata,
    "tags": _tags,
    # Applications number their conversations and users.
    "session_id": str,
    "user_id": str,
    "trace_id": str,
}
