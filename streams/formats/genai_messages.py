"""Messages as OpenTelemetry's GenAI conventions spell them: today's lists of parts, and the events of one message each before.

Parts: https://github.com/open-telemetry/semantic-conventions/blob/main/docs/gen-ai/gen-ai-input-messages.json
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunemill.schemas.records import Message, ToolCall
from tunemill.streams.formats.chat import (
    as_content,
    as_json_text,
    data_url,
    file_part,
    function_tool,
    image_part,
    text_part,
)
from tunemill.streams.formats.ending import finish_reason
from tunemill.streams.formats.json_text import as_text, read_json
from tunemill.streams.formats.loose_messages import read_loose_messages
from tunemill.streams.formats.shape import JsonObject, as_extra, left_over

_MESSAGE_FIELDS = frozenset(("role", "parts", "name", "finish_reason"))
_PART_FIELDS = {
    "text": frozenset(("type", "content", "text")),
    "reasoning": frozenset(("type", "content")),
    "thinking": frozenset(("type", "content")),
    "refusal": frozenset(("type", "content")),
    "tool_call": frozenset(("type", "id", "name", "arguments")),
    "tool_call_response": frozenset(("type", "id", "response", "result")),
    "blob": frozenset(("type", "modality", "mime_type", "content")),
    "uri": frozenset(("type", "modality", "mime_type", "uri")),
    "file": frozenset(("type", "modality", "mime_type", "file_id")),
}  # those that the message holds when it holds the part
_ROLES = {"model": "assistant", "function": "tool"}
_AUDIO = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}  # OpenAI's words for formats
_NOT_OF_THE_MESSAGE = frozenset(("gen_ai.system", "gen_ai.provider.name", "event.name"))  # on the events of one message


class Answers(NamedTuple):
    """What a model answered."""

    messages: tuple[Message, ...]  # one for each choice
    finish_reason: str | None  # of the first
    rests: JsonObject  # of each choice, by its number


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that was told alone."""

    index: int
    message: Message
    finish_reason: str | None
    rest: JsonObject


def read_instructions(value: Any) -> tuple[tuple[Message, ...], JsonObject]:
    """The system message in `gen_ai.system_instructions`, none when it is empty, and what was left over of its parts.

    Args:
        value: parts, text, or JSON of parts.
    """
    found = read_json(value)
    if found in (None, "", [], {}):
        return (), {}
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        return (Message(role="system", content=as_text(value)),), {}
    told = _Parts(found)
    content, parts = as_content(told.content)
    return (Message(role="system", content=content, parts=parts),), told.rests


def read_messages(value: Any) -> tuple[tuple[Message, ...], JsonObject]:
    """The messages in `gen_ai.input.messages`, a list or its JSON, and what was left over of each by its position.

    Nothing is rejected: what is no list of messages, as JSON that was cut, is the text of one.
    """
    found = read_json(value)
    if found in (None, "", [], {}):
        return (), {}
    messages: list[Message] = []
    rests: JsonObject = {}
    for item in found if isinstance(found, list) else [found]:
        read, rest = _read_asked(item)
        if rest:
            rests[str(len(messages))] = rest
        messages += read
    return tuple(messages), rests


def read_answers(value: Any) -> Answers:
    """The answers in `gen_ai.output.messages`, a list or its JSON. Nothing is rejected."""
    found = read_json(value)
    if found in (None, "", [], {}):
        return Answers((), None, {})
    items = found if isinstance(found, list) else [found]
    messages: list[Message] = []
    rests: JsonObject = {}
    reasons = [finish_reason(_text(item, "finish_reason")) for item in items]
    for place, item in enumerate(items):
        message, rest = _read_answered(item)
        if reasons[place] not in (None, reasons[0]):
            rest = {**rest, "finish_reason": reasons[place]}
        messages.append(message)
        if rest:
            rests[str(place)] = rest
    return Answers(tuple(messages), reasons[0], rests)


def read_tools(value: Any) -> list[Any] | None:
    """The definitions in `gen_ai.tool.definitions`, a list or its JSON; functions in the spelling of OpenAI's chat API."""
    found = read_json(value)
    if not isinstance(found, list):
        return None if found in (None, "", {}) else [found]
    return [_tool(read_json(item)) for item in found] or None


def event_data(body: Any, attributes: Mapping[str, Any]) -> JsonObject:
    """What an event of one message says. A log record has it in its body; an event of a span, which can hold text only,
    in its attributes or as JSON in one of them.
    """
    told = body if body is not None else attributes.get("gen_ai.event.content")
    found = read_json(told)
    if isinstance(found, dict):
        return found
    if found is not None:
        return {"content": found if isinstance(found, list) else as_text(found)}
    flat = {name: value for name, value in attributes.items() if name not in _NOT_OF_THE_MESSAGE}
    return {
        name: _list_of_objects(value) if name in ("content", "message", "tool_calls") else value
        for name, value in flat.items()
    }


def read_event_message(role: str, data: JsonObject) -> tuple[Message, JsonObject]:
    """The message of a `gen_ai.<role>.message` event, and what was left over of it."""
    spelled = dict(data)
    if role == "tool" and "tool_call_id" not in spelled:
        spelled["tool_call_id"] = spelled.pop("id", None)
    return _loose(spelled, role)


def read_choice(data: JsonObject) -> Choice:
    """The answer of a `gen_ai.choice` event."""
    index, told = data.get("index"), data.get("message")
    rest = left_over(data, frozenset(("index", "message", "finish_reason", "tool_calls")))
    if told is None:
        spelled, rest = {name: item for name, item in data.items() if name not in ("index", "finish_reason")}, {}
    else:
        spelled = told if isinstance(told, dict) else {"content": told}
    if data.get("tool_calls") and not spelled.get("tool_calls"):
        spelled = {**spelled, "tool_calls": data["tool_calls"]}
    message, left = _loose(spelled, "assistant")
    return Choice(
        index if isinstance(index, int) and 0 <= index < 2**31 else 0,
        message,
        finish_reason(_text(data, "finish_reason")),
        {**rest, **left},
    )


class _Parts:
    """The parts of one message, sorted by what becomes of them."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.content: list[JsonObject] = []  # in OpenAI's spelling where it has a word for it
        self.calls: list[ToolCall] = []
        self.results: list[Message] = []
        self.thoughts: list[str] = []
        self.refusals: list[str] = []
        self.rests: JsonObject = {}
        for place, part in enumerate(parts):
            self._sort(str(place), part if isinstance(part, dict) else text_part(as_text(part)))

    def _sort(self, place: str, part: JsonObject) -> None:
        kind, text = part.get("type"), part.get("content")
        if kind == "text" and isinstance(text, str) and len(part) == 2:  # nearly all are like this
            self.content.append(text_part(text))
            return
        text, name = _text(part, "content"), _text(part, "name")
        if kind in ("reasoning", "thinking") and text is not None:
            self.thoughts.append(_thought(text))
        elif kind == "refusal" and text is not None:
            self.refusals.append(text)
        elif kind == "tool_call" and name:
            self.calls.append(ToolCall(name=name, arguments=as_json_text(part.get("arguments")), id=_text(part, "id")))
        elif kind == "tool_call_response":
            result = part["response"] if "response" in part else part.get("result")
            self.results.append(Message(role="tool", content=as_text(result), tool_call_id=_text(part, "id")))
        else:
            spelled = _CONTENTS[kind](part) if kind in _CONTENTS else None
            self.content.append(part if spelled is None else spelled)
            if spelled is None:
                return
        if not _PART_FIELDS[str(kind)].issuperset(part) and (rest := left_over(part, _PART_FIELDS[str(kind)])):
            self.rests[place] = rest


def _thought(text: str) -> str:
    """What a model thought. OpenLLMetry tells the summary of OpenAI's Responses API as the JSON of its parts."""
    parts = read_json(text)
    if not isinstance(parts, list) or not parts:
        return text
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    return "\n".join(map(str, texts)) if all(isinstance(found, str) for found in texts) else text


def _read_asked(item: Any) -> tuple[list[Message], JsonObject]:
    """The messages in one: results of tools become messages of their own, before what else it says."""
    if not isinstance(item, dict) or not isinstance(item.get("parts"), list):
        message, rest = _loose(item, "user")
        return [message], rest
    parts = _Parts(item["parts"])
    own = _message(item, parts, "user")
    has_more = parts.content or parts.calls or parts.thoughts or parts.refusals
    return [*parts.results, own] if has_more or not parts.results else parts.results, _rest(item, parts)


def _read_answered(item: Any) -> tuple[Message, JsonObject]:
    """The answer in one; results of tools that ran at the provider stay parts of it."""
    if not isinstance(item, dict) or not isinstance(item.get("parts"), list):
        spelled = left_over(item, frozenset(("finish_reason",))) if isinstance(item, dict) else item
        return _loose(spelled, "assistant")
    own = [part for part in item["parts"] if not isinstance(part, dict) or part.get("type") != "tool_call_response"]
    parts = _Parts(own)
    parts.content += [part for part in item["parts"] if part not in own]
    return _message(item, parts, "assistant"), _rest(item, parts)


def _message(item: JsonObject, parts: _Parts, role: str) -> Message:
    content, kept = as_content(parts.content)
    named = _text(item, "role") or role
    return Message(
        role=_ROLES.get(named, named),
        content=content,
        parts=kept,
        tool_calls=tuple(parts.calls),
        name=_text(item, "name"),
        refusal="\n".join(parts.refusals) or None,
        reasoning="\n".join(parts.thoughts) or None,
    )


def _rest(item: JsonObject, parts: _Parts) -> JsonObject:
    if not parts.rests and _MESSAGE_FIELDS.issuperset(item):
        return {}
    return as_extra({**left_over(item, _MESSAGE_FIELDS), "parts": parts.rests}) or {}


def _loose(value: Any, role: str) -> tuple[Message, JsonObject]:
    """A message in OpenAI's spelling, or in none."""
    if not isinstance(value, dict):
        return Message(role=role, content=as_text(value)), {}
    (message,), rests = read_loose_messages([value], role)
    return message, rests.get("0", {})


def _text(value: Any, name: str) -> str | None:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def _list_of_objects(value: Any) -> Any:
    """The list or object that the text of an attribute is the JSON of; other text as it is."""
    found = read_json(value)
    if isinstance(found, list) and not all(isinstance(item, dict) for item in found):
        return value
    return found


def _of_text(part: JsonObject) -> JsonObject | None:
    text = part.get("content", part.get("text"))
    return text_part(text) if isinstance(text, str) else None


def _of_bytes(part: JsonObject) -> JsonObject | None:
    data, mime_type, modality = _text(part, "content"), _text(part, "mime_type") or "", part.get("modality")
    if data is None:
        return None
    if modality == "audio":
        kind = mime_type.partition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO.get(kind, kind or "wav")}}
    if modality == "image":
        return image_part(data_url(mime_type or "image/png", data))
    return file_part(file_data=data_url(mime_type or "application/octet-stream", data))


def _of_uri(part: JsonObject) -> JsonObject | None:
    uri = _text(part, "uri")
    return image_part(uri) if uri is not None and part.get("modality") == "image" else None


def _of_file(part: JsonObject) -> JsonObject | None:
    file_id = _text(part, "file_id")
    return None if file_id is None else file_part(file_id=file_id)


_CONTENTS: dict[Any, Callable[[JsonObject], JsonObject | None]] = {
    "text": _of_text,
    "blob": _of_bytes,
    "uri": _of_uri,
    "file": _of_file,
}


def _tool(tool: Any) -> Any:
    if (
        not isinstance(tool, dict)
        or "function" in tool
        or "name" not in tool
        or tool.get("type", "function") != "function"
    ):
        return tool
    return function_tool(**{name: item for name, item in tool.items() if name != "type"})
