"""A message of a row as JSON text and back: how it lies in a part. Pure.

In a struct, a message that calls no tool would still have `tool_calls`, with null in it, and chat templates ask whether it is there.
As text it has what it says and nothing else; `datasets` and DuckDB read it as JSON.
"""

import re
from typing import Any

import msgspec

from tunemill.curator_api.rows import RowMessage
from tunemill.schemas.records import ToolCall

_LONG_NUMBER = re.compile(r"\d{19}")  # `datasets` reads whole numbers of 64 bits
_MOST_BRACKETS = 500  # and arrays and objects 1,000 deep


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw


class _Call(msgspec.Struct, omit_defaults=True):
    function: _Function
    id: str | None = None
    type: str | None = None


class _Message(msgspec.Struct, omit_defaults=True):
    """As OpenAI writes it, which is what chat templates take; but that arguments are the object that they spell out."""

    role: str
    content: str | None = None
    tool_calls: tuple[_Call, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Message).decode
_decode_plain = msgspec.json.Decoder(RowMessage).decode
_CALLS = '"tool_calls":'  # inside a text the quotes would be escaped


def to_text(message: RowMessage) -> str:
    """A message as JSON: the same message gives the same text."""
    if not message.tool_calls:
        return _encode(message).decode()  # it says the same, and takes half the time
    calls = tuple(
        _Call(id=call.id, type="function", function=_Function(call.name, _arguments(call.arguments)))
        for call in message.tool_calls
    )
    stored = _Message(message.role, message.content, calls, message.tool_call_id, message.name)
    return _encode(stored).decode()


def from_text(text: str) -> RowMessage:
    """The message in a text that `to_text` gave."""
    if _CALLS not in text:
        return _decode_plain(text)
    stored = _decode(text)
    calls = tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=_argument_text(call.function.arguments))
        for call in stored.tool_calls
    )
    return RowMessage(
        role=stored.role,
        content=stored.content,
        tool_calls=calls,
        tool_call_id=stored.tool_call_id,
        name=stored.name,
    )


def spelled(text: str) -> Any:
    """What a message's JSON holds, the arguments of its calls as text, as they were written there: an object does not tell.

    Raises:
        msgspec.DecodeError: it is no JSON.
    """
    held = msgspec.json.decode(text)
    if _CALLS in text and isinstance(held, dict) and held.get("tool_calls"):  # else they are inside of something else
        try:
            written = [_argument_text(call.function.arguments) for call in _decode(text).tool_calls]
        except msgspec.ValidationError:  # it is of somebody else's shape
            return held
        for call, arguments in zip(held["tool_calls"], written, strict=True):
            call["function"]["arguments"] = arguments
    return held


def _arguments(text: str) -> msgspec.Raw:
    """The object that arguments are, exactly as it was written. What is no object stays text, and so does what others could
    not read."""
    try:
        is_object = isinstance(msgspec.json.decode(text), dict) and text[0] == "{" and text[-1] == "}"
    except (msgspec.DecodeError, RecursionError):
        is_object = False
    if is_object and not _LONG_NUMBER.search(text) and text.count("{") + text.count("[") < _MOST_BRACKETS:
        return msgspec.Raw(text.encode())
    return msgspec.Raw(_encode(text))


def _argument_text(value: msgspec.Raw) -> str:
    written = bytes(value).decode()
    return written if written.startswith("{") else msgspec.json.decode(value, type=str)
