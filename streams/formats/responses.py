"""`{request, response}` of OpenAI's Responses API; of a streamed call the response may be the list of its events.

Field names: https://platform.openai.com/docs/api-reference/responses
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tunemill.schemas.records import Json, LogRecord, Message
from tunemill.streams.formats.chat import as_content, function_tool, text_part
from tunemill.streams.formats.ending import finish_reason
from tunemill.streams.formats.fields import read_object, read_text
from tunemill.streams.formats.openai_pair import read_usage
from tunemill.streams.formats.pair import Half, join
from tunemill.streams.formats.response_events import is_events, read_events
from tunemill.streams.formats.response_items import read_items
from tunemill.streams.formats.shape import (
    Arrival,
    JsonObject,
    NotACall,
    Shape,
    left_over,
    read_envelope,
    read_metadata,
)

_REQUEST_FIELDS = frozenset(
    ("instructions", "input", "model", "tools", "metadata", "user", "conversation", "previous_response_id")
)
_RESPONSE_FIELDS = frozenset(("id", "object", "model", "output", "usage", "error", "status", "conversation"))
_FUNCTION_FIELDS = ("name", "description", "parameters", "strict")
_OTHER_APIS = {"data": "embeddings", "results": "moderation"}  # their requests have an `input`, too


def _matches(value: Mapping[str, Any]) -> bool:
    request, response = value.get("request"), value.get("response")
    if not isinstance(request, dict):
        return False
    if isinstance(response, dict) and response.get("object") == "response":
        return True
    if is_events(response) or is_events(value.get("events")):
        return True
    return "input" in request and "messages" not in request and ("response" in value or "error" in value)


def _read(value: JsonObject, arrival: Arrival) -> LogRecord | NotACall:
    request = read_object(value, "request")
    name = "events" if "events" in value else "response"
    response, is_cut = (
        read_events(value[name], name) if isinstance(value.get(name), list) else (read_object(value, name), False)
    )
    for field, kind in _OTHER_APIS.items():
        if field in response and "output" not in response:
            return NotACall(kind)
    answered = read_response({key: item for key, item in response.items() if _is_new(key, item, request)})
    if is_cut:
        answered = Half({**answered.fields, "finish_reason": None}, {**answered.rests, "stream": "cut"}, answered.error)
    return join(
        read_request(request),
        answered,
        envelope=read_envelope(value),
        arrival=arrival,
        source=SHAPE.name,
        beside={key: item for key, item in value.items() if key != name},
    )


def _is_new(name: str, item: Any, request: JsonObject) -> bool:
    """A response repeats what was asked: instructions, tools, parameters."""
    return name in _RESPONSE_FIELDS or name not in request or request[name] != item


def read_request(request: JsonObject) -> Half:
    """What a request says: its instructions and its input as messages.

    Raises:
        Undecodable: a field has another type than it should.
    """
    told, told_rests = read_items(request.get("instructions"), "system", "request.instructions")
    asked, asked_rests = read_items(request.get("input"), "user", "request.input")
    return Half(
        {
            "messages": (*told, *asked),
            "model": read_text(request, "model", "request"),
            "tools": read_tools(request),
            "params": left_over(request, _REQUEST_FIELDS) or None,
            "user_id": read_text(request, "user", "request"),
            "session_id": _conversation(request),
            "metadata": read_metadata(request.get("metadata")),
        },
        {
            "instructions": told_rests,
            "input": asked_rests,
            "request": _previous(request),
        },
    )


def read_response(response: JsonObject) -> Half:
    """What a response says: all items of its output are one message.

    Raises:
        Undecodable: a field has another type than it should.
    """
    output, rests = read_items(response.get("output"), "assistant", "response.output", is_output=True)
    answer = _as_one(output)
    usage, usage_rest = read_usage(read_object(response, "usage", "response"))
    status = read_text(response, "status", "response")
    return Half(
        {
            "output": () if answer is None else (answer,),
            "model": read_text(response, "model", "response"),
            "usage": usage,
            "finish_reason": _finish_reason(response, status, answer),
            "response_id": read_text(response, "id", "response"),
            "session_id": _conversation(response),
        },
        {"response": left_over(response, _RESPONSE_FIELDS), "output": rests, "usage": usage_rest},
        response.get("error") or (status if status in ("failed", "cancelled") else None),
    )


def read_tools(request: JsonObject) -> Json:
    """The tools on offer; functions in the chat API's spelling, built-in ones as sent."""
    tools = request.get("tools")
    return [_read_tool(tool) for tool in tools] if isinstance(tools, list) else tools


def _read_tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function" or "function" in tool:
        return tool
    function = {name: tool.get(name) for name in _FUNCTION_FIELDS}
    return {**left_over(tool, frozenset((*_FUNCTION_FIELDS, "type"))), **function_tool(**function)}


def _previous(request: JsonObject) -> JsonObject:
    name = "previous_response_id"  # the messages before this call are the server's; they are not in the log
    return {name: request[name]} if request.get(name) else {}


def _conversation(value: JsonObject) -> str | None:
    found = value.get("conversation")
    return read_text(found, "id", "conversation") if isinstance(found, dict) else read_text(value, "conversation")


def _finish_reason(response: JsonObject, status: str | None, answer: Message | None) -> str | None:
    if status == "completed":
        return "tool_calls" if answer is not None and answer.tool_calls else "stop"
    if status == "incomplete":
        return finish_reason(read_text(read_object(response, "incomplete_details", "response"), "reason"))
    return None


def _as_one(messages: Sequence[Message]) -> Message | None:
    """One answer of the messages that its items made."""
    if len(messages) < 2:
        return messages[0] if messages else None
    parts: list[JsonObject] = []
    for message in messages:
        parts += message.parts or ([] if message.content is None else [text_part(message.content)])
    content, kept = as_content(parts)
    return Message(
        role="assistant",
        content=content,
        parts=kept,
        tool_calls=tuple(call for message in messages for call in message.tool_calls),
        refusal=_joined(message.refusal for message in messages),
        reasoning=_joined(message.reasoning for message in messages),
    )


def _joined(texts: Any) -> str | None:
    return "\n".join(text for text in texts if text) or None


SHAPE = Shape(
    "openai_responses",
    _matches,
    _read,
    about="a request and a response of OpenAI's Responses API, or the events of a stream",
)
