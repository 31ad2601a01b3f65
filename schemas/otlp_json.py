"""OTLP requests in JSON -> items, and into messages for the bus. What one field holds spoils no other: an odd one is left out."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from tunemill.schemas.otlp_item import (
    MAX_CUT_RECORDS,
    MAX_DEPTH,
    SPAN_KINDS,
    Cut,
    Item,
    OtlpError,
    Signal,
    TooLarge,
    is_safe,
    span_kind,
    too_large,
    too_many,
)

_MAX_NS = 2**64 - 1  # fixed64
_MAX_DIGITS = 20  # of such a number
_ERROR = 2  # of a span's status


class _Names(NamedTuple):
    """What the three levels of lists are called."""

    resources: str
    scopes: str
    records: str


_NAMES: dict[Signal, _Names] = {
    "traces": _Names("resourceSpans", "scopeSpans", "spans"),
    "logs": _Names("resourceLogs", "scopeLogs", "logRecords"),
}


def parse(payload: bytes) -> Any:
    """The JSON value in these bytes.

    Raises:
        OtlpError: there is none.
    """
    try:
        return msgspec.json.decode(payload)
    except RecursionError as error:
        raise OtlpError("too_deep", "arrays and objects are nested too deep") from error
    except (msgspec.DecodeError, ValueError) as error:  # ValueError: bad UTF-8, numbers of thousands of digits
        raise OtlpError("not_otlp", "the bytes are no OTLP request, neither protobuf nor JSON") from error


def is_request(value: Mapping[str, Any]) -> bool:
    """Whether this JSON object is named like a request."""
    return any(names.resources in value for names in _NAMES.values())


def items(request: Any) -> Iterator[Item]:
    """Each span and log record of one request.

    Raises:
        OtlpError: it is none, or a list or an object in it is something else.
    """
    if not isinstance(request, dict) or not is_request(request):
        raise OtlpError("not_otlp", "the request has neither resourceSpans nor resourceLogs")
    yield from _items(request, "traces", "span", _span)
    yield from _items(request, "logs", "log_record", _log_record)


def _items(request: Item, signal: Signal, name: str, read: Callable[[Item], Item]) -> Iterator[Item]:
    for resource, scope, records in _scopes(request, _NAMES[signal]):
        around = _around(resource, scope)
        for record in records:
            yield {**around, name: read(record)}


def _scopes(request: Item, names: _Names) -> Iterator[tuple[Item, Item, list[Item]]]:
    """(what holds the resource, what holds the scope, the records) of each scope."""
    for resource in _objects(request, names.resources):
        for scope in _objects(resource, names.scopes):
            yield resource, scope, _objects(scope, names.records)


def _objects(value: Mapping[str, Any], name: str) -> list[Item]:
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise OtlpError("not_otlp", f"{name} is not a list of objects")
    return found


def _around(resource: Item, scope: Item) -> Item:
    about, by = resource.get("resource"), scope.get("scope")
    return {
        "resource": _attributes(about.get("attributes") if isinstance(about, dict) else None),
        "scope": {name: _text(by.get(name)) if isinstance(by, dict) else "" for name in ("name", "version")},
    }


def _span(span: Item) -> Item:
    given = span.get("status")
    status: Item = given if isinstance(given, dict) else {}
    item: Item = {
        "trace_id": _hex(span, "traceId"),
        "span_id": _hex(span, "spanId"),
        "parent_span_id": _hex(span, "parentSpanId") or None,
        "name": _text(span.get("name")),
        "kind": _kind(span.get("kind")),
        "start_ns": _nanoseconds(span, "startTimeUnixNano"),
        "end_ns": _nanoseconds(span, "endTimeUnixNano"),
        "attributes": _attributes(span.get("attributes")),
        "events": [
            {
                "name": _text(event.get("name")),
                "time_ns": _nanoseconds(event, "timeUnixNano"),
                "attributes": _attributes(event.get("attributes")),
            }
            for event in _objects(span, "events")
        ],
        "is_error": status.get("code") in (_ERROR, "STATUS_CODE_ERROR"),
        "status_message": _text(status.get("message")) or None,
    }
    if dropped := _integer(span.get("droppedAttributesCount")):
        item["dropped_attributes"] = dropped
    links = _objects(span, "links")
    if links:
        item["links"] = [
            {
                "trace_id": _hex(link, "traceId"),
                "span_id": _hex(link, "spanId"),
                "attributes": _attributes(link.get("attributes")),
            }
            for link in links
        ]
    return item


def _log_record(record: Item) -> Item:
    return {
        "trace_id": _hex(record, "traceId"),
        "span_id": _hex(record, "spanId"),
        "time_ns": _nanoseconds(record, "timeUnixNano") or _nanoseconds(record, "observedTimeUnixNano"),
        "event_name": _text(record.get("eventName")) or None,
        "body": _value(record.get("body"), 0),
        "attributes": _attributes(record.get("attributes")),
    }


def _kind(kind: Any) -> str:
    if isinstance(kind, str):
        name = kind.removeprefix("SPAN_KIND_").lower()
        return name if name in SPAN_KINDS else SPAN_KINDS[0]
    return span_kind(kind) if isinstance(kind, int) else SPAN_KINDS[0]


def _hex(value: Item, name: str) -> str:
    return _text(value.get(name)).lower()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _nanoseconds(value: Item, name: str) -> int:
    """The time, which JSON writes as text because of its size; 0, as in protobuf, where there is none."""
    found = _integer(value.get(name))
    return found if found is not None and 0 <= found <= _MAX_NS else 0


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and len(value) <= _MAX_DIGITS:
        try:
            return int(value)
        except ValueError:
            return None
    return value if isinstance(value, int) else None


def _attributes(pairs: Any, depth: int = 0) -> Item:
    if not isinstance(pairs, list):
        return {}
    return {
        pair["key"]: _value(pair.get("value"), depth)
        for pair in pairs
        if isinstance(pair, dict) and isinstance(pair.get("key"), str) and is_safe(pair["key"])
    }


def _value(value: Any, depth: int) -> Any:
    """The value in an AnyValue. One that is none, a plain string instead of an object, is taken at its word."""
    if not isinstance(value, dict):
        return None if isinstance(value, list) else value
    for name, read in _READ.items():
        if name in value:
            return read(value[name], depth)
    return None


def _array(value: Any, depth: int) -> Any:
    if depth == MAX_DEPTH or not isinstance(value, dict):
        return None
    values = value.get("values")
    return [_value(child, depth + 1) for child in values] if isinstance(values, list) else []


def _object(value: Any, depth: int) -> Any:
    if depth == MAX_DEPTH or not isinstance(value, dict):
        return None
    return _attributes(value.get("values"), depth + 1)


_READ: dict[str, Callable[[Any, int], Any]] = {
    "stringValue": lambda value, _: value if isinstance(value, str) else None,
    "intValue": lambda value, _: _integer(value),
    "doubleValue": lambda value, _: value if isinstance(value, int | float) else None,  # NaN and the like come as text
    "boolValue": lambda value, _: value if isinstance(value, bool) else None,
    "arrayValue": _array,
    "kvlistValue": _object,
    "bytesValue": lambda value, _: value if isinstance(value, str) else None,  # base64 already
}


def cut(body: bytes, signal: Signal, max_bytes: int, most: int | None) -> Cut:
    """A request's body as messages of at most `max_bytes`: a line for each record, and each line a request again.

    Raises:
        OtlpError: it is not a request of this signal, or holds more than `most` records.
    """
    names = _NAMES[signal]
    request = parse(body)
    if not isinstance(request, dict) or (request and names.resources not in request):
        raise OtlpError("not_otlp", f"the request has no {names.resources}")
    if all(names.resources in request for names in _NAMES.values()):
        raise OtlpError("not_otlp", "the request holds traces and logs, which no OTLP request does")
    if most is not None and sum(len(records) for _, _, records in _scopes(request, names)) > most:
        raise too_many(most)
    messages: list[bytes] = []
    refused: list[TooLarge] = []
    lines: list[bytes] = []
    place = used = 0
    for place, line in enumerate(_lines(request, names), 1):
        if len(line) > max_bytes:
            refused.append(too_large(place - 1, len(line), max_bytes))
            continue
        if used + len(line) > max_bytes or len(lines) == MAX_CUT_RECORDS:
            messages.append(b"\n".join(lines))
            lines, used = [], 0
        lines.append(line)
        used += len(line) + 1
    return Cut([*messages, b"\n".join(lines)] if lines else messages, place, refused)


def _lines(request: Item, names: _Names) -> Iterator[bytes]:
    """Each record as a request of its own."""
    for resource, scope, records in _scopes(request, names):
        for record in records:
            one = {**resource, names.scopes: [{**scope, names.records: [record]}]}
            try:
                yield msgspec.json.encode({names.resources: [one]})
            except RecursionError as error:
                raise OtlpError("too_deep", "arrays and objects are nested too deep") from error
