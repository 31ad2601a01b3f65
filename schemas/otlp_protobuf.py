"""OTLP requests in protobuf -> items, and into messages for the bus."""

import base64
import math
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from tunemill.schemas.otlp_item import (
    MAX_CUT_RECORDS,
    MAX_DEPTH,
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

_TRACE_ID_BYTES = 16
_FRAME_BYTES = 32  # more than the tags and lengths around one record take
_BINARY = frozenset(("trace_id", "span_id", "parent_span_id", "bytes_value"))


def items(payload: bytes) -> Iterator[Item]:
    """Each span or log record of one request.

    Raises:
        OtlpError: the bytes are no request, or hold neither traces nor logs.
    """
    data = _parse(payload, (TracesData, LogsData))
    read = _span_items if isinstance(data, TracesData) else _log_items
    return read(data)


def with_strings(payload: bytes, change: Callable[[str], str]) -> bytes:
    """A request with each of its strings changed, and without fields that OTLP does not know.

    Raises:
        OtlpError: the bytes are no request, or hold neither traces nor logs.
    """
    data = _parse(payload, (TracesData, LogsData))
    data.DiscardUnknownFields()
    _change_strings(data, change)
    return bytes(data.SerializeToString())


def _change_strings(message: Any, change: Callable[[str], str]) -> None:
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in [value] if hasattr(value, "ListFields") else value:
                _change_strings(one, change)
        elif field.type == field.TYPE_STRING:
            if isinstance(value, str):
                setattr(message, field.name, change(value))
            else:
                value[:] = map(change, value)


def cut(body: bytes, signal: Signal, max_bytes: int, most: int | None) -> Cut:
    """A request's body as messages of at most `max_bytes`, each a request again.

    Raises:
        OtlpError: it is not a request of this signal, or holds more than `most` records.
    """
    kind: Any = TracesData if signal == "traces" else LogsData
    data = _parse(body, (kind,))
    if most is not None and sum(len(records) for _, _, records in _scopes(data)) > most:
        raise too_many(most)
    filling = _Filling(kind, max_bytes)
    refused: list[TooLarge] = []
    place = 0
    for resource, scope, records in _scopes(data):
        head = _head(resource, scope, kind)
        for record in records:
            size = filling.add(head, record)
            if size:
                refused.append(too_large(place, size, max_bytes))
            place += 1
    return Cut(filling.finished(), place, refused)


class _Filling:
    """Messages that are filled one after another, records of one scope together."""

    def __init__(self, kind: Any, max_bytes: int) -> None:
        self._kind, self._max_bytes = kind, max_bytes
        self._messages: list[bytes] = []
        self._head: Any = None  # that of the scope which is being filled
        self._target: Any = None  # its list of records
        self._start()

    def add(self, head: Any, record: Any) -> int:
        """Put the record behind the others of its scope; if no message can hold it, its size is returned instead of 0."""
        size: int = record.ByteSize() + _FRAME_BYTES
        head_bytes: int = head.ByteSize() + _FRAME_BYTES
        if head_bytes + size > self._max_bytes:
            return size + head_bytes
        if self._bytes + size + head_bytes > self._max_bytes or self._records == MAX_CUT_RECORDS:
            self._finish()
        if self._head is not head:
            self._head, self._target = head, _merged(self._message, head)
            self._bytes += head_bytes
        self._target.add().CopyFrom(record)
        self._bytes += size
        self._records += 1
        return 0

    def finished(self) -> list[bytes]:
        self._finish()
        return self._messages

    def _start(self) -> None:
        self._message, self._bytes, self._records = self._kind(), 0, 0
        self._head = self._target = None

    def _finish(self) -> None:
        if self._records:
            self._messages.append(self._message.SerializeToString())
        self._start()


def _merged(message: Any, head: Any) -> Any:
    """The list of records of the head's scope, now part of the message."""
    message.MergeFrom(head)
    *_, (_, _, records) = _scopes(message)
    return records


def _parse(payload: bytes, kinds: Sequence[Any]) -> Any:
    """The request as the first of these kinds that its bytes are."""
    for read in (_strictly, _leniently):
        for kind in kinds:
            data = read(payload, kind)
            if data is not None and (len(kinds) == 1 or _holds_records(data)):
                return data
    raise OtlpError("not_otlp", "the bytes are no OTLP request with traces or logs")


def _strictly(payload: bytes, kind: Any) -> Any:
    try:
        return kind.FromString(payload)
    except DecodeError:
        return None


def _leniently(payload: bytes, kind: Any) -> Any:
    """The request with its text mended where that is no UTF-8, as some producers cut text in the midst of a character."""
    try:
        data = _untyped(kind.DESCRIPTOR.full_name).FromString(payload)
    except DecodeError:
        return None
    _mend_text(data)
    return _strictly(data.SerializeToString(), kind)


def _holds_records(data: TracesData | LogsData) -> bool:
    """Whether there is any record. A span's ids are of another wire type than what a log record has at their place."""
    if isinstance(data, TracesData):
        return any(span.trace_id or span.span_id for _, _, spans in _scopes(data) for span in spans)
    logs = [record for _, _, records in _scopes(data) for record in records]
    return bool(logs) and all(len(record.trace_id) in (0, _TRACE_ID_BYTES) for record in logs)


@cache
def _untyped(name: str) -> Any:
    """The message class of this name whose text is bytes, so that nothing asks for UTF-8."""
    pool = descriptor_pool.DescriptorPool()
    for source in _files(TracesData.DESCRIPTOR.file, LogsData.DESCRIPTOR.file):
        file = descriptor_pb2.FileDescriptorProto()
        source.CopyToProto(file)
        for message in _messages(file.message_type):
            for field in message.field:
                if field.type == field.TYPE_STRING:
                    field.type = field.TYPE_BYTES
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _files(*roots: Any) -> Iterable[Any]:
    """These files and those that they import, each after its own imports."""
    found: dict[str, Any] = {}
    for root in roots:
        for file in (*_files(*root.dependencies), root):
            found.setdefault(file.name, file)
    return found.values()


def _messages(messages: Iterable[Any]) -> Iterator[Any]:
    for message in messages:
        yield message
        yield from _messages(message.nested_type)


def _mend_text(message: Any) -> None:
    for field, value in message.ListFields():
        is_list = isinstance(value, MutableSequence)
        if field.type == field.TYPE_MESSAGE:
            for child in value if is_list else (value,):
                _mend_text(child)
        elif field.name in _BINARY or field.type != field.TYPE_BYTES:
            continue
        elif is_list:
            value[:] = [_mended(text) for text in value]
        else:
            setattr(message, field.name, _mended(value))


def _mended(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()


def _scopes(data: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(what holds the resource, what holds the scope, the records) of each scope."""
    if isinstance(data, TracesData):
        for resource in data.resource_spans:
            for scope in resource.scope_spans:
                yield resource, scope, scope.spans
    else:
        for resource in data.resource_logs:
            for scope in resource.scope_logs:
                yield resource, scope, scope.log_records


def _span_items(data: Any) -> Iterator[Item]:
    for resource, scope, spans in _scopes(data):
        around = _around(resource, scope)
        for span in spans:
            yield {**around, "span": _span(span)}


def _log_items(data: Any) -> Iterator[Item]:
    for resource, scope, records in _scopes(data):
        around = _around(resource, scope)
        for record in records:
            yield {**around, "log_record": _log_record(record)}


def _around(resource: Any, scope: Any) -> Item:
    return {
        "resource": _attributes(resource.resource.attributes),
        "scope": {"name": scope.scope.name, "version": scope.scope.version},
    }


def _span(span: Span) -> Item:
    item: Item = {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "name": span.name,
        "kind": span_kind(span.kind),
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
        "attributes": _attributes(span.attributes),
        "events": [
            {"name": event.name, "time_ns": event.time_unix_nano, "attributes": _attributes(event.attributes)}
            for event in span.events
        ],
        "is_error": span.status.code == Status.STATUS_CODE_ERROR,
        "status_message": span.status.message or None,
    }
    if span.dropped_attributes_count:
        item["dropped_attributes"] = span.dropped_attributes_count
    if span.links:
        item["links"] = [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "attributes": _attributes(link.attributes),
            }
            for link in span.links
        ]
    return item


def _log_record(record: LogRecord) -> Item:
    return {
        "trace_id": record.trace_id.hex(),
        "span_id": record.span_id.hex(),
        "time_ns": record.time_unix_nano or record.observed_time_unix_nano,
        "event_name": record.event_name or None,
        "body": _value(record.body, 0),
        "attributes": _attributes(record.attributes),
    }


def _attributes(pairs: Any, depth: int = 0) -> Item:
    return {pair.key: _value(pair.value, depth) for pair in pairs if is_safe(pair.key)}


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind == "string_value":  # nearly all are text
        return value.string_value
    return _READ[kind](value, depth) if kind in _READ else None


def _double(value: Any, _: int) -> float | None:
    return value.double_value if math.isfinite(value.double_value) else None


def _array(value: Any, depth: int) -> Any:
    return None if depth == MAX_DEPTH else [_value(child, depth + 1) for child in value.array_value.values]


def _object(value: Any, depth: int) -> Any:
    return None if depth == MAX_DEPTH else _attributes(value.kvlist_value.values, depth + 1)


_READ: dict[str, Callable[[Any, int], Any]] = {
    "bool_value": lambda value, _: value.bool_value,
    "int_value": lambda value, _: value.int_value,
    "double_value": _double,
    "array_value": _array,
    "kvlist_value": _object,
    "bytes_value": lambda value, _: base64.b64encode(value.bytes_value).decode(),
}


def _head(resource: Any, scope: Any, kind: Any) -> Any:
    """A request with this resource and scope and no records."""
    head = kind()
    if isinstance(head, TracesData):
        outer = head.resource_spans.add(schema_url=resource.schema_url)
        inner = outer.scope_spans.add(schema_url=scope.schema_url)
    else:
        outer = head.resource_logs.add(schema_url=resource.schema_url)
        inner = outer.scope_logs.add(schema_url=scope.schema_url)
    outer.resource.CopyFrom(resource.resource)
    inner.scope.CopyFrom(scope.scope)
    return head
