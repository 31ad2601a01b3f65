"""What an observation of Langfuse holds: messages as whoever logged it spelled them, tokens, cost and parameters.

Nothing here is rejected: its input and output are free-form, so what looks like no message is the text of one.
"""

from collections.abc import Callable
from typing import Any

from tunemill.schemas.records import Message, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import openai_pair, responses
from tunemill.streams.formats.attributes import given
from tunemill.streams.formats.ending import finish_reason
from tunemill.streams.formats.json_text import as_text, read_json
from tunemill.streams.formats.loose_messages import read_loose_messages
from tunemill.streams.formats.pair import Half
from tunemill.streams.formats.shape import JsonObject, left_over

_ITEMS = ("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning")
_ITEM_PARTS = ("input_text", "input_image", "input_file", "output_text")
_CONTENTS = ("content", "parts", "tool_calls", "function_call", "refusal")
_INPUT_TOKENS = ("input", "prompt_tokens", "input_tokens", "promptTokens")
_OUTPUT_TOKENS = ("output", "completion_tokens", "output_tokens", "completionTokens")
_COUNTED = frozenset((*_INPUT_TOKENS, *_OUTPUT_TOKENS, "total", "total_tokens", "totalTokens"))
_NO_LIMIT = ("inf", "Infinity")  # how Langfuse's wrapper of OpenAI writes a limit that nobody gave


def read_input(value: Any) -> tuple[tuple[Message, ...], Any, JsonObject]:
    """The messages and the tools of a request, and what else was said with them.

    Args:
        value: messages in OpenAI's spelling, an object with them and `tools`, one message, a request of the Responses
            API or the list of its items, text, or JSON of any of these.
    """
    found = read_json(value)
    if found in (None, "", [], {}):
        return (), None, {}
    items = _items_asked(found)
    if items is not None and (half := _half(responses.read_request, items)) is not None:
        rests = given({**half.rests, "params": half.fields["params"]})
        return half.fields["messages"], half.fields["tools"], rests
    if isinstance(found, dict) and _is_list_of_objects(found.get("messages")):
        messages, rests = read_loose_messages(_without_tools(found["messages"]), "user")
        tools = found.get("tools") or found.get("functions") or _tools_among(found["messages"])
        rest = left_over(found, frozenset(("messages", "tools", "functions")))
        return messages, tools, {**rest, **({"messages": rests} if rests else {})}
    if isinstance(found, dict):
        found = [found]
    if _is_conversation(found):
        messages, rests = read_loose_messages(_without_tools(found), "user")
        return messages, _tools_among(found), {"messages": rests} if rests else {}
    return (Message(role="user", content=as_text(value)),), None, {}


def read_output(value: Any) -> tuple[tuple[Message, ...], str | None, JsonObject]:
    """The answers of a model, why the first one ended where that is told, and what else was said with them.

    Args:
        value: a message in OpenAI's spelling, a list of choices, a whole response, items of a response of the
            Responses API, text, or JSON of any of these.
    """
    found = read_json(value)
    if found in (None, "", [], {}):
        return (), None, {}
    half = _half_answered(found)
    if half is not None and half.fields["output"]:
        return half.fields["output"], finish_reason(half.fields["finish_reason"]), given(half.rests)
    choices = [found] if isinstance(found, dict) else found
    if not _is_list_of_objects(choices) or not all(_is_message(_message_of(choice)) for choice in choices):
        return (Message(role="assistant", content=as_text(value)),), None, {}
    messages, rests = read_loose_messages([_message_of(choice) for choice in choices], "assistant")
    reason = choices[0].get("finish_reason")
    return messages, finish_reason(reason) if isinstance(reason, str) else None, {"choices": rests} if rests else {}


def read_usage(details: Any) -> tuple[Usage, JsonObject]:
    """The tokens in Langfuse's own spelling or in one of OpenAI's, and what else is said about them."""
    found = read_json(details)
    if not isinstance(found, dict):
        return Usage(), {}
    usage = Usage(input_tokens=_count(found, _INPUT_TOKENS), output_tokens=_count(found, _OUTPUT_TOKENS))
    return usage, left_over(found, _COUNTED)


def read_cost(details: Any) -> float | None:
    """The cost of the call in US dollars: the total, or the sum of what is given."""
    found = read_json(details)
    if not isinstance(found, dict):
        return None
    numbers = {
        name: item for name, item in found.items() if isinstance(item, int | float) and not isinstance(item, bool)
    }
    try:
        return float(numbers["total"]) if "total" in numbers else float(sum(numbers.values())) if numbers else None
    except OverflowError:  # a whole number of hundreds of digits
        return None


def read_parameters(value: Any) -> JsonObject | None:
    """The model's parameters, less the limits that were none."""
    found = read_json(value)
    if not isinstance(found, dict):
        return None
    return {name: item for name, item in found.items() if item is not None and item not in _NO_LIMIT} or None


def _half(read: Callable[[JsonObject], Half], value: JsonObject) -> Half | None:
    try:
        return read(value)
    except Undecodable:
        return None


def _items_asked(found: Any) -> JsonObject | None:
    """This as a request of the Responses API; None when it is none."""
    if isinstance(found, dict):
        return found if isinstance(found.get("input"), str | list) and "messages" not in found else None
    return {"input": found} if _is_list_of_objects(found) and any(map(_is_item, found)) else None


def _half_answered(found: Any) -> Half | None:
    """This as a whole response of either API, or as the items of one."""
    if isinstance(found, dict) and _is_list_of_objects(found.get("choices")):
        return _half(openai_pair.read_response, found)
    if isinstance(found, dict) and _is_list_of_objects(found.get("output")):
        return _half(responses.read_response, found)
    items = [found] if isinstance(found, dict) else found
    if _is_list_of_objects(items) and any(map(_is_item, items)):
        is_whole = {item["status"] for item in items if item.get("status") is not None} == {"completed"}
        return _half(responses.read_response, {"output": items, "status": "completed" if is_whole else None})
    return None


def _is_item(value: JsonObject) -> bool:
    """Whether this is an item of the Responses API, or a message with content parts of that API."""
    if "role" not in value:
        return value.get("type") in _ITEMS
    content = value.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") in _ITEM_PARTS for part in content
    )


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _is_conversation(value: Any) -> bool:
    return _is_list_of_objects(value) and all("role" in item for item in value) and any(map(_is_message, value))


def _is_tool(message: JsonObject) -> bool:
    """Whether this is the definition of a tool, which Langfuse's handler of LangChain puts after the messages."""
    return message.get("role") == "tool" and isinstance(message.get("content"), dict) and "tool_call_id" not in message


def _without_tools(messages: list[JsonObject]) -> list[JsonObject]:
    return [message for message in messages if not _is_tool(message)]


def _tools_among(messages: list[JsonObject]) -> list[Any] | None:
    return [message["content"] for message in messages if _is_tool(message)] or None


def _is_message(value: JsonObject) -> bool:
    """Whether this is a message and not some other object with a role, which a model may have been asked to write."""
    return "role" in value and any(name in value for name in _CONTENTS)


def _message_of(choice: JsonObject) -> JsonObject:
    message = choice.get("message")
    if isinstance(message, dict):
        return message
    return {name: item for name, item in choice.items() if name != "finish_reason"}


def _count(usage: JsonObject, names: tuple[str, ...]) -> int | None:
    return next((usage[name] for name in names if type(usage.get(name)) is int), None)
