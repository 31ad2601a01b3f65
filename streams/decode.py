"""One record's bytes -> one normalised log, or the reason why not. Pure."""

import math
from typing import Any

import msgspec

from tunemill.schemas import wire
from tunemill.schemas.ids import MAX_LOG_ID_CHARS, payload_log_id
from tunemill.schemas.records import LogRecord
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import registry
from tunemill.streams.formats.shape import Arrival

MAX_RECORD_BYTES = 2**20
MAX_DEPTH = 64  # arrays and objects inside one another; real requests with JSON schemas stay under 30
_PATHS = (".", "..")  # no URL can name such a log: it could be neither read nor erased
MAX_TS_MS = 253_402_300_799_999  # the end of the year 9999, beyond which dates cannot be written
MAX_COUNT = 2**63 - 1  # the schema's and the index's whole numbers


def decode(record: bytes | LogRecord, *, ts_ms: int) -> LogRecord:
    """The log in a record of any accepted shape, or checked when it is decoded already.

    Args:
        ts_ms: when the message was published; stands in for a time that the record does not name.

    Raises:
        Undecodable: too large, too deep, not of a known shape, or a field is out of its bounds.
    """
    if isinstance(record, LogRecord):
        return _checked(_identified(record))
    if len(record) > MAX_RECORD_BYTES:
        raise Undecodable("too_large", f"the record has {len(record)} bytes; at most {MAX_RECORD_BYTES} are taken")
    if record.startswith(wire.MARKER):
        return _checked(_identified(_from_avro(record)))
    return _checked(_from_json(record, ts_ms))


def _from_avro(record: bytes) -> LogRecord:
    try:
        return wire.decode(record, LogRecord)
    except wire.WireError as error:
        raise Undecodable(error.code, str(error)) from error


def _identified(log: LogRecord) -> LogRecord:
    if log.log_id:
        return log
    return msgspec.structs.replace(log, log_id=payload_log_id(msgspec.json.encode(log)))


def _from_json(record: bytes, ts_ms: int) -> LogRecord:
    if not record.strip():
        raise Undecodable("empty", "the record has no bytes")
    try:
        value = msgspec.json.decode(record)
    except RecursionError as error:
        raise Undecodable("too_deep", f"arrays and objects are nested more than {MAX_DEPTH} deep") from error
    except (msgspec.DecodeError, ValueError) as error:  # ValueError: bad UTF-8, numbers of thousands of digits
        raise Undecodable("not_json", "the record is neither Avro nor JSON") from error
    if not isinstance(value, dict):
        raise Undecodable("unknown_shape", "the record is not a JSON object")
    _check_depth(value)
    return registry.read(value, Arrival(payload_log_id(record), ts_ms))


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise Undecodable("too_deep", f"arrays and objects are nested more than {MAX_DEPTH} deep")


def _children(value: Any) -> list[Any]:
    """The arrays and objects directly inside this one."""
    inside = value.values() if isinstance(value, dict) else value
    return [child for child in inside if isinstance(child, dict | list | tuple)]


def _checked(log: LogRecord) -> LogRecord:
    """The log, if every value is one that each later hop can hold."""
    if not 0 < len(log.log_id) <= MAX_LOG_ID_CHARS or not log.log_id.isprintable() or log.log_id in _PATHS:
        raise Undecodable("bad_log_id", f"log_id is not 1 to {MAX_LOG_ID_CHARS} printable characters, or only dots")
    if not 0 <= log.ts_ms <= MAX_TS_MS:
        raise Undecodable("bad_time", "ts_ms is not within the years 1970 to 9999")
    if not log.messages:
        raise Undecodable("invalid", "there are no messages")
    if log.status not in ("ok", "error"):
        raise Undecodable("invalid", "status is neither ok nor error")
    for name, count in (("input_tokens", log.usage.input_tokens), ("output_tokens", log.usage.output_tokens)):
        if count is not None and not 0 <= count <= MAX_COUNT:
            raise Undecodable("invalid", f"usage.{name} is out of bounds")
    for name, number in (("cost_usd", log.cost_usd), ("latency_ms", log.latency_ms)):
        if number is not None and not math.isfinite(number):
            raise Undecodable("invalid", f"{name} is not a finite number")
    _check_depth([log.tools, log.params, log.extra, [message.parts for message in (*log.messages, *log.output)]])
    return log
