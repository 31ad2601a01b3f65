"""Bodies of Bedrock's Converse API, which Amazon's Nova speaks, too -> those of Anthropic's Messages API, whose blocks say the same.

Field names: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.chat import as_json_text
from tunemill.streams.formats.fields import read_count, read_list, read_object, read_text
from tunemill.streams.formats.shape import JsonObject, left_over

_REQUEST_FIELDS = frozenset(("system", "messages", "toolConfig", "inferenceConfig", "modelId"))
_RESPONSE_FIELDS = frozenset(("output", "stopReason", "usage"))
_OUTPUT_FIELDS = frozenset(("message", "role", "content"))
_PARAMS = {"maxTokens": "max_tokens", "topP": "top_p", "topK": "top_k", "stopSequences": "stop_sequences"}
_USAGE = {"inputTokens": "input_tokens", "outputTokens": "output_tokens"}
_MIME_TYPES = {"pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "csv": "text/csv"}
_EVENTS = frozenset(
    ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")
)


def as_request(body: JsonObject) -> JsonObject:
    """The request in Anthropic's spelling; the inference's parameters stand beside the messages, as params do.

    Raises:
        Undecodable: a field has another type than it should.
    """
    tools = read_object(body, "toolConfig")
    config = read_object(body, "inferenceConfig")
    return {
        **left_over(body, _REQUEST_FIELDS),
        **{_PARAMS.get(name, name): item for name, item in config.items()},
        **left_over(tools, frozenset(("tools",))),
        "system": _blocks(read_list(body, "system"), "system"),
        "messages": [_message(message) for message in read_list(body, "messages")],
        "tools": [_tool(tool) for tool in read_list(tools, "tools")] or None,
    }


def as_response(body: JsonObject) -> JsonObject:
    """The response in Anthropic's spelling.

    Raises:
        Undecodable: a field has another type than it should.
    """
    output, usage = read_object(body, "output"), read_object(body, "usage")
    message = read_object(output, "message")
    return {
        **left_over(body, _RESPONSE_FIELDS),
        **left_over({**output, **message}, _OUTPUT_FIELDS),
        "content": _blocks(read_list(message, "content"), "output.message.content"),
        "stop_reason": body.get("stopReason"),
        "usage": {_USAGE.get(name, name): item for name, item in usage.items() if name != "totalTokens"},
    }


def is_events(value: Any) -> bool:
    """Whether this is a list of the events of a stream, by the first one's name."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and not _EVENTS.isdisjoint(first)


def assemble(events: list[Any]) -> JsonObject:
    """The body that a stream's events tell, as it would have come in one piece.

    Raises:
        Undecodable: one of them is no event, or a field has another type than it should.
    """
    blocks: dict[int, JsonObject] = {}
    body: JsonObject = {}
    for event in events:
        if not isinstance(event, dict):
            raise Undecodable("invalid", "an event of the stream is not an object")
        for name in ("contentBlockStart", "contentBlockDelta"):
            if (told := read_object(event, name)) != {}:
                index = read_count(told, "contentBlockIndex") or 0
                piece = read_object(told, "start") or read_object(told, "delta")
                _grow(blocks.setdefault(index, {}), piece)
        body |= left_over(read_object(event, "messageStop"), frozenset())
        body |= left_over(read_object(event, "metadata"), frozenset())
    return {**body, "output": {"message": {"content": [blocks[index] for index in sorted(blocks)]}}}


def _grow(block: JsonObject, piece: JsonObject) -> None:
    """Text goes on where it stopped, objects field by field; of anything else the last word holds."""
    for name, item in piece.items():
        known = block.get(name)
        if isinstance(item, dict):
            inner = block[name] = known if isinstance(known, dict) else {}
            _grow(inner, item)
        elif isinstance(item, str) and isinstance(known, str):
            block[name] = known + item
        else:
            block[name] = item


def _message(value: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        return value
    return {**value, "content": _blocks(value["content"], "messages.content")}


def _blocks(values: Iterable[Any], where: str) -> list[Any]:
    return [_block(value, where) if isinstance(value, dict) else value for value in values]


def _block(block: JsonObject, where: str) -> JsonObject:
    """A block in Anthropic's spelling; one that it has no word for gets its own name as type."""
    for name, read in _BLOCKS.items():
        if block.get(name) is not None:
            return {**left_over(block, frozenset((name,))), **read(block, name, where)}
    return {"type": next(iter(block), "empty"), **block}


def _read_text_block(block: JsonObject, name: str, where: str) -> JsonObject:
    return {"type": "text", "text": block[name]}


def _read_json(block: JsonObject, name: str, where: str) -> JsonObject:
    return {"type": "text", "text": as_json_text(block[name])}


def _read_call(block: JsonObject, name: str, where: str) -> JsonObject:
    call = read_object(block, name, where)
    return {**left_over(call, frozenset(("toolUseId",))), "type": "tool_use", "id": call.get("toolUseId")}


def _read_result(block: JsonObject, name: str, where: str) -> JsonObject:
    result = read_object(block, name, where)
    rest = left_over(result, frozenset(("toolUseId", "content")))
    content = _blocks(read_list(result, "content", where), where)
    return {**rest, "type": "tool_result", "tool_use_id": result.get("toolUseId"), "content": content}


def _read_media(block: JsonObject, name: str, where: str) -> JsonObject:
    media = read_object(block, name, where)
    source, form = read_object(media, "source", where), read_text(media, "format", where)
    data = read_text(source, "bytes", where)
    if data is None or form is None:  # it lies in S3, or was too large for the log
        return {"type": name, **media}
    media_type = _MIME_TYPES.get(form, f"{'image' if name == 'image' else 'application'}/{form}")
    title = {"title": media["name"]} if media.get("name") else {}
    bytes_ = {**left_over(source, frozenset(("bytes",))), "type": "base64", "media_type": media_type, "data": data}
    return {**left_over(media, frozenset(("source", "format", "name"))), "type": name, "source": bytes_, **title}


def _read_reasoning(block: JsonObject, name: str, where: str) -> JsonObject:
    reasoning = read_object(block, name, where)
    told = read_object(reasoning, "reasoningText", where) or reasoning  # a stream's piece has no such field
    if "text" not in told:
        return {"type": name, **reasoning}
    rest = left_over({**reasoning, **told}, frozenset(("text", "reasoningText")))
    return {**rest, "type": "thinking", "thinking": told["text"]}


def _tool(tool: Any) -> Any:
    """A tool's definition in Anthropic's spelling; other entries, such as a cache point, as sent."""
    spec = tool.get("toolSpec") if isinstance(tool, dict) else None
    if not isinstance(spec, dict):
        return tool
    schema = spec.get("inputSchema")
    rest = left_over({**tool, **spec}, frozenset(("inputSchema", "toolSpec")))
    return {**rest, "input_schema": schema["json"] if isinstance(schema, dict) and "json" in schema else schema}


_BLOCKS: Mapping[str, Callable[[JsonObject, str, str], JsonObject]] = {
    "text": _read_text_block,
    "json": _read_json,
    "toolUse": _read_call,
    "toolResult": _read_result,
    "image": _read_media,
    "document": _read_media,
    "reasoningContent": _read_reasoning,
}
