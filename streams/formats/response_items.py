"""Items of OpenAI's Responses API, of a request's input or a response's output, as chat messages."""

from typing import Any

import msgspec

from tunemill.schemas.records import Json, Message, ToolCall
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.chat import as_content, as_json_text, file_part, image_part, text_part
from tunemill.streams.formats.fields import read_list, read_text
from tunemill.streams.formats.shape import JsonObject, left_over

_ITEM_FIELDS = frozenset(
    ("type", "id", "status", "role", "content", "summary", "name", "input", "arguments", "call_id", "output")
)
_PART_FIELDS = frozenset(("type", "text", "refusal"))
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_RESULTS = ("function_call_output", "custom_tool_call_output")


def read_items(value: Any, role: str, where: str, *, is_output: bool = False) -> tuple[tuple[Message, ...], JsonObject]:
    """The messages in a text or a list of items, and what was left over of each item by its position.

    Args:
        role: whose words a text is.
        is_output: the model's own items, among which a tool's result is no message.

    Raises:
        Undecodable: it is neither, or a field has another type than it should.
    """
    if value is None:
        return (), {}
    if isinstance(value, str):
        return (Message(role=role, content=value),), {}
    if not isinstance(value, list):
        raise Undecodable("invalid", f"{where} is neither text nor a list")
    transcript = _Transcript(is_output=is_output)
    rests = {}
    for position, item in enumerate(value):
        place = f"{where}[{position}]"
        if not isinstance(item, dict):
            raise Undecodable("invalid", f"{place} is not an object")
        if rest := transcript.add(item, place):
            rests[str(position)] = rest
    transcript.end_turn()
    return tuple(transcript.messages), rests


class _Transcript:
    """Items one by one -> messages. A model's items in a row are one message: its reasoning, then one text, then calls."""

    def __init__(self, *, is_output: bool) -> None:
        self.messages: list[Message] = []
        self._is_output = is_output
        self._reasoning: list[str] = []
        self._answer: Message | None = None
        self._calls: list[ToolCall] = []

    def add(self, item: JsonObject, where: str) -> JsonObject:
        """Take one item in; what no message holds is given back."""
        kind = read_text(item, "type", where) or "message"
        rest = left_over(item, _ITEM_FIELDS)
        if kind == "message":
            return {**rest, **self._add_message(item, where)}
        if kind == "reasoning":
            self._begin_answer()
            self._reasoning += _reasoning(item, where)
            return rest
        if kind in _CALLS:
            self._calls.append(_read_call(item, _CALLS[kind], where))
            return rest
        if kind in _RESULTS and not self._is_output:
            return {**rest, **self._add_result(item, where)}
        return item  # a built-in tool's call, or a mention of an item that the server keeps

    def end_turn(self) -> None:
        """Make one message of what the model said since the turn began."""
        if self._answer is None and not self._calls and not self._reasoning:
            return
        self.messages.append(
            msgspec.structs.replace(
                self._answer or Message(role="assistant"),
                tool_calls=tuple(self._calls),
                reasoning="\n".join(self._reasoning) or None,
            )
        )
        self._reasoning, self._answer, self._calls = [], None, []

    def _begin_answer(self) -> None:
        """End the turn if the model has said or called something in it already."""
        if self._answer is not None or self._calls:
            self.end_turn()

    def _add_message(self, item: JsonObject, where: str) -> JsonObject:
        role = read_text(item, "role", where)
        if not role:
            raise Undecodable("invalid", f"{where}.role is missing")
        content, parts, refusal, rest = _read_content(item.get("content"), where)
        message = Message(role=role, content=content, parts=parts, refusal=refusal)
        if role == "assistant":
            self._begin_answer()
            self._answer = message
        else:
            self.end_turn()
            self.messages.append(message)
        return {"content": rest} if rest else {}

    def _add_result(self, item: JsonObject, where: str) -> JsonObject:
        output = item.get("output")
        told = output if output is None or isinstance(output, str | list) else as_json_text(output)
        content, parts, _, rest = _read_content(told, where)
        self.end_turn()
        call_id = read_text(item, "call_id", where)
        self.messages.append(Message(role="tool", content=content, parts=parts, tool_call_id=call_id))
        return {"content": rest} if rest else {}


def _read_call(item: JsonObject, arguments: str, where: str) -> ToolCall:
    name = read_text(item, "name", where)
    if not name:
        raise Undecodable("invalid", f"{where} names no tool")
    call_id = read_text(item, "call_id", where) or read_text(item, "id", where)
    return ToolCall(name=name, arguments=as_json_text(item.get(arguments)), id=call_id)


def _read_content(value: Any, where: str) -> tuple[str | None, Json, str | None, JsonObject]:
    """The text, the parts, a refusal, and what is left over of each part."""
    if value is None or isinstance(value, str):
        return value, None, None, {}
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise Undecodable("invalid", f"{where}.content is neither text nor a list of parts")
    refusals = [part["refusal"] for part in value if isinstance(part.get("refusal"), str)]
    content, parts = as_content([_read_part(part) for part in value if part.get("type") != "refusal"])
    rests = {
        str(position): rest
        for position, part in enumerate(value)
        if isinstance(part.get("text"), str) and (rest := left_over(part, _PART_FIELDS))
    }
    return content, parts, "\n".join(refusals) or None, rests


def _read_part(part: JsonObject) -> JsonObject:
    """A content part in the chat API's spelling, or as sent when that has none for it."""
    kind, text, url = part.get("type"), part.get("text"), part.get("image_url")
    if isinstance(text, str):
        return text_part(text)
    if kind == "input_image" and isinstance(url, str):
        return image_part(url, **{name: part[name] for name in ("detail",) if part.get(name) is not None})
    if kind == "input_file" and "file_url" not in part:
        return file_part(**{name: part.get(name) for name in ("filename", "file_data", "file_id")})
    return part


def _reasoning(item: JsonObject, where: str) -> list[str]:
    """The summary, or else the reasoning itself."""
    for name in ("summary", "content"):
        parts = read_list(item, name, where)
        texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
        if texts:
            return texts
    return []
