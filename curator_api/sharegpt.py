"""Rows as ShareGPT shares conversations, with the roles that LLaMA-Factory gave them for tools:
`{"conversations": [{"from": "human", "value": ...}, ...], "tools": ...}`. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.openai_chat import argument_text, pair_of, row_of
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.written import Written
from tunemill.schemas.records import ToolCall

NAME = "sharegpt"
MEMBERS = frozenset({"conversations", "system", "tools", "chosen", "rejected"})
LOSES: Mapping[str, str] = {
    "developer_role": "a developer's message becomes a system's",
    "names": "who a message is from, beyond its role",
    "call_ids": "the ids that tie a tool's answer to its call",
    "arguments_spelling": "spaces and the order of writing in the arguments of a call; their meaning stays",
    "empty_text": "empty text beside a call",
    "text_beside_calls": "text and calls of one message become two turns",
    "several_messages": "left out: the worse answer is several messages, or one of both has text beside calls",
}
_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
_FROM = {"system": "system", "developer": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def to_value(row: Row) -> Written:
    """A row as a line's object; with a worse answer, `chosen` and `rejected` stand beside the conversation."""
    lost: dict[str, None] = {}
    tools: dict[str, object] = {} if row.tools is None else {"tools": row.tools}
    asked = row.messages[:-1] if row.rejected else row.messages
    turns = [turn for message in asked for turn in _turns(message, lost)]
    if not row.rejected:
        return Written({"conversations": turns, **tools}, tuple(lost))
    better, worse = (
        [turn for message in answer for turn in _turns(message, lost)] for answer in (row.messages[-1:], row.rejected)
    )
    if len(better) != 1 or len(worse) != 1:
        return Written(None, ("several_messages",))
    return Written({"conversations": turns, "chosen": better[0], "rejected": worse[0], **tools}, tuple(lost))


def from_value(value: Mapping[str, Any]) -> Row:
    """The row in a line's object.

    Raises:
        InvalidRow: there is none; says what is wrong and names the turn.
    """
    turns = value.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise InvalidRow("`conversations` must be a list with at least one turn")
    messages = tuple(_message(turn, f"conversations[{place}]") for place, turn in enumerate(turns))
    system = value.get("system")
    if system is not None and not isinstance(system, str):
        raise InvalidRow("`system` must be text")
    if system:
        messages = (RowMessage(role="system", content=system), *messages)
    if value.get("chosen") is None:
        return row_of(messages, value.get("tools"))
    better, worse = (_message(value.get(name), name) for name in ("chosen", "rejected"))
    return pair_of(messages, [better], [worse], value.get("tools"))


def _turns(message: RowMessage, lost: dict[str, None]) -> Iterator[dict[str, object]]:
    told = {
        "developer_role": message.role == "developer",
        "names": message.name is not None,
        "call_ids": message.tool_call_id is not None or any(call.id is not None for call in message.tool_calls),
    }
    lost.update(dict.fromkeys(name for name, holds in told.items() if holds))
    if message.tool_calls:
        if message.content and message.content.strip():
            lost["text_beside_calls"] = None
            yield {"from": "gpt", "value": message.content}
        elif message.content is not None:
            lost["empty_text"] = None
        calls = [_call_value(call, lost) for call in message.tool_calls]
        yield {
            "from": "function_call",
            "value": msgspec.json.encode(calls if len(calls) > 1 else calls[0]).decode(),
        }
    else:
        yield {"from": _FROM[message.role], "value": message.content}


def _call_value(call: ToolCall, lost: dict[str, None]) -> dict[str, object]:
    """Arguments as an object, which is how the format is read; what is none stays text."""
    try:
        arguments = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        return {"name": call.name, "arguments": call.arguments}
    if msgspec.json.encode(arguments).decode() != call.arguments:
        lost["arguments_spelling"] = None
    return {"name": call.name, "arguments": arguments}


def _message(turn: Any, where: str) -> RowMessage:
    if not isinstance(turn, dict) or not isinstance(turn.get("from"), str) or turn["from"] not in _ROLES:
        raise InvalidRow(f"{where}.from must be one of {', '.join(_ROLES)}")
    if not isinstance(turn.get("value"), str):
        raise InvalidRow(f"{where}.value must be text")
    role = _ROLES[turn["from"]]
    if turn["from"] != "function_call":
        return RowMessage(role=role, content=turn["value"])
    return RowMessage(role=role, tool_calls=_calls(turn["value"], where))


def _calls(text: str, where: str) -> tuple[ToolCall, ...]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRow(f"{where}.value must be a call as JSON text") from error
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise InvalidRow(f"{where}.value must name a function, and give its arguments")
    return tuple(ToolCall(name=call["name"], arguments=argument_text(call.get("arguments"), where)) for call in calls)
