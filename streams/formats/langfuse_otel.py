"""Langfuse's attributes on spans, as its SDKs from version 3 on write them.

Names: https://langfuse.com/integrations/native/opentelemetry
"""

from typing import Any

import msgspec

from tunemill.streams.formats.attributes import Reader, given
from tunemill.streams.formats.ending import error_name, finish_reason
from tunemill.streams.formats.json_text import as_text
from tunemill.streams.formats.langfuse_content import read_cost, read_input, read_output, read_parameters, read_usage
from tunemill.streams.formats.litellm import without_personal
from tunemill.streams.formats.shape import JsonObject, as_extra
from tunemill.streams.formats.span import Dialect, Span, Told

_TYPE = "langfuse.observation.type"
_MODEL = "langfuse.observation.model.name"
_KINDS = {
    "embedding": "embeddings",
    "event": "event",
    "agent": "agent",
    "tool": "tool",
    "chain": "chain",
    "retriever": "retrieval",
    "evaluator": "evaluator",
    "guardrail": "guardrail",
}  # of the observations that are no call of a model, as the counter names them
_TOLD_AGAIN = ("langfuse.trace.input", "langfuse.trace.output")  # those of a call of the trace


def _matches(span: Span) -> bool:
    return any(name.startswith("langfuse.") for name in span.attributes)


def _read(span: Span) -> Told:
    reader = Reader(span.attributes)
    kind = reader.text(_TYPE)
    note, own = _read_trace(reader), _read_metadata(reader, "langfuse.observation.metadata")
    reader.drop(*_TOLD_AGAIN)
    reader.under("langfuse.internal.")
    if kind != "generation" and not (kind is None and _MODEL in span.attributes):
        return Told(False, note, frozenset(reader.used), note, _KINDS.get(kind or "", "span"))
    call = _read_call(reader)
    own, ending = _read_ending(own)
    version = {"version": version} if (version := reader.text("langfuse.version")) else {}
    metadata = {**note.get("metadata", {}), "name": span.name, **version, **own}
    return Told(True, given({**note, **ending, **given(call), "metadata": metadata}), frozenset(reader.used), note)


def _read_trace(reader: Reader) -> JsonObject:
    """What holds for every call of the trace."""
    named = {
        "trace_name": reader.text("langfuse.trace.name"),
        "environment": reader.text("langfuse.environment"),
        "release": reader.text("langfuse.release"),
    }
    metadata = {name: value for name, value in named.items() if value is not None}
    return given(
        {
            "user_id": reader.text("user.id", "langfuse.user.id", "langfuse.trace.user_id"),
            "session_id": reader.text("session.id", "langfuse.session.id", "langfuse.trace.session_id"),
            "tags": reader.texts("langfuse.trace.tags"),
            "metadata": {**metadata, **_read_metadata(reader, "langfuse.trace.metadata")},
        }
    )


def _read_metadata(reader: Reader, name: str) -> dict[str, str]:
    """Metadata by its keys; one that is no object stands alone. From version 5 on each value is JSON."""
    found = {**reader.object(name), **reader.under(f"{name}.")}
    if not found and (alone := reader.value(name)) is not None:
        found = {"metadata": alone}
    return {key: _unquoted(value) for key, value in without_personal(found).items()}


def _read_ending(metadata: dict[str, str]) -> tuple[dict[str, str], JsonObject]:
    """The metadata less what Langfuse's wrapper of OpenAI's client put there at the end of a stream, and that as fields."""
    is_response = metadata.get("object") == "response"
    taken = {"object", "id", "status"} if is_response else {"finish_reason"}
    fields = {
        "response_id": metadata.get("id") if is_response else None,
        "finish_reason": finish_reason(metadata.get("finish_reason")) if not is_response else None,
    }
    return {name: text for name, text in metadata.items() if name not in taken}, fields


def _unquoted(value: Any) -> str:
    text = as_text(value)
    if len(text) < 2 or not (text[0] == text[-1] == '"'):
        return text
    try:
        return msgspec.json.decode(text, type=str)
    except (msgspec.DecodeError, ValueError):  # quotation marks of the text's own
        return text


def _read_call(reader: Reader) -> JsonObject:
    messages, tools, asked_rest = read_input(reader.value("langfuse.observation.input"))
    output, reason, answered_rest = read_output(reader.value("langfuse.observation.output"))
    usage, usage_rest = read_usage(reader.value("langfuse.observation.usage_details"))
    cost = reader.object("langfuse.observation.cost_details")
    status_message = reader.value("langfuse.observation.status_message")
    level = reader.text("langfuse.observation.level")
    is_error = level == "ERROR"
    rests = {
        "input": asked_rest,
        "output": answered_rest,
        "usage": usage_rest,
        "cost": {name: item for name, item in cost.items() if name != "total"},
        "error": {"message": status_message} if is_error and status_message else None,
        "level": None if is_error or level == "DEFAULT" else level,
        "status_message": None if is_error else status_message,
    }
    return {
        "messages": messages,
        "output": output,
        "tools": tools,
        "model": reader.text(_MODEL),
        "params": read_parameters(reader.value("langfuse.observation.model.parameters")),
        "usage": usage,
        "cost_usd": read_cost(cost),
        "finish_reason": reason,
        **({"status": "error", "error": error_name(status_message)} if is_error else {}),
        "extra": as_extra(rests),
    }


DIALECT = Dialect("langfuse", _matches, _read)
