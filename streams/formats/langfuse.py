"""One event of a Langfuse ingestion batch: `{id, timestamp, type, body}`, as the SDKs before OpenTelemetry send them.

Field names: https://github.com/langfuse/langfuse/blob/main/fern/apis/server/definition/ingestion.yml
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tunemill.schemas.ids import MAX_LOG_ID_CHARS, payload_log_id, span_log_id
from tunemill.schemas.records import Feedback, LogRecord, Usage
from tunemill.schemas.trace import TraceNote
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.ending import error_name
from tunemill.streams.formats.fields import read_list, read_text
from tunemill.streams.formats.json_text import as_text
from tunemill.streams.formats.langfuse_content import (
    read_cost,
    read_input,
    read_output,
    read_parameters,
    read_usage,
)
from tunemill.streams.formats.litellm import without_personal
from tunemill.streams.formats.shape import (
    Arrival,
    JsonObject,
    NotACall,
    Piece,
    Reading,
    Shape,
    as_extra,
    left_over,
    read_metadata,
)
from tunemill.streams.formats.times import read_iso_ms

_CREATED, _UPDATED = 0, 1  # ranks: an update says what was not known, or was wrong, at the beginning
_NAMED = {"name": "name", "version": "version", "release": "release", "environment": "environment"}
_NAMED_OF_TRACE = {**_NAMED, "name": "trace_name"}
_BESIDE_CONTENT = frozenset(("id", "metadata", *_NAMED))
_CALL_FIELDS = _BESIDE_CONTENT | {
    *("traceId", "type", "input", "output", "startTime", "endTime", "model", "modelParameters", "trace"),
    *("usage", "usageDetails", "costDetails", "level", "statusMessage", "user_id"),
}
_TRACE_FIELDS = _BESIDE_CONTENT | {"timestamp", "userId", "sessionId", "tags", "input", "output", "public"}
_OLDER_COSTS = {"total": "totalCost", "input": "inputCost", "output": "outputCost"}
_OLDER_FIELDS = frozenset((*_OLDER_COSTS.values(), "unit"))
_TOTAL = frozenset(("total",))
_FLOAT = re.compile(r"-?\d+(\.\d+(e[+-]?\d+)?|e[+-]?\d+)")  # as Python and JavaScript write one
_KINDS = {
    "SPAN": "span",
    "EVENT": "event",
    "EMBEDDING": "embeddings",
    "AGENT": "agent",
    "TOOL": "tool",
    "CHAIN": "chain",
    "RETRIEVER": "retrieval",
    "EVALUATOR": "evaluator",
    "GUARDRAIL": "guardrail",
}  # of the observations that are no call of a model, as the counter names them


def _matches(value: Mapping[str, Any]) -> bool:
    return "type" in value and "body" in value and "timestamp" in value


def _read(value: JsonObject, arrival: Arrival) -> Reading:
    kind = read_text(value, "type")
    read = _EVENTS.get(kind or "")
    if read is None:
        raise Undecodable("unknown_shape", "type is none of the events of a Langfuse batch")
    if not read_text(value, "id"):
        raise Undecodable("invalid", "id is missing")
    if not isinstance(value["body"], dict):
        raise Undecodable("invalid", "body is not an object")
    told_ms = read_iso_ms(value, "timestamp")
    return read(value["body"], value["id"], arrival.ts_ms if told_ms is None else told_ms)


def _read_generation(body: JsonObject, event_id: str, told_ms: float, *, rank: int) -> Piece:
    """What the event says about a call; what it leaves out, another event of the same call may say."""
    start_ms, end_ms = read_iso_ms(body, "startTime", "body"), read_iso_ms(body, "endTime", "body")
    observation_id, trace_id = read_text(body, "id", "body") or event_id, read_text(body, "traceId", "body")
    messages, tools, asked = read_input(body.get("input"))
    output, finish_reason, answered = read_output(body.get("output"))
    usage, cost_usd, counted = _read_usage(body)
    failed = body.get("level") == "ERROR"
    log = LogRecord(
        log_id=span_log_id(trace_id, observation_id) if trace_id else observation_id,
        ts_ms=int(told_ms if start_ms is None else start_ms),
        source="langfuse",
        messages=messages,
        output=output,
        model=read_text(body, "model", "body"),
        tools=tools,
        params=_read_parameters(body),
        usage=usage,
        cost_usd=cost_usd,
        latency_ms=None if start_ms is None or end_ms is None else end_ms - start_ms,
        finish_reason=finish_reason,
        status="error" if failed else "ok",
        error=error_name(body.get("statusMessage")) if failed else None,
        trace_id=trace_id,
        user_id=read_text(body, "user_id", "body"),  # so the wrapper of OpenAI in SDK 2 spells it
        metadata=_read_metadata({**_of_trace(body), **body}, _NAMED),
        # by the names of the body, so that what an update adds joins what the beginning said
        extra=as_extra(
            {
                **left_over(body, _CALL_FIELDS),
                **counted,
                "level": None if failed or body.get("level") == "DEFAULT" else body.get("level"),
                "error" if failed else "statusMessage": body.get("statusMessage"),
                "input": asked,
                "output": answered,
            }
        ),
    )
    return Piece(log, rank=rank, end_ms=end_ms)


def _of_trace(body: JsonObject) -> JsonObject:
    """What SDK 2 says about the trace with each of its calls: the release."""
    found = body.get("trace")
    return found if isinstance(found, dict) else {}


def _read_observation(body: JsonObject, event_id: str, told_ms: float, *, rank: int) -> Reading:
    kind = read_text(body, "type", "body")
    if kind == "GENERATION":
        return _read_generation(body, event_id, told_ms, rank=rank)
    return NotACall(_KINDS.get(kind or "", "span"))


def _read_trace(body: JsonObject, _event_id: str, _told_ms: float) -> TraceNote | NotACall:
    """What holds for all calls of the trace. Its input and output are those of a call, told again."""
    trace_id = read_text(body, "id", "body")
    tags = read_list(body, "tags", "body")
    if not all(isinstance(tag, str) for tag in tags):
        raise Undecodable("invalid", "body.tags is not a list of text")
    said: JsonObject = {
        "user_id": read_text(body, "userId", "body"),
        "session_id": read_text(body, "sessionId", "body"),
        "tags": tuple(tags),
        "metadata": read_metadata(left_over(body, _TRACE_FIELDS)) | _read_metadata(body, _NAMED_OF_TRACE),
    }
    if not trace_id or not any(said.values()):
        return NotACall("trace")
    return TraceNote(trace_id=trace_id, **said)


def _read_score(body: JsonObject, event_id: str, told_ms: float) -> Feedback | NotACall:
    """What somebody thought of one call, or of all calls of a trace. One of a session or of an experiment names no call."""
    trace_id, observation_id = read_text(body, "traceId", "body"), read_text(body, "observationId", "body")
    name, kind, value = read_text(body, "name", "body"), read_text(body, "dataType", "body"), body.get("value")
    if not name:
        raise Undecodable("invalid", "body.name is missing")
    if not trace_id:
        if not any(read_text(body, field, "body") for field in ("sessionId", "datasetRunId")):
            raise Undecodable("invalid", "body names neither a trace nor a session nor an experiment")
        return NotACall("score")
    own_ms = read_iso_ms(body, "timestamp", "body")
    return Feedback(
        feedback_id=_storable_id(read_text(body, "id", "body") or event_id),
        ts_ms=int(told_ms if own_ms is None else own_ms),
        name=name,
        log_id=span_log_id(trace_id, observation_id) if observation_id else None,
        trace_id=None if observation_id else trace_id,
        **_read_value(value, name, kind, read_text(body, "comment", "body")),
    )


def _read_value(value: Any, name: str, kind: str | None, comment: str | None) -> JsonObject:
    """The value as the field that it belongs in, and the comment."""
    if isinstance(value, int | float):  # truth values, too
        if not abs(value) <= sys.float_info.max:
            raise Undecodable("invalid", "body.value is not a finite number")
        return {"score": float(value), "comment": comment}
    if not isinstance(value, str):
        raise Undecodable("invalid", "body.value is neither a number nor text")
    if kind == "CORRECTION" or name == "output":
        return {"correction": value, "comment": comment}
    if kind == "TEXT":
        return {"comment": f"{value}\n{comment}" if comment else value}
    return {"label": value, "comment": comment}


def _read_usage(body: JsonObject) -> tuple[Usage, float | None, JsonObject]:
    """Tokens, cost, and what else is said about them. `usage` is the older field, and says less where both are there."""
    older, details = body.get("usage"), body.get("usageDetails")
    in_tokens = not isinstance(older, dict) or older.get("unit") in (None, "TOKENS")
    told = details if isinstance(details, dict) and details else older if in_tokens else None
    usage, rest = read_usage(told)
    cost_usd = read_cost(body.get("costDetails"))
    if isinstance(older, dict):
        if cost_usd is None:
            cost_usd = read_cost({ours: older.get(theirs) for ours, theirs in _OLDER_COSTS.items() if theirs in older})
        rest = left_over(rest, _OLDER_FIELDS) if in_tokens else {**rest, "older": older}
    cost = body.get("costDetails")
    return usage, cost_usd, {"usage": rest, "cost": left_over(cost, _TOTAL) if isinstance(cost, dict) else cost}


def _read_parameters(body: JsonObject) -> JsonObject | None:
    """The model's parameters. SDK 2 makes text of those that are no whole numbers; here they are numbers again."""
    found = read_parameters(body.get("modelParameters"))
    return found and {name: float(item) if _is_float(item) else item for name, item in found.items()}


def _is_float(item: Any) -> bool:
    return isinstance(item, str) and _FLOAT.fullmatch(item) is not None and math.isfinite(float(item))


def _read_metadata(body: JsonObject, names: Mapping[str, str]) -> dict[str, str]:
    """Metadata, which may be any JSON; what Langfuse has names for stands among it, the application's own keys go first."""
    given = body.get("metadata")
    found = (
        {}
        if given is None
        else read_metadata(without_personal(given))
        if isinstance(given, dict)
        else {"metadata": as_text(given)}
    )
    named = {ours: as_text(body[theirs]) for theirs, ours in names.items() if body.get(theirs) is not None}
    return named | found


def _storable_id(text: str) -> str:
    return text if len(text) <= MAX_LOG_ID_CHARS and text.isprintable() else payload_log_id(text.encode())


def _no_call(_body: JsonObject, _event_id: str, _told_ms: float, *, kind: str) -> NotACall:
    return NotACall(kind)


_EVENTS: Mapping[str, Callable[[JsonObject, str, float], Reading]] = {
    "trace-create": _read_trace,
    "score-create": _read_score,
    "generation-create": partial(_read_generation, rank=_CREATED),
    "generation-update": partial(_read_generation, rank=_UPDATED),
    "observation-create": partial(_read_observation, rank=_CREATED),
    "observation-update": partial(_read_observation, rank=_UPDATED),
    "sdk-log": partial(_no_call, kind="sdk_log"),
    **{
        f"{kind.lower()}-{step}": partial(_no_call, kind=name)
        for kind, name in _KINDS.items()
        for step in ("create", "update")
    },
}
SHAPE = Shape("langfuse", _matches, _read, about="an event of a Langfuse ingestion batch: generation, trace or score")
