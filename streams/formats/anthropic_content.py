"""Messages and content blocks of Anthropic's Messages API as chat messages."""

from typing import Any

from tunemill.schemas.records import Message, ToolCall
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.chat import as_content, as_json_text, data_url, file_part, image_part, text_part
from tunemill.streams.formats.fields import read_object, read_text
from tunemill.streams.formats.shape import JsonObject, left_over

_USED = {  # of each type of block, what a message holds of it
    "text": frozenset(("type", "text")),
    "image": frozenset(("type", "source")),
    "document": frozenset(("type", "source")),
    "thinking": frozenset(("type", "thinking")),
    "tool_use": frozenset(("type", "id", "name", "input")),
    "tool_result": frozenset(("type", "tool_use_id", "content")),
}
_SOURCE_FIELDS = frozenset(("type", "media_type", "data", "url", "file_id"))
_KEPT = frozenset(("search_result", "image_url", "input_audio", "file"))  # content that stays as it was sent


def read_system(value: Any, where: str) -> tuple[tuple[Message, ...], JsonObject]:
    """The system message, from a text or from blocks, and what is left over of each block.

    Raises:
        Undecodable: it is neither.
    """
    message, rests = read_turn(value, "system", where)
    return (() if message is None else (message,)), rests


def read_messages(values: list[Any], where: str) -> tuple[tuple[Message, ...], JsonObject]:
    """Messages in order, and what is left over of each by its position. A tool's result becomes a message of its own.

    Raises:
        Undecodable: one is no message, or a field has another type than it should.
    """
    messages: list[Message] = []
    rests: JsonObject = {}
    for position, value in enumerate(values):
        place = f"{where}[{position}]"
        if not isinstance(value, dict):
            raise Undecodable("invalid", f"{place} is not an object")
        role = read_text(value, "role", place)
        if not role:
            raise Undecodable("invalid", f"{place}.role is missing")
        made, block_rests = _read_message(value.get("content"), role, f"{place}.content")
        messages += made
        rest = left_over(value, frozenset(("role", "content")))
        if block_rests:
            rest["content"] = block_rests
        if rest:
            rests[str(position)] = rest
    return tuple(messages), rests


def read_turn(value: Any, role: str, where: str) -> tuple[Message | None, JsonObject]:
    """One message from a text or from blocks among which are no tools' results; none from nothing.

    Raises:
        Undecodable: it is neither, or a field has another type than it should.
    """
    if value is None or isinstance(value, str):
        return (Message(role=role, content=value) if value else None), {}
    turn = _Turn(role)
    rests = _by_position(turn, _blocks(value, where), where)
    return turn.message(), rests


def _read_message(value: Any, role: str, where: str) -> tuple[list[Message], JsonObject]:
    if value is None or isinstance(value, str):
        return [Message(role=role, content=value)], {}
    messages: list[Message] = []
    rests: JsonObject = {}
    turn = _Turn(role)
    for position, block in enumerate(_blocks(value, where)):
        place = f"{where}[{position}]"
        if block.get("type") == "tool_result":
            messages += _listed(turn.message())
            turn = _Turn(role)
            result, rest = _read_result(block, place)
            messages.append(result)
        else:
            rest = turn.add(block, place)
        if rest:
            rests[str(position)] = rest
    messages += _listed(turn.message())
    return messages or [Message(role=role)], rests


def _listed(message: Message | None) -> list[Message]:
    return [] if message is None else [message]


def _by_position(turn: "_Turn", blocks: list[JsonObject], where: str) -> JsonObject:
    rests = ((position, turn.add(block, f"{where}[{position}]")) for position, block in enumerate(blocks))
    return {str(position): rest for position, rest in rests if rest}


def _blocks(value: Any, where: str) -> list[JsonObject]:
    if not isinstance(value, list) or not all(isinstance(block, dict) for block in value):
        raise Undecodable("invalid", f"{where} is neither text nor a list of blocks")
    return value


class _Turn:
    """Blocks one by one -> one message."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._parts: list[JsonObject] = []
        self._calls: list[ToolCall] = []
        self._reasoning: list[str] = []

    def add(self, block: JsonObject, where: str) -> JsonObject:
        """Take one block in; what the message does not hold of it is given back."""
        kind = read_text(block, "type", where) or "text"
        rest = left_over(block, _USED.get(kind, frozenset()))
        if kind == "tool_use":
            self._calls.append(_read_call(block, where))
        elif kind == "thinking":
            self._reasoning.append(read_text(block, "thinking", where) or "")
        elif (part := _read_part(block, kind, where)) is not None:
            self._parts.append(part)
            return {} if part is block else rest | _source_rest(block, where)
        return rest  # hidden reasoning, a tool that Anthropic runs: all of it

    def message(self) -> Message | None:
        """What the blocks so far say."""
        if not self._parts and not self._calls and not self._reasoning:
            return None
        content, parts = as_content(self._parts)
        return Message(
            role=self._role,
            content=content,
            parts=parts,
            tool_calls=tuple(self._calls),
            reasoning="\n".join(self._reasoning) or None,
        )


def _read_call(block: JsonObject, where: str) -> ToolCall:
    name = read_text(block, "name", where)
    if not name:
        raise Undecodable("invalid", f"{where} names no tool")
    return ToolCall(name=name, arguments=as_json_text(block.get("input")) or "{}", id=read_text(block, "id", where))


def _read_result(block: JsonObject, where: str) -> tuple[Message, JsonObject]:
    content, rests = read_turn(block.get("content"), "tool", f"{where}.content")
    rest = left_over(block, _USED["tool_result"])
    if rests:
        rest["content"] = rests
    return Message(
        role="tool",
        content=content.content if content else None,
        parts=content.parts if content else None,
        tool_call_id=read_text(block, "tool_use_id", where),
    ), rest


def _read_part(block: JsonObject, kind: str, where: str) -> JsonObject | None:
    """A content part in OpenAI's spelling, or as sent when that has none for it; None for what is no content."""
    if kind == "text":
        return text_part(read_text(block, "text", where) or "")
    if kind in ("image", "document"):
        return _read_source(block, kind, where) or block
    return block if kind in _KEPT else None


def _source_rest(block: JsonObject, where: str) -> JsonObject:
    rest = left_over(read_object(block, "source", where), _SOURCE_FIELDS)
    return {"source": rest} if rest else {}


def _read_source(block: JsonObject, kind: str, where: str) -> JsonObject | None:
    source = read_object(block, "source", where)
    media_type, data = read_text(source, "media_type", where), read_text(source, "data", where)
    if kind == "document" and source.get("type") == "text" and data is not None:
        return text_part(data)
    if source.get("type") == "base64" and media_type and data is not None:
        url = data_url(media_type, data)
        return image_part(url) if kind == "image" else file_part(filename=block.get("title"), file_data=url)
    if kind == "image" and isinstance(source.get("url"), str):
        return image_part(source["url"])
    if isinstance(source.get("file_id"), str):
        return file_part(filename=block.get("title"), file_id=source["file_id"])
    return None
