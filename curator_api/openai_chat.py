"""Rows in OpenAI's formats for fine-tuning: chat, and for pairs of answers preference
(https://platform.openai.com/docs/api-reference/fine-tuning/chat-input). Both hold a row whole. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.rows import Reason, Row, RowMessage, fault, imported_row, tools_text
from tunemill.curator_api.written import Written
from tunemill.schemas.records import ToolCall

NAME = "openai"
MEMBERS = frozenset({"messages", "tools", "input", "preferred_output", "non_preferred_output"})
LOSES: Mapping[str, str] = {}

MAX_MESSAGES = 1_000
ROLES = ("system", "developer", "user", "assistant", "tool")
MESSAGE_MEMBERS = frozenset({"role", "content", "tool_calls", "tool_call_id", "name", "weight"})

_FAULTS = {
    Reason.NO_ANSWER: "the last message must be an assistant's and say something",
    Reason.NOT_TEXT: "every message must have text in `content`, or `tool_calls`",
    Reason.ROLES_OUT_OF_ORDER: (
        "the order must be: system or developer messages if any, then at least one user message before the end, "
        "and tool messages only after an assistant's message with tool_calls"
    ),
}


def to_value(row: Row) -> Written:
    """A row as a line's object."""
    tools: dict[str, object] = {} if row.tools is None else {"tools": msgspec.Raw(row.tools.encode())}
    if not row.rejected:
        return Written({"messages": message_values(row.messages), **tools})
    return Written(
        {
            "input": {"messages": message_values(row.messages[:-1]), **tools},
            "preferred_output": message_values(row.messages[-1:]),
            "non_preferred_output": message_values(row.rejected),
        }
    )


def from_value(value: Mapping[str, Any]) -> Row:
    """The row in a line's object.

    Raises:
        InvalidRow: there is none; says what is wrong and names the message.
    """
    if "preferred_output" not in value:
        return row_of(messages_in(value.get("messages"), "messages"), value.get("tools"))
    asked = value.get("input")
    if not isinstance(asked, dict):
        raise InvalidRow("`input` must be an object with `messages`")
    preferred, other = (messages_in(value.get(name), name) for name in ("preferred_output", "non_preferred_output"))
    return pair_of(messages_in(asked.get("messages"), "input.messages"), preferred, other, asked.get("tools"))


def message_values(messages: Iterable[RowMessage]) -> list[dict[str, object]]:
    """Messages in OpenAI's form."""
    return [_to_openai(message) for message in messages]


def checked_messages(value: Any) -> tuple[RowMessage, ...]:
    """Messages that can be trained on, from JSON; tool calls in OpenAI's form or in ours.

    Raises:
        InvalidRow: they cannot; says why and names the message.
    """
    return row_of(messages_in(value, "messages"), None).messages


def row_of(messages: tuple[RowMessage, ...], tools: Any, rejected: tuple[RowMessage, ...] = ()) -> Row:
    """The row that these messages make.

    Args:
        tools: a list of objects, as JSON or as its text.

    Raises:
        InvalidRow: they cannot be trained on.
    """
    if len(messages) > MAX_MESSAGES:
        raise InvalidRow(f"`messages` must be at most {MAX_MESSAGES}")
    if reason := fault(messages):
        raise InvalidRow(_FAULTS[reason])
    if rejected and (reason := fault((*messages[:-1], *rejected))):
        raise InvalidRow(f"with the worse answer: {_FAULTS[reason]}")
    return imported_row(messages, _checked_tools(tools), rejected)


def pair_of(prompt: Sequence[RowMessage], better: Sequence[RowMessage], worse: Sequence[RowMessage], tools: Any) -> Row:
    """The row of a prompt with a better and a worse answer.

    Raises:
        InvalidRow: it cannot be trained on, or there is nothing to choose.
    """
    if len(better) != 1:
        raise InvalidRow("the better answer must be one message of an assistant")
    if tuple(better) == tuple(worse):
        raise InvalidRow("both answers are the same")
    return row_of((*prompt, *better), tools, tuple(worse))


def messages_in(value: Any, where: str) -> tuple[RowMessage, ...]:
    """Messages from JSON, each read by itself.

    Raises:
        InvalidRow: one cannot be read; names it.
    """
    if not isinstance(value, list) or not value:
        raise InvalidRow(f"`{where}` must be a list with at least one message")
    return tuple(_from_openai(message, f"{where}[{place}]") for place, message in enumerate(value))


def argument_text(value: Any, where: str) -> str:
    """A call's arguments as text: as they are, or an object spelled out.

    Raises:
        InvalidRow: they are neither.
    """
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if not isinstance(value, str):
        raise InvalidRow(f"{where}: `arguments` must be an object, or JSON text in a string")
    return value


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
    if value.get("weight") not in (None, 1):
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
    arguments = argument_text(function.get("arguments"), where)
    return ToolCall(id=_string(value, "id", where), name=function["name"], arguments=arguments)


def _string(value: Mapping[str, Any], member: str, where: str) -> str | None:
    found = value.get(member)
    if found is not None and not isinstance(found, str):
        raise InvalidRow(f"{where}.{member} must be text")
    return found


def _checked_tools(tools: Any) -> str | None:
    if isinstance(tools, str) and tools:
        try:
            tools = msgspec.json.decode(tools)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidRow("`tools` is text that is not JSON") from error
    if tools and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise InvalidRow("`tools` must be a list of objects")
    return tools_text(tools)
