"""OpenInference's attributes on spans, as Phoenix's instrumentations write them.

Names: https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md
"""

import re
from collections.abc import Callable
from typing import Any

from tunemill.schemas.records import Message, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import openai_pair, responses
from tunemill.streams.formats.attributes import Reader, given
from tunemill.streams.formats.ending import finish_reason
from tunemill.streams.formats.json_text import as_text, read_json
from tunemill.streams.formats.langfuse_content import read_input, read_output
from tunemill.streams.formats.loose_messages import read_loose_messages
from tunemill.streams.formats.pair import Half
from tunemill.streams.formats.shape import JsonObject, as_extra, left_over, read_metadata
from tunemill.streams.formats.span import Dialect, Span, Told

_KIND = "openinference.span.kind"
_MARKS = (_KIND, "llm.model_name", "llm.input_messages.0.message.role")
_KINDS = {
    "EMBEDDING": "embeddings",
    "TOOL": "tool",
    "AGENT": "agent",
    "CHAIN": "chain",
    "RETRIEVER": "retrieval",
    "RERANKER": "retrieval",
}  # of the spans that are no call of a model, as the counter names them
_NOT_PARAMETERS = frozenset(("model", "messages", "tools", "functions", "input", "instructions", "prompt", "user"))
_RESPELLED = frozenset(("contents", "tool_calls", "function_call_name", "function_call_arguments_json"))
_DATA_URL = re.compile(r"data:audio/([\w.+-]+);base64,")
_AUDIO = {"mpeg": "mp3", "x-wav": "wav"}  # OpenAI's words for formats
_OPENAI = "openai"  # in the scope of the instrumentation of OpenAI's client
_HIDDEN = "__REDACTED__"  # stands where the sender hides something


def _matches(span: Span) -> bool:
    return any(name in span.attributes for name in _MARKS)


def _read(span: Span) -> Told:
    reader = Reader(span.attributes)
    kind = reader.text(_KIND)
    caller = given(
        {
            "user_id": reader.text("user.id"),
            "session_id": reader.text("session.id"),
            "metadata": read_metadata(reader.object("metadata")),
            "tags": reader.texts("tag.tags"),
        }
    )
    if kind not in (None, "LLM"):
        note: JsonObject = {name: caller[name] for name in ("user_id", "session_id") if name in caller}
        return Told(False, caller, frozenset(reader.used), note, _KINDS.get(kind, "span"))
    call = _read_call(reader, span)
    metadata = {**call.get("metadata", {}), **caller.get("metadata", {})}
    return Told(True, given({**call, **caller, "metadata": metadata}), frozenset(reader.used))


def _read_call(reader: Reader, span: Span) -> JsonObject:
    """The call: from the whole request and response where the span has them, and from its flattened attributes."""
    reader.drop("llm.token_count.total")  # the sum of the two
    whole_asked, whole_answered = _read_whole_request(reader, span), _read_whole_response(reader, span)
    asked = _read_asked(reader, is_told=bool(whole_asked.fields.get("messages")))
    answered = _read_answered(reader, is_told=bool(whole_answered.fields.get("output")))
    halves = (asked, answered, whole_asked, whole_answered)
    fields = {name: value for half in halves for name, value in given(half.fields).items()}
    fields["params"] = {**(asked.fields["params"] or {}), **(whole_asked.fields.get("params") or {})}
    rests = {name: rest for half in halves for name, rest in half.rests.items() if rest}
    if "messages" not in fields:
        fields["messages"], tools, rests["input"] = read_input(_shown(reader, "input.value"))
        fields.setdefault("tools", tools)
    if "output" not in fields:
        fields["output"], reason, rests["output"] = read_output(_shown(reader, "output.value"))
        fields.setdefault("finish_reason", reason)
    asked_model = asked.fields["model"]
    if asked_model not in (None, fields.get("model")):
        rests["request"] = {**rests.get("request", {}), "model": asked_model}
    reader.drop("input.value", "input.mime_type", "output.value", "output.mime_type")
    return {**fields, "extra": as_extra(rests)}


def _read_asked(reader: Reader, *, is_told: bool) -> Half:
    """What the flattened attributes say about the request.

    Args:
        is_told: the whole request told the messages.
    """
    items = reader.items("llm.input_messages", is_wanted=not is_told)
    messages, rests = read_loose_messages([_message(item) for item in items], "user")
    prompts = [item["prompt"] for item in reader.items("llm.prompts") if isinstance(item.get("prompt"), dict)]
    parameters = reader.object("llm.invocation_parameters")
    model, user_id = parameters.get("model"), parameters.get("user")
    return Half(
        {
            "messages": messages or tuple(Message(role="user", content=as_text(item.get("text"))) for item in prompts),
            "operation": "text_completion" if prompts and not messages else "chat",
            "model": reader.text("llm.request.model_name") or (model if isinstance(model, str) else None),
            "provider": reader.text("llm.provider", "llm.system"),
            "tools": [_tool(item) for item in reader.items("llm.tools")],
            "params": left_over(parameters, _NOT_PARAMETERS),
            "user_id": user_id if isinstance(user_id, str) else None,
        },
        {"messages": rests},
    )


def _read_answered(reader: Reader, *, is_told: bool) -> Half:
    """What the flattened attributes say about the response.

    Args:
        is_told: the whole response told the answers.
    """
    messages = [_message(item) for item in reader.items("llm.output_messages", is_wanted=not is_told)]
    choices = [item["completion"] for item in reader.items("llm.choices") if isinstance(item.get("completion"), dict)]
    images = [_part({"type": "image", "image": item}) for item in reader.items("output.images")]
    texts = [{"content": choice.get("text")} for choice in choices]
    output, rests = read_loose_messages(messages or texts or ([{"content": images}] if images else []), "assistant")
    return Half(  # what is left of the tokens and the cost, after those that are fields
        {
            "output": output,
            "model": reader.text("llm.response.model_name", "llm.model_name"),
            "usage": Usage(
                input_tokens=reader.count("llm.token_count.prompt"),
                output_tokens=reader.count("llm.token_count.completion"),
            ),
            "cost_usd": reader.number("llm.cost.total"),
            "finish_reason": finish_reason(reader.text("llm.finish_reason")),
        },
        {
            "choices": rests,
            "usage": reader.left("llm.token_count."),
            "cost": reader.left("llm.cost."),
        },
    )


def _read_whole_request(reader: Reader, span: Span) -> Half:
    """What the whole request says, which holds more than the flattened attributes: audio, files, details of images.

    That of OpenAI's own client only: what other clients write there is in the spelling of other APIs. And not where the
    sender hides messages: in the flattened attributes alone they are hidden one by one.
    """
    request = read_json(reader.value("input.value"))
    if not isinstance(request, dict) or _OPENAI not in span.scope or _is_hidden(span, "llm.input_messages."):
        return Half({})
    is_responses = "input" in request and "messages" not in request
    return _half(responses.read_request if is_responses else openai_pair.read_request, request)


def _read_whole_response(reader: Reader, span: Span) -> Half:
    """What the whole response says, likewise: refusals, reasoning, its id, and why each choice ended."""
    response = read_json(reader.value("output.value"))
    if not isinstance(response, dict) or _OPENAI not in span.scope or _is_hidden(span, "llm.output_messages."):
        return Half({})
    is_responses = response.get("object") == "response"
    return _half(responses.read_response if is_responses else openai_pair.read_response, response)


def _half(read: Callable[[JsonObject], Half], value: JsonObject) -> Half:
    try:
        return read(value)
    except Undecodable:
        return Half({})


def _is_hidden(span: Span, prefix: str) -> bool:
    return any(value == _HIDDEN for name, value in span.attributes.items() if name.startswith(prefix))


def _shown(reader: Reader, name: str) -> Any:
    value = reader.value(name)
    return None if value == _HIDDEN else value


def _message(item: JsonObject) -> JsonObject:
    """A message in OpenAI's spelling, as far as the attributes spell it otherwise."""
    message = item.get("message")
    if not isinstance(message, dict):
        return item
    spelled = left_over(message, _RESPELLED)
    contents, calls = message.get("contents"), message.get("tool_calls")
    if isinstance(contents, list):
        parts = [item["message_content"] for item in contents if isinstance(item, dict) and "message_content" in item]
        reasoning = [part["text"] for part in parts if _is_reasoning(part)]
        if reasoning:
            spelled["reasoning"] = "\n".join(reasoning)
        spelled["content"] = _content([_part(part) for part in parts if not _is_reasoning(part)])
    if isinstance(calls, list):
        spelled["tool_calls"] = [call.get("tool_call", call) if isinstance(call, dict) else call for call in calls]
    if "function_call_name" in message:
        arguments = message.get("function_call_arguments_json")
        spelled["function_call"] = {"name": message["function_call_name"], "arguments": arguments}
    return spelled


def _is_reasoning(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "reasoning" and isinstance(part.get("text"), str)


def _content(parts: list[Any]) -> Any:
    """The parts, or the text alone when that is all."""
    if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].get("type") == "text":
        return parts[0].get("text")
    return parts or None


def _part(part: Any) -> Any:
    """A content part in OpenAI's spelling; one that OpenAI has no word for stays."""
    if not isinstance(part, dict):
        return part
    kind, url = part.get("type"), _url(part)
    if kind == "image" and url is not None:
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "audio" and url is not None and (data := _DATA_URL.match(url)):
        return {
            "type": "input_audio",
            "input_audio": {"data": url[data.end() :], "format": _AUDIO.get(data[1], data[1])},
        }
    return part


def _url(part: JsonObject) -> str | None:
    """The URL in `{"image": {"image": {"url": ...}}}`; audio, video and documents are nested likewise."""
    found: Any = part
    kind = str(part.get("type"))
    for step in (kind, kind, "url"):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _tool(item: JsonObject) -> Any:
    """A tool's definition: the JSON schema of a whole tool, or its name and description."""
    tool = item.get("tool", item)
    schema = read_json(tool.get("json_schema")) if isinstance(tool, dict) else None
    return schema if isinstance(schema, dict) else tool


DIALECT = Dialect("openinference", _matches, _read)
