"""A span or a log record of OpenTelemetry: a part of a call, a word about its trace, feedback, or no call.

The item is that of `schemas/otlp_item.py`. Spans of one call may be told in several dialects at once: the first that says something
about a field holds it, and the parts of `params`, `metadata` and `extra` are united.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from tunemill.schemas import otlp_json
from tunemill.schemas.ids import span_log_id
from tunemill.schemas.otlp_item import OtlpError
from tunemill.schemas.records import LogRecord
from tunemill.schemas.trace import TraceNote
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import genai, langfuse_otel, openinference, openllmetry
from tunemill.streams.formats.attributes import Reader
from tunemill.streams.formats.fields import read_object, read_text
from tunemill.streams.formats.genai_events import Event, read_event
from tunemill.streams.formats.shape import Arrival, JsonObject, NotACall, Piece, Reading, Shape, as_extra
from tunemill.streams.formats.span import Span, Told
from tunemill.streams.formats.span_extra import app_of, checked_ids, kept, kept_resource, milliseconds

DIALECTS = (langfuse_otel.DIALECT, openinference.DIALECT, openllmetry.DIALECT, genai.DIALECT)

_NO_TIME_NS = 2**64  # OTLP's times have 64 bits; a span that is sent as an item of ours may name any number
_UNITED = ("params", "metadata", "extra")
_KEPT_OF_SPAN = ("name", "kind", "span_id", "parent_span_id", "dropped_attributes", "links")
_NOTED = ("user_id", "session_id", "tags", "metadata")

T = TypeVar("T")


def _matches(value: Mapping[str, Any]) -> bool:
    return ("resource" in value and ("span" in value or "log_record" in value)) or otlp_json.is_request(value)


def _read(value: JsonObject, arrival: Arrival) -> Reading:
    if "span" in value:
        return _read_span(value, arrival)
    if "log_record" in value:
        event = _convert(read_object(value, "log_record"), Event, "log_record")
        return read_event(event, read_object(value, "resource"), arrival)
    raise Undecodable("not_otlp", _why_whole(value))


def _why_whole(request: JsonObject) -> str:
    """Why a request comes here whole: those that are sound are taken apart before."""
    try:
        count = sum(1 for _ in otlp_json.items(request))
    except OtlpError as error:
        return str(error)
    return f"one record was expected, and not a request with {count} spans or log records"


def _read_span(value: JsonObject, arrival: Arrival) -> Reading:
    scope, resource = read_object(value, "scope"), read_object(value, "resource")
    told_span = read_object(value, "span")
    name = read_text(scope, "name", "scope") or ""
    span = _convert({**told_span, "scope": name, "resource": resource}, Span, "span")
    checked_ids(span.trace_id, span.span_id, "span")
    tolds = [dialect.read(span) for dialect in DIALECTS if dialect.matches(span)]
    general = _read_general(span)
    note = _note(span, [*tolds, general])
    calls = [told for told in tolds if told.is_call]
    if calls:
        extra = {"span": _about_span(told_span, scope)}
        return Piece(_log(span, [*tolds, general], extra, arrival), note=_note(span, calls))
    if note is not None:
        return note
    return NotACall(next((told.kind for told in tolds if told.kind != "span"), "span"))


def _read_general(span: Span) -> Told:
    """What any span may say about who called, whatever it tells."""
    reader = Reader(span.attributes)
    named = {"user_id": reader.text("user.id", "enduser.id"), "session_id": reader.text("session.id")}
    note = {name: value for name, value in named.items() if value is not None}
    return Told(False, note, frozenset(reader.used), note)


def _note(span: Span, tolds: Sequence[Told]) -> TraceNote | None:
    """What holds for every call of the trace, if anything was said."""
    said = _united([told.note for told in tolds])
    fields = {name: said[name] for name in _NOTED if said.get(name)}
    return TraceNote(trace_id=span.trace_id, **fields) if fields else None


def _united(parts: Sequence[Mapping[str, Any]]) -> JsonObject:
    """The fields of all parts; where several say one the first holds."""
    united: JsonObject = {}
    for part in parts:
        for name, value in part.items():
            if name == "extra":
                united[name] = _both(united.get(name), value)
            elif name in _UNITED:
                united[name] = {**value, **united.get(name, {})}
            elif name == "tags":
                united[name] = tuple(dict.fromkeys((*united.get(name, ()), *value)))
            else:
                united.setdefault(name, value)
    return united


def _both(first: JsonObject | None, second: JsonObject) -> JsonObject:
    """Both pieces of `extra`; those that are objects of one name are one object."""
    both = dict(second)
    for name, piece in (first or {}).items():
        is_shared = isinstance(piece, dict) and isinstance(both.get(name), dict)
        both[name] = {**both[name], **piece} if is_shared else piece
    return both


def _log(span: Span, tolds: Sequence[Told], extra: JsonObject, arrival: Arrival) -> LogRecord:
    fields = _united([told.fields for told in tolds])
    used = frozenset().union(*(told.used for told in tolds))
    is_error = span.is_error or fields.get("status") == "error"
    extra = _both(
        fields.get("extra"),
        {
            **extra,
            "attributes": kept(span.attributes, used),
            "resource": kept_resource(span.resource),
            "events": _kept_events(span),
            "error": {"message": span.status_message} if span.status_message else None,
        },
    )
    given = {
        "messages": (),
        "app": app_of(span.resource),
        "latency_ms": (span.end_ns - span.start_ns) / 1e6 if 0 < span.start_ns <= span.end_ns < _NO_TIME_NS else None,
        **fields,
        "status": "error" if is_error else "ok",
        "error": (fields.get("error") or _error(span)) if is_error else None,
        "extra": as_extra(extra),
    }
    return LogRecord(
        log_id=span_log_id(span.trace_id, span.span_id),
        ts_ms=milliseconds(span.start_ns or span.end_ns) or arrival.ts_ms,
        source="otlp",
        trace_id=span.trace_id,
        **{name: value for name, value in given.items() if value is not None},
    )


def _error(span: Span) -> str:
    """A short name of the error, from the most telling place."""
    named = [event.attributes.get("exception.type") for event in span.events if event.name == "exception"]
    told = (span.attributes.get("error.type"), *named, span.status_message)
    return next((name for found in told if (name := genai.error_of(found))), "unnamed")


def _kept_events(span: Span) -> list[JsonObject]:
    return [
        {"name": event.name, "time_ns": event.time_ns, "attributes": kept(event.attributes)}
        for event in span.events
        if event.name not in genai.CONTENT_EVENTS
    ]


def _about_span(span: JsonObject, scope: JsonObject) -> JsonObject:
    about = {name: span.get(name) for name in _KEPT_OF_SPAN}
    named = {"scope": scope.get("name"), "scope_version": scope.get("version")}
    return {name: value for name, value in (about | named).items() if value}


def _convert(value: JsonObject, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Undecodable("invalid", f"{where}: {error}") from error


SHAPE = Shape("otlp", _matches, _read, about="a span or log record of OpenTelemetry, or a whole OTLP request")
