"""`{request, response}` of Anthropic's Messages API; of a streamed call the response may be the list of its events.

Field names: https://docs.anthropic.com/en/api/messages
"""

from collections.abc import Mapping
from typing import Any

from tunemill.schemas.records import Json, LogRecord, Usage
from tunemill.streams.formats.anthropic_content import read_messages, read_system, read_turn
from tunemill.streams.formats.anthropic_events import is_events, read_events
from tunemill.streams.formats.chat import function_tool
from tunemill.streams.formats.ending import finish_reason
from tunemill.streams.formats.fields import read_count, read_list, read_object, read_text
from tunemill.streams.formats.pair import Half, join
from tunemill.streams.formats.shape import Arrival, JsonObject, Shape, left_over, read_envelope

_TELLING = frozenset(("system", "anthropic_version", "anthropic_beta"))
_REQUEST_FIELDS = frozenset(("messages", "system", "model", "tools", "metadata"))
_RESPONSE_FIELDS = frozenset(("id", "type", "role", "model", "content", "stop_reason", "usage", "error"))
_USAGE_FIELDS = frozenset(("input_tokens", "output_tokens"))
_TOOL_FIELDS = frozenset(("name", "description", "input_schema", "type", "strict"))


def _matches(value: Mapping[str, Any]) -> bool:
    request, response = value.get("request"), value.get("response")
    if not isinstance(request, dict) or "messages" not in request:
        return False
    if is_events(response) or is_events(value.get("events")):
        return True
    if isinstance(response, dict) and response:
        return response.get("type") == "message" or _is_error(response)
    return _is_error(value.get("error")) or ("max_tokens" in request and not _TELLING.isdisjoint(request))


def _is_error(value: Any) -> bool:
    """Whether this is how the API answers a call that failed: an object that holds the error under its type."""
    return isinstance(value, dict) and value.get("type") == "error" and "error" in value


def _read(value: JsonObject, arrival: Arrival) -> LogRecord:
    name = "events" if "events" in value else "response"
    if _is_error(value.get("error")):
        value = {**value, "error": value["error"]["error"]}
    return join(
        read_request(read_object(value, "request")),
        read_answer(value, name),
        envelope=read_envelope(value),
        arrival=arrival,
        source=SHAPE.name,
        beside={key: item for key, item in value.items() if key != name},
    )


def read_answer(value: JsonObject, name: str) -> Half:
    """What the response in this field says, whether it is whole or the list of its events.

    Raises:
        Undecodable: a field has another type than it should.
    """
    if not isinstance(value.get(name), list):
        return read_response(read_object(value, name))
    whole, is_cut = read_events(value[name], name)
    answered = read_response(whole)
    return Half(answered.fields, {**answered.rests, "stream": "cut"}, answered.error) if is_cut else answered


def read_request(request: JsonObject) -> Half:
    """What a request says: its system text and its messages.

    Raises:
        Undecodable: a field has another type than it should.
    """
    told, system_rests = read_system(request.get("system"), "request.system")
    asked, message_rests = read_messages(read_list(request, "messages", "request"), "request.messages")
    metadata = read_object(request, "metadata", "request")
    return Half(
        {
            "messages": (*told, *asked),
            "model": read_text(request, "model", "request"),
            "tools": read_tools(request.get("tools")),
            "params": left_over(request, _REQUEST_FIELDS) or None,
            "user_id": read_text(metadata, "user_id", "request.metadata"),
        },
        {
            "system": system_rests,
            "messages": message_rests,
            "request": left_over({"metadata": left_over(metadata, frozenset(("user_id",)))}, frozenset()),
        },
    )


def read_response(response: JsonObject) -> Half:
    """What a response says: all blocks of its content are one message.

    Raises:
        Undecodable: a field has another type than it should.
    """
    answer, rests = read_turn(response.get("content"), "assistant", "response.content")
    word = read_text(response, "stop_reason", "response")
    usage = read_object(response, "usage", "response")
    rest = left_over(response, _RESPONSE_FIELDS)
    if word != finish_reason(word):
        rest["stop_reason"] = word
    return Half(
        {
            "output": () if answer is None else (answer,),
            "model": read_text(response, "model", "response"),
            "usage": Usage(
                input_tokens=read_count(usage, "input_tokens", where="usage"),
                output_tokens=read_count(usage, "output_tokens", where="usage"),
            ),
            "finish_reason": finish_reason(word),
            "response_id": read_text(response, "id", "response"),
        },
        {"response": rest, "output": rests, "usage": left_over(usage, _USAGE_FIELDS)},
        response.get("error"),
    )


def read_tools(tools: Any) -> Json:
    """The tools on offer in OpenAI's spelling; those that Anthropic runs itself as sent."""
    return [_read_tool(tool) for tool in tools] if isinstance(tools, list) else tools


def _read_tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or "input_schema" not in tool:
        return tool
    made = function_tool(
        name=tool.get("name"),
        description=tool.get("description"),
        parameters=tool["input_schema"],
        strict=tool.get("strict"),
    )
    return {**left_over(tool, _TOOL_FIELDS), **made}


SHAPE = Shape(
    "anthropic",
    _matches,
    _read,
    about="a request and a response of Anthropic's Messages API, or the events of a stream",
)
