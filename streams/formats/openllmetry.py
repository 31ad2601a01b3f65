"""OpenLLMetry's own attributes on spans: messages and tools flattened, and what Traceloop's SDK adds to each span.

Its later versions write OpenTelemetry's GenAI conventions; of those this dialect reads only what is not in them.
Names: https://github.com/traceloop/openllmetry/blob/main/packages/opentelemetry-semantic-conventions-ai/opentelemetry/semconv_ai/__init__.py
"""

import msgspec

from tunemill.schemas.records import Message, Usage
from tunemill.streams.formats.attributes import Reader, given
from tunemill.streams.formats.chat import function_tool
from tunemill.streams.formats.ending import finish_reason
from tunemill.streams.formats.json_text import as_text, read_json
from tunemill.streams.formats.loose_messages import read_loose_messages
from tunemill.streams.formats.shape import JsonObject, as_extra, left_over
from tunemill.streams.formats.span import Dialect, Span, Told

_MARKS = ("traceloop.", "gen_ai.prompt.", "gen_ai.completion.", "llm.request.", "llm.usage.", "gen_ai.is_streaming")
_PARAMETERS = {
    "llm.frequency_penalty": "frequency_penalty",
    "llm.presence_penalty": "presence_penalty",
    "llm.top_k": "top_k",
    "llm.chat.stop_sequences": "stop",
    "llm.request.repetition_penalty": "repetition_penalty",
    "llm.request.reasoning_effort": "reasoning_effort",
    "gen_ai.request.reasoning_effort": "reasoning_effort",
    "gen_ai.request.reasoning_summary": "reasoning_summary",
    "gen_ai.request.structured_output_schema": "structured_output_schema",
}
_DETAILS = {
    "gen_ai.usage.cache_read_input_tokens": "cache_read_input_tokens",
    "gen_ai.usage.cache_creation_input_tokens": "cache_creation_input_tokens",
    "gen_ai.usage.reasoning_tokens": "reasoning_tokens",
    "llm.usage.reasoning_tokens": "reasoning_tokens",
}
_KINDS = {"agent": "agent", "tool": "tool", "workflow": "chain", "task": "chain"}  # of Traceloop's decorators
_CALLS = ("chat", "completion")
_NO_CALLS = {"embedding": "embeddings", "rerank": "retrieval"}  # by the type of the request, as _CALLS
_RESPELLED = frozenset(("content", "user", "finish_reason"))
_THINKING = "thinking"  # the role under which the instrumentation of Anthropic's client tells reasoning
_PROPERTIES = "traceloop.association.properties."


def _matches(span: Span) -> bool:
    return any(name.startswith(_MARKS) for name in span.attributes)


def _read(span: Span) -> Told:
    reader = Reader(span.attributes)
    reader.drop("llm.usage.total_tokens", "gen_ai.usage.total_tokens")
    reader.drop("llm.headers", "gen_ai.headers")  # may hold keys
    caller = _read_caller(reader)
    kind, request_type = span.attributes.get("traceloop.span.kind"), reader.text("llm.request.type")
    if isinstance(kind, str):
        return Told(False, caller, frozenset(reader.used), kind=_KINDS.get(kind, "span"))
    if request_type in _NO_CALLS or span.attributes.get("gen_ai.operation.name") == "embeddings":
        return Told(False, caller, frozenset(reader.used), kind=_NO_CALLS.get(request_type or "", "embeddings"))
    call = {**_read_call(reader), **caller}
    if request_type == "completion":
        call["operation"] = "text_completion"
    is_call = request_type in _CALLS or "messages" in call or "output" in call
    return Told(is_call, call, frozenset(reader.used))


def _read_caller(reader: Reader) -> JsonObject:
    """Who called, in the words of Traceloop's association properties; those that are no field are metadata."""
    properties = {name: as_text(value) for name, value in reader.under(_PROPERTIES).items()}
    user_id, session_id = properties.pop("user_id", None), properties.pop("session_id", None)
    return given(
        {
            "user_id": user_id or reader.text("llm.user", "gen_ai.user"),
            "session_id": session_id,
            "metadata": properties,
        }
    )


def _read_call(reader: Reader) -> JsonObject:
    messages, message_rests = read_loose_messages([_message(item) for item in reader.items("gen_ai.prompt")], "user")
    choices = reader.items("gen_ai.completion")
    output, choice_rests = read_loose_messages([_message(item) for item in choices], "assistant")
    reasons = [choice.get("finish_reason") for choice in choices if choice.get("role") != _THINKING]
    told = {str(position): reason for position, reason in enumerate(reasons) if position and reason != reasons[0]}
    system = reader.text("gen_ai.system")
    parameters = {
        word: value for name, word in _PARAMETERS.items() if (value := read_json(reader.value(name))) not in (None, "")
    }
    if reader.value("llm.is_streaming") is True or reader.value("gen_ai.is_streaming") is True:
        parameters["stream"] = True
    usage = Usage(
        input_tokens=reader.count("gen_ai.usage.prompt_tokens"),
        output_tokens=reader.count("gen_ai.usage.completion_tokens"),
    )
    fingerprint = reader.text("gen_ai.openai.system_fingerprint")
    extra = {
        "response": {"system_fingerprint": fingerprint} if fingerprint else None,
        "messages": message_rests,
        "choices": choice_rests,
        "finish_reasons": told,
        "usage": {word: count for name, word in _DETAILS.items() if (count := reader.count(name)) is not None},
    }
    return given(
        {
            "messages": messages,
            "output": _with_reasoning(output),
            "provider": system.lower() if system else None,
            "tools": [_tool(item) for item in reader.items("llm.request.functions")],
            "params": parameters,
            "usage": usage,
            "finish_reason": finish_reason(reasons[0]) if reasons and isinstance(reasons[0], str) else None,
            "extra": as_extra(extra),
        }
    )


def _message(item: JsonObject) -> JsonObject:
    """A message in OpenAI's spelling. Content that came as a list of parts is JSON; a text completion has a `user` alone."""
    spelled = left_over(item, _RESPELLED)
    content = item.get("content", item.get("user"))
    parts = read_json(content)
    is_parts = (
        isinstance(parts, list) and bool(parts) and all(isinstance(part, dict) and "type" in part for part in parts)
    )
    return {**spelled, "content": parts if is_parts else content}


def _with_reasoning(output: tuple[Message, ...]) -> tuple[Message, ...]:
    """The answers; what a model thought comes as a message before the one it led to, and belongs to it."""
    answers: list[Message] = []
    thoughts: list[str] = []
    for message in output:
        if message.role == _THINKING:
            thoughts.append(message.content or "")
        else:
            answers.append(_reasoned(message, thoughts))
            thoughts = []
    return (*answers, _reasoned(Message(role="assistant"), thoughts)) if thoughts else tuple(answers)


def _reasoned(message: Message, thoughts: list[str]) -> Message:
    return msgspec.structs.replace(message, reasoning="\n".join(thoughts)) if thoughts else message


def _tool(function: JsonObject) -> JsonObject:
    """The definition of a tool; its parameters are JSON."""
    schema = read_json(function.get("parameters", function.get("input_schema")))
    rest = left_over(function, frozenset(("parameters", "input_schema")))
    return function_tool(**rest, parameters=schema)


DIALECT = Dialect("openllmetry", _matches, _read)
