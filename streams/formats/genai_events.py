"""OpenTelemetry's log records about calls: the whole content, one message each, or an evaluation. Other records are no calls.

Names: https://github.com/open-telemetry/semantic-conventions/blob/main/docs/gen-ai/gen-ai-events.md
"""

from typing import Any

import msgspec

from tunemill.schemas.ids import span_log_id
from tunemill.schemas.records import Feedback, LogRecord
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.attributes import Reader
from tunemill.streams.formats.genai import CHOICE, DETAILS, MESSAGES, NOT_CALLS, read_call
from tunemill.streams.formats.genai_messages import event_data, read_choice, read_event_message
from tunemill.streams.formats.json_text import read_json
from tunemill.streams.formats.shape import Arrival, JsonObject, NotACall, Piece, Reading, as_extra
from tunemill.streams.formats.span import Attributes
from tunemill.streams.formats.span_extra import app_of, checked_ids, kept, kept_resource, milliseconds

_EVALUATION = "gen_ai.evaluation.result"
_RANK = 0  # below the span's, which says more about everything but the content


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A log record of OpenTelemetry."""

    trace_id: str
    span_id: str
    time_ns: int
    attributes: Attributes
    event_name: str | None = None
    body: Any = None


def read_event(event: Event, resource: Attributes, arrival: Arrival) -> Reading:
    """What a log record tells.

    Raises:
        Undecodable: it tells of a call, and not of which one.
    """
    named = event.event_name or event.attributes.get("event.name")
    name = named if isinstance(named, str) else None
    if name == _EVALUATION:
        return _read_evaluation(event, arrival)
    if name == DETAILS:
        return _read_details(event, resource, arrival)
    if name == CHOICE:
        choice = read_choice(event_data(event.body, event.attributes))
        reason = choice.finish_reason
        rest = {**choice.rest, **({"finish_reason": reason} if reason and choice.index else {})}
        log = msgspec.structs.replace(
            _log(event, resource, arrival, {"choices": {str(choice.index): rest}} if rest else None),
            output=(choice.message,),
            finish_reason=None if choice.index else reason,
        )
        return Piece(log, rank=_RANK, choices=(choice.index,))
    if name in MESSAGES:
        message, rest = read_event_message(MESSAGES[name], event_data(event.body, event.attributes))
        log = _log(event, resource, arrival, {"messages": {str(event.time_ns): rest}} if rest else None)
        return Piece(msgspec.structs.replace(log, messages=(message,)), rank=_RANK, message_ns=(event.time_ns,))
    return NotACall("log_record")


def _log(event: Event, resource: Attributes, arrival: Arrival, extra: JsonObject | None) -> LogRecord:
    """What the event of one message says about its call, less the message."""
    trace_id, span_id = checked_ids(event.trace_id, event.span_id, "log_record")
    reader = Reader(event.attributes)
    provider = reader.text("gen_ai.provider.name", "gen_ai.system")
    reader.drop("event.name")
    left = {} if event.body is None else kept(event.attributes, reader.used)  # without a body they are the message
    return LogRecord(
        log_id=span_log_id(trace_id, span_id),
        ts_ms=milliseconds(event.time_ns) or arrival.ts_ms,
        messages=(),
        source="otlp",
        app=app_of(resource),
        provider=provider,
        trace_id=trace_id,
        extra=as_extra({**(extra or {}), "attributes": left}),
    )


def _read_details(event: Event, resource: Attributes, arrival: Arrival) -> Reading:
    """The whole call, if it is one. Without the ids of a span there is nothing to join it to, and it stands alone."""
    body = read_json(event.body)
    attributes = {**(body if isinstance(body, dict) else {}), **event.attributes}
    reader = Reader(attributes)
    reader.drop("event.name")
    operation = reader.text("gen_ai.operation.name")
    if operation in NOT_CALLS:
        return NotACall(NOT_CALLS[operation])
    fields = read_call(reader)
    rests = {"attributes": kept(attributes, reader.used), "resource": kept_resource(resource)}
    fields["extra"] = {**fields.get("extra", {}), **{name: rest for name, rest in rests.items() if rest}} or None
    given: JsonObject = {
        "app": app_of(resource),
        "ts_ms": milliseconds(event.time_ns) or arrival.ts_ms,
        "source": "otlp",
    }
    if not event.span_id:
        return LogRecord(log_id=arrival.log_id, **{"messages": (), **given, **fields})
    trace_id, span_id = checked_ids(event.trace_id, event.span_id, "log_record")
    ids = {"log_id": span_log_id(trace_id, span_id), "trace_id": trace_id}
    return Piece(LogRecord(**{"messages": (), **given, **fields, **ids}), rank=_RANK)


def _read_evaluation(event: Event, arrival: Arrival) -> Feedback:
    reader = Reader(event.attributes)
    name, response_id = reader.text("gen_ai.evaluation.name"), reader.text("gen_ai.response.id")
    if not name:
        raise Undecodable("invalid", "gen_ai.evaluation.name is missing")
    log_id = trace_id = None
    if event.span_id:
        log_id = span_log_id(*checked_ids(event.trace_id, event.span_id, "log_record"))
    else:
        trace_id = event.trace_id or None
    if log_id is None and trace_id is None and response_id is None:
        raise Undecodable("invalid", "an evaluation names neither a span nor a trace nor a response")
    return Feedback(
        feedback_id=arrival.log_id,
        ts_ms=milliseconds(event.time_ns) or arrival.ts_ms,
        name=name,
        log_id=log_id,
        response_id=response_id,
        trace_id=trace_id,
        score=reader.number("gen_ai.evaluation.score.value"),
        label=reader.text("gen_ai.evaluation.score.label"),
        comment=reader.text("gen_ai.evaluation.explanation"),
    )
