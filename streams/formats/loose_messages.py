"""Messages from a source that spells them freely: nothing is rejected, and what is no message is the text of one."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunemill.schemas.records import Message
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.chat import read_message
from tunemill.streams.formats.json_text import as_text
from tunemill.streams.formats.shape import JsonObject


def read_loose_messages(values: Sequence[JsonObject], role: str) -> tuple[tuple[Message, ...], JsonObject]:
    """Each of these objects as a message, and what was left over of each by its position.

    Args:
        role: of the messages that name none.
    """
    messages, rests = [], {}
    for position, value in enumerate(values):
        try:
            message, rest = read_message(_spelled(value, role), f"messages[{position}]")
        except Undecodable:
            message, rest = Message(role=role, content=as_text(value)), {}
        messages.append(message)
        if rest:
            rests[str(position)] = rest
    return tuple(messages), rests


def _spelled(value: Mapping[str, Any], role: str) -> JsonObject:
    """A message in OpenAI's spelling; LangChain's has a role of None, content that is an object, and `args` for arguments."""
    content, calls = value.get("content"), value.get("tool_calls")
    spelled = {**value, "role": value.get("role") or role}
    if content is not None and not isinstance(content, str | list):
        spelled["content"] = as_text(content)
    if isinstance(calls, list):
        spelled["tool_calls"] = [_spelled_call(call) if isinstance(call, dict) else call for call in calls]
    return spelled


def _spelled_call(call: JsonObject) -> JsonObject:
    if "args" not in call or "function" in call:
        return call
    return {"arguments": call["args"], **{name: item for name, item in call.items() if name != "args"}}
