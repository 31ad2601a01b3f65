"""The events of a streamed answer of OpenAI's Responses API -> the response as it would have come in one piece."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.fields import read_count, read_object, read_text, read_typed
from tunemill.streams.formats.shape import JsonObject

_PREFIX = "response."
_ENDS = frozenset(("response.completed", "response.incomplete", "response.failed"))
_ITEMS = frozenset(("response.output_item.added", "response.output_item.done"))
_TEXTS = {  # pieces of a field of an item
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
_PARTS = {  # pieces of a part of an item: the list, the name of the place in it, the part's type and its field
    "response.output_text.delta": ("content", "content_index", "output_text", "text"),
    "response.refusal.delta": ("content", "content_index", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "content_index", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "summary_text", "text"),
}
_TYPES = {
    "response.function_call_arguments.delta": "function_call",
    "response.custom_tool_call_input.delta": "custom_tool_call",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
}


def is_events(value: Any) -> bool:
    """Whether this is a list of such events, by the first one's type."""
    first = value[0] if isinstance(value, list) and value else None
    kind = first.get("type") if isinstance(first, dict) else None
    return isinstance(kind, str) and kind.startswith(_PREFIX)


def read_events(events: list[Any], where: str) -> tuple[JsonObject, bool]:
    """The response, and whether the stream was cut off; then what came is used.

    Raises:
        Undecodable: one of them is no event, or a field has another type than it should.
    """
    response: JsonObject = {}
    items: dict[int, JsonObject] = {}
    ended = False
    for event, kind, place in read_typed(events, where):
        ended = ended or kind in _ENDS or kind == "error"
        if kind == "error":
            response["error"] = event.get("error") or event
        elif isinstance(event.get("response"), dict):
            response.update(event["response"])
        elif kind is not None:
            _add(items, kind, event, place)
    if not response.get("output"):
        response["output"] = [items[index] for index in sorted(items)]
    return response, not ended


def _add(items: dict[int, JsonObject], kind: str, event: Mapping[str, Any], where: str) -> None:
    """Bring the item that the event speaks of up to date. Events that only repeat what others said are passed over."""
    if kind not in _ITEMS and kind not in _TEXTS and kind not in _PARTS:
        return
    index = read_count(event, "output_index", where=where) or 0
    if kind in _ITEMS:
        items[index] = deepcopy(read_object(event, "item", where))
        return
    begun = {"type": _TYPES.get(kind, "message"), "role": "assistant"}  # when the event that began it is not there
    item, piece = items.setdefault(index, begun), read_text(event, "delta", where) or ""
    if kind in _TEXTS:
        name = _TEXTS[kind]
        item[name] = (read_text(item, name, where) or "") + piece
        return
    name, place, part_type, field = _PARTS[kind]
    parts = item[name] = item[name] if isinstance(item.get(name), list) else []
    number = read_count(event, place, where=where) or 0
    if number == len(parts):
        parts.append({"type": part_type})
    if not 0 <= number < len(parts) or not isinstance(parts[number], dict):
        raise Undecodable("invalid", f"{where}.{place} leaves parts out")
    parts[number][field] = (read_text(parts[number], field, where) or "") + piece
