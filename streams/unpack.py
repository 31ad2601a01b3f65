"""One message's bytes -> the records in it. Pure. How many a message holds is told by its form, and nothing is announced."""

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from tunemill.schemas import otlp, wire
from tunemill.schemas.ids import canonical_json
from tunemill.schemas.otlp_item import OtlpError
from tunemill.schemas.records import LogRecord
from tunemill.streams.confluent import Schemas, is_framed, read_frame
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import JsonObject
from tunemill.streams.formats.tunemill_record import WrittenLog, read_as_written

MAX_RECORDS = 10_000  # in one message; each of its records may need a dead letter of its own

# JSON or Avro of one record; a log as we write it, or of an Avro batch; a span or log record of OTLP, or what a frame holds.
Record = bytes | WrittenLog | LogRecord | JsonObject

_OTLP_NAMES = (b'"resourceSpans"', b'"resourceLogs"')


class _Batch(msgspec.Struct):
    """The body of Langfuse's ingestion API. Beside messages or a request, a field `batch` is something else."""

    batch: list[msgspec.Raw]
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    request: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def unpack(value: bytes, schemas: Schemas | None = None) -> list[Record]:
    """The records in a message: one, or those of a JSON array, of NDJSON, of an Avro batch, of OTLP requests or Langfuse batches.

    Args:
        schemas: those of Confluent's frames; None when there is no schema registry.

    Raises:
        Undecodable: the message is torn, or holds too many records.
    """
    try:
        records = list(islice(_records(value, schemas), MAX_RECORDS + 1))
    except (OtlpError, wire.WireError) as error:
        raise Undecodable(error.code, str(error)) from error
    if len(records) > MAX_RECORDS:
        raise Undecodable("too_many", f"the message holds more than {MAX_RECORDS} records")
    return records


def as_bytes(record: Record) -> bytes:
    """A record as a message of its own: the same log, with the same id."""
    if isinstance(record, LogRecord):
        return wire.encode(record)
    if isinstance(record, WrittenLog):
        return record.payload
    return record if isinstance(record, bytes) else canonical_json(record)


def records_in(value: bytes) -> list[bytes]:
    """The records in a message, each as a message of its own; none where it cannot be taken apart without a schema registry."""
    try:
        return [as_bytes(record) for record in unpack(value)]
    except Exception:  # whatever the bytes lead it to: the message was rejected for something
        return []


def _records(value: bytes, schemas: Schemas | None) -> Iterator[Record]:
    if is_framed(value):
        yield from read_frame(value, schemas)
        return
    if value.startswith(otlp.PROTOBUF_BYTE):
        try:
            yield from otlp.items(value, most=MAX_RECORDS)
            return
        except OtlpError:
            if value.lstrip()[:1] not in (b"", b"{", b"["):  # JSON, or nothing at all
                raise
    for record in wire.unpack(value):
        yield from _opened(record) if isinstance(record, bytes) else (record,)


def _opened(record: bytes) -> Sequence[Record]:
    """What is inside a request or a batch in JSON. One that is broken stays whole, and is refused where it is decoded."""
    if (written := read_as_written(record)) is not None:
        return (written,)
    if any(name in record for name in _OTLP_NAMES):
        try:
            return otlp.items(record, most=MAX_RECORDS)
        except OtlpError as error:
            if error.code == "too_many":
                raise
            return [record]
    if b'"batch"' in record:
        try:
            found = msgspec.json.decode(record, type=_Batch)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return [record]
        if found.messages is msgspec.UNSET and found.request is msgspec.UNSET:
            return [bytes(item) for item in found.batch]
    return [record]
