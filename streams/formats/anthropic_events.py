"""The events of a streamed answer of Anthropic's Messages API -> the response as it would have come in one piece."""

from copy import deepcopy
from typing import Any

from tunemill.streams.formats.fields import read_count, read_object, read_text, read_typed
from tunemill.streams.formats.shape import JsonObject

_BEGINS = ("message_start", "ping", "error")
_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def is_events(value: Any) -> bool:
    """Whether this is a list of such events, by the first one's type."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and first.get("type") in _BEGINS


def read_events(events: list[Any], where: str) -> tuple[JsonObject, bool]:
    """The response, and whether the stream was cut off; then what came is used.

    Raises:
        Undecodable: one of them is no event, or a field has another type than it should.
    """
    response: JsonObject = {}
    blocks: dict[int, JsonObject] = {}
    ended = False
    for event, kind, place in read_typed(events, where):
        if kind == "message_start":
            response.update(read_object(event, "message", place))
        elif kind == "content_block_start":
            blocks[_index(event, place)] = deepcopy(read_object(event, "content_block", place))
        elif kind == "content_block_delta":
            _grow(blocks.setdefault(_index(event, place), {}), read_object(event, "delta", place), place)
        elif kind == "message_delta":
            usage = {**read_object(response, "usage", place), **read_object(event, "usage", place)}
            response.update(read_object(event, "delta", place), usage=usage)
        elif kind == "error":
            response["error"] = event.get("error") or event
        ended = ended or kind in ("message_stop", "error")
    if blocks:
        response["content"] = [blocks[index] for index in sorted(blocks)]
    return response, not ended and not response.get("stop_reason")


def _index(event: JsonObject, where: str) -> int:
    return read_count(event, "index", where=where) or 0


def _grow(block: JsonObject, delta: JsonObject, where: str) -> None:
    """Put a piece at the end of what the block holds so far."""
    kind = read_text(delta, "type", where)
    if kind == "input_json_delta":  # the arguments as the model writes them, in place of the empty object at the start
        known = block.get("input")
        block["input"] = (known if isinstance(known, str) else "") + (read_text(delta, "partial_json", where) or "")
    elif kind == "citations_delta":
        known = block.get("citations")
        block["citations"] = known if isinstance(known, list) else []
        block["citations"].append(delta.get("citation"))
    elif kind in _PIECES:
        name = _PIECES[kind]
        block.setdefault("type", name if name != "signature" else "thinking")
        block[name] = (read_text(block, name, where) or "") + (read_text(delta, name, where) or "")
