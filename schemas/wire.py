"""Bytes <-> records: Avro single-object encoding and JSON, one record or many in a message. The only module that knows Avro.

Single-object encoding is `C3 01`, the schema's 64-bit CRC-64-AVRO fingerprint little-endian, then the body
(https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding).
"""

import io
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar, cast

import fastavro
import msgspec
from fastavro.read import LOGICAL_READERS
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form
from fastavro.write import LOGICAL_WRITERS

from tunemill.schemas import records
from tunemill.schemas.packing import split
from tunemill.schemas.records import LogBatch, LogRecord

MARKER = b"\xc3\x01"
HEADER_BYTES = 10  # the marker and the fingerprint

# In an order in which each schema names only earlier ones.
SCHEMAS: dict[str, type[msgspec.Struct]] = {
    "tool_call": records.ToolCall,
    "message": records.Message,
    "usage": records.Usage,
    "log_record": records.LogRecord,
    "tag": records.Tag,
    "edit": records.Edit,
    "said": records.Said,
    "tagged_log": records.TaggedLog,
    "feedback": records.Feedback,
    "rejected_log": records.RejectedLog,
    "dataset_ready": records.DatasetReady,
    "dataset_redacted": records.DatasetRedacted,
    "run_status": records.RunStatus,
    "run_finished": records.RunFinished,
    "erasure": records.Erasure,
    "log_batch": records.LogBatch,
}

# Records whose schema has grown: the version that is written. Earlier ones stay beside it and are read for ever.
VERSIONS = {"tagged_log": 3, "rejected_log": 2, "dataset_ready": 2}

T = TypeVar("T", bound=msgspec.Struct)


def _json_value(text: str) -> Any:
    """The value in a `Json` field. Text that is no JSON stays text: one such field must not spoil a whole `LogBatch`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):  # ValueError: numbers of thousands of digits
        return text


# `Json` fields are JSON text in Avro; readers that don't know the logical type see the string.
LOGICAL_WRITERS["string-tunemill-json"] = lambda value, _schema: msgspec.json.encode(value).decode()
LOGICAL_READERS["string-tunemill-json"] = lambda text, _writer, _reader: _json_value(text)


class WireError(Exception):
    """These bytes are not a record. `code` comes from a bounded list: empty, not_json, not_avro, unknown_schema, invalid."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Codec(msgspec.Struct, frozen=True):
    record: type[msgspec.Struct]
    schema: Any
    header: bytes


@cache
def schema_text(name: str, version: int | None = None) -> str:
    """The Avro schema file of a record, as text; that which is written, unless a version is named."""
    file = f"{name}.v{version or VERSIONS.get(name, 1)}.avsc"
    return (files("tunemill.schemas") / "avro" / file).read_text(encoding="utf-8")


@cache
def _codecs() -> dict[type[msgspec.Struct], _Codec]:
    named: dict[str, Any] = {}
    return {record: _codec(name, None, named) for name, record in SCHEMAS.items()}


def _codec(name: str, version: int | None, named: dict[str, Any]) -> _Codec:
    schema = parse_schema(json.loads(schema_text(name, version)), named_schemas=named, expand=True)
    crc = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")  # little-endian hexadecimal
    return _Codec(SCHEMAS[name], schema, MARKER + bytes.fromhex(crc))


@cache
def _by_header() -> dict[bytes, _Codec]:
    codecs = list(_codecs().values())
    for name, version in VERSIONS.items():
        others = {
            codec.schema["name"]: codec.schema for codec in _codecs().values() if codec.record is not SCHEMAS[name]
        }
        codecs += [_codec(name, earlier, dict(others)) for earlier in range(1, version)]
    return {codec.header: codec for codec in codecs}


def encode(record: msgspec.Struct) -> bytes:
    """One record as Avro single-object bytes."""
    codec = _codecs()[type(record)]
    out = io.BytesIO()
    out.write(codec.header)
    fastavro.schemaless_writer(out, codec.schema, msgspec.to_builtins(record, builtin_types=(bytes,)))
    return out.getvalue()


def decode(payload: bytes, record: type[T]) -> T:
    """The record in these bytes, Avro single object or JSON.

    Raises:
        WireError: they are neither, or are not of this record's schema.
    """
    if not payload:
        raise WireError("empty", "the message has no bytes")
    if not payload.startswith(MARKER):
        return decode_json(payload, record)
    found = _decode_avro(payload)
    if not isinstance(found, record):
        raise WireError("unknown_schema", f"expected a {record.__name__}, found a {type(found).__name__}")
    return found


def decode_json(payload: bytes, record: type[T]) -> T:
    """The record in this JSON object.

    Raises:
        WireError: not JSON, or a field is missing or of the wrong type (the reason names it).
    """
    try:
        return msgspec.json.decode(payload, type=record)
    except msgspec.ValidationError as error:
        raise WireError("invalid", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("not_json", "the message is neither Avro nor JSON") from error


def _decode_avro(payload: bytes) -> msgspec.Struct:
    codec = _by_header().get(payload[:HEADER_BYTES])
    if codec is None:
        raise WireError("unknown_schema", f"no schema has the fingerprint {payload[2:HEADER_BYTES].hex()}")
    value = read_avro(payload[HEADER_BYTES:], codec.schema)
    try:
        return msgspec.convert(value, type=codec.record)
    except (msgspec.ValidationError, RecursionError) as error:
        raise WireError("not_avro", "the Avro body is torn or of another schema") from error


def unpack(payload: bytes) -> Sequence[bytes | LogRecord]:
    """The single records in a message: itself, or the items of a JSON array, of newline-delimited JSON or of a `LogBatch`.

    Items of JSON messages come as bytes, undecoded: each may be of any accepted shape. A message that is not recognised
    as many is handed on as one, and fails where it is decoded.

    Raises:
        WireError: a `LogBatch` whose body is torn.
    """
    if not payload.startswith(MARKER):
        return split(payload)
    codec = _by_header().get(payload[:HEADER_BYTES])
    if codec is None or codec.record is not LogBatch:
        return [payload]
    return cast(LogBatch, _decode_avro(payload)).logs


def parse_schema_text(text: str, named: Sequence[str] = ()) -> Any:
    """An Avro schema of somebody else's, ready to read with.

    Args:
        named: schemas that it refers to by name, each after those that it refers to itself.

    Raises:
        WireError: it is no Avro schema.
    """
    known: dict[str, Any] = {}
    try:
        for one in named:
            parse_schema(json.loads(one), named_schemas=known)
        return parse_schema(json.loads(text), named_schemas=known)
    except Exception as error:  # fastavro raises whatever the text leads it to
        raise WireError("unknown_schema", "the schema is no Avro schema that can be read") from error


def read_avro(body: bytes, schema: Any) -> Any:
    """The value in an Avro body of a parsed schema, in Python's types: times as datetime, fixed bytes as bytes.

    Raises:
        WireError: it is torn, or of another schema.
    """
    source = io.BytesIO(body)
    try:
        value = fastavro.schemaless_reader(source, schema, None)
    except Exception as error:  # fastavro raises whatever the torn bytes lead it to
        raise WireError("not_avro", "the Avro body is torn or of another schema") from error
    if source.read(1):
        raise WireError("not_avro", "bytes are left over after the Avro record")
    return value
