"""Confluent's framing: a byte of zero, the schema's id in four bytes, big-endian, then Avro or JSON. Pure.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from tunemill.schemas import wire
from tunemill.schemas.packing import split
from tunemill.schemas.records import Json
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.json_text import read_json
from tunemill.streams.formats.shape import JsonObject

MAGIC = b"\0"
_HEADER_BYTES = 5
_DEEPEST = 64
_JSON_TEXT = frozenset(  # fields that hold free JSON in the shapes that we know; Avro has no type for it but text
    (
        *("request", "response", "messages", "output", "tools", "params", "metadata", "extra", "chunks", "events"),
        *("error", "usage", "input", "model_parameters"),
    )
)


@dataclass(frozen=True, slots=True)
class WriterSchema:
    """What the registry holds under an id: an Avro schema ready to read with, or `None` for JSON."""

    avro: Any


Schemas = Mapping[int, WriterSchema | str]  # by id; text: why there is none


def is_framed(value: bytes) -> bool:
    """Whether a message begins as a frame does. No JSON, no OTLP and no Avro of ours begins so."""
    return value.startswith(MAGIC)


def schema_ids(values: Iterable[bytes]) -> set[int]:
    """The ids of the schemas that these messages need."""
    return {_schema_id(value) for value in values if is_framed(value) and len(value) >= _HEADER_BYTES}


def read_frame(value: bytes, schemas: Schemas | None) -> list[bytes | JsonObject]:
    """The records in a framed message: one of Avro, or those of JSON.

    Args:
        schemas: all that its id may be looked up in; None when no registry is set.

    Raises:
        Undecodable: the frame is torn, its schema cannot be had, or the body is not of that schema.
    """
    if len(value) < _HEADER_BYTES:
        raise Undecodable("not_avro", "the message begins as a Confluent frame and ends within its header")
    if schemas is None:
        raise Undecodable(
            "no_schema_registry",
            "the message is framed as Confluent's serializers do; set TUNEMILL_SCHEMA_REGISTRY_URL to read it",
        )
    number, body = _schema_id(value), value[_HEADER_BYTES:]
    found = schemas.get(number, "the schema registry was not asked for it")
    if isinstance(found, str):
        raise Undecodable("unknown_schema", f"schema id {number}: {found}")
    if found.avro is None:
        return list(split(body))
    try:
        told = _as_json(wire.read_avro(body, found.avro), _DEEPEST)
    except wire.WireError as error:
        raise Undecodable(error.code, str(error)) from error
    if not isinstance(told, dict):
        raise Undecodable("unknown_shape", f"schema id {number} is not that of a record")
    batch = told.get("logs")
    if set(told) == {"logs"} and isinstance(batch, list):  # our own LogBatch
        return [_opened(log) for log in batch if isinstance(log, dict)]
    return [_opened(told)]


def _schema_id(value: bytes) -> int:
    return int.from_bytes(value[1:_HEADER_BYTES], "big")


def _opened(record: JsonObject) -> JsonObject:
    """The record as JSON would have it: what is null is left out, for fields tell shapes apart, and JSON in text is read."""
    given = ((name, item) for name, item in record.items() if item is not None)
    return {name: read_json(item) if name in _JSON_TEXT else item for name, item in given}


def _as_json(value: Any, levels: int) -> Any:
    """An Avro value as JSON holds it."""
    if levels < 0:
        raise Undecodable("too_deep", f"arrays and objects are nested more than {_DEEPEST} deep")
    if isinstance(value, dict):
        return {str(name): _as_json(item, levels - 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item, levels - 1) for item in value]
    return value if value is None or isinstance(value, str | bool | int) else _from_logical(value)


def _from_logical(value: Any) -> Json:
    """A number, bytes, or what Avro calls a logical type; times become milliseconds since the epoch, as all of ours."""
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)
