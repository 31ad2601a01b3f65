"""Rows in OpenAI's chat format for fine-tuning, one JSON object a line, in and out
(https://platform.openai.com/docs/api-reference/fine-tuning/chat-input). Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.rows import Reason, Row, RowMessage, fault, imported_row, tools_text
from tunemill.schemas.records import ToolCall

MAX_MESSAGES = 1_000
ROLES = ("system", "developer", "user", "assistant", "tool")

_FAULTS = {
    Reason.NO_ANSWER: "the last message must be an assistant's and say something",
    Reason.NOT_TEXT: "every message must have text in `content`, or `tool_calls`",
    Reason.ROLES_OUT_OF_ORDER: (
        "the order must be: system or developer messages if any, then at least one user message before the end, "
        "and tool messages only after an assistant's message with tool_calls"
    ),
}


def to_line(messages: Sequence[RowMessage], tools: str | None) -> bytes:
    """A row as one line, with its line end."""
    row: dict[str, object] = {"messages": [_to_openai(message) for message in messages]}
    if tools is not None:
        row["tools"] = msgspec.Raw(tools.encode())
    return msgspec.json.encode(row) + b"\n"


def from_line(line: bytes) -> Row:
    """The row in a line.

    Raises:
        InvalidRow: there is none; says what is wrong and names the message.
    """
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRow("not JSON") from error
    if not isinstance(value, dict) or "messages" not in value:
        raise InvalidRow('not an object with "messages"')
    if unknown := set(value) - {"messages", "tools", "parallel_tool_calls"}:
        raise InvalidRow(f"{len(unknown)} members beside messages and tools: they cannot be kept")
    messages = checked_messages(value["messages"])
    tools = _checked_tools(value.get("tools"))
    return imported_row(messages, tools)


def checked_messages(value: Any) -> tuple[RowMessage, ...]:
    """Messages that can be trained on, from JSON; tool calls in OpenAI's form or in ours.

    Raises:
        InvalidRow: they cannot; says why and names the message.
    """
    if not isinstance(value, list) or not value:
        raise InvalidRow("`messages` must be a list with at least one message")
    if len(value) > MAX_MESSAGES:
        raise InvalidRow(f"`messages` must be at most {MAX_MESSAGES}")
    messages = tuple(_from_openai(message, f"messages[{place}]") for place, message in enumerate(value))
    if reason := fault(messages):
        raise InvalidRow(_FAULTS[reason])
    return messages


def _to_openai(message: RowMessage) -> dict[str, object]:
    out: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        out["tool_calls"] = [_call_to_openai(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        out["name"] = message.name
    return out


def _call_to_openai(call: ToolCall) -> dict[str, object]:
    out: dict[str, object] = {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return {"id": call.id, **out} if call.id is not None else out


def _from_openai(value: Any, where: str) -> RowMessage:
    if not isinstance(value, dict):
        raise InvalidRow(f"{where} must be an object")
    if value.get("role") not in ROLES:
        raise InvalidRow(f"{where}.role must be one of {', '.join(ROLES)}")
    if value.get("weight", 1) != 1:
        raise InvalidRow(f"{where}.weight: every assistant's message is trained on, so a weight of 0 cannot be kept")
    return RowMessage(
        role=value["role"],
        content=_text(value.get("content"), f"{where}.content"),
        tool_calls=_calls(value.get("tool_calls"), f"{where}.tool_calls"),
        tool_call_id=_string(value, "tool_call_id", where),
        name=_string(value, "name", where),
    )


def _text(content: Any, where: str) -> str | None:
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRow(f"{where} must be text, or a list of parts of type text")
    return "\n".join(text for text in texts if text is not None)


def _calls(value: Any, where: str) -> tuple[ToolCall, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidRow(f"{where} must be a list")
    return tuple(_call(call, f"{where}[{place}]") for place, call in enumerate(value))


def _call(value: Any, where: str) -> ToolCall:
    if not isinstance(value, dict):
        raise InvalidRow(f"{where} must be an object")
    function = value.get("function", value)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRow(f"{where} must name a function")
    if not isinstance(function.get("arguments"), str):
        raise InvalidRow(f"{where}: `arguments` must be JSON text in a string")
    return ToolCall(id=_string(value, "id", where), name=function["name"], arguments=function["arguments"])


def _string(value: Mapping[str, Any], member: str, where: str) -> str | None:
    found = value.get(member)
    if found is not None and not isinstance(found, str):
        raise InvalidRow(f"{where}.{member} must be text")
    return found


def _checked_tools(tools: Any) -> str | None:
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise InvalidRow("`tools` must be a list of objects")
    return tools_text(tools)
