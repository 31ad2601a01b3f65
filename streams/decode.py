"""One record -> what it tells, normalised and checked, or the reason why not. Pure."""

import math
from typing import Any

import msgspec

from tunemill.schemas import wire
from tunemill.schemas.ids import MAX_LOG_ID_CHARS, canonical_json, payload_log_id
from tunemill.schemas.records import Feedback, LogRecord
from tunemill.schemas.topics import LOGS
from tunemill.schemas.trace import TraceNote
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats import registry, tunemill_record
from tunemill.streams.formats.shape import Arrival, JsonObject, Piece, Reading
from tunemill.streams.formats.tunemill_record import WrittenLog
from tunemill.streams.unpack import Record, unpack

MAX_RECORD_BYTES = LOGS.max_message_bytes
MAX_DEPTH = 64  # arrays and objects inside one another; real requests with JSON schemas stay under 30
_CONTAINERS = (dict, list, tuple)
_encode = msgspec.json.Encoder().encode
_PATHS = (".", "..")  # no URL can name such a log: it could be neither read nor erased
MAX_TS_MS = 253_402_300_799_999  # the end of the year 9999, beyond which dates cannot be written
MAX_COUNT = 2**63 - 1  # the schema's and the index's whole numbers


def decode(record: Record, *, ts_ms: int) -> Reading:
    """What a record of any accepted shape tells; a log that is decoded already is checked.

    Args:
        ts_ms: when the message was published; stands in for a time that the record does not name.

    Raises:
        Undecodable: too large, too deep, not of a known shape, or a field is out of its bounds.
    """
    if isinstance(record, LogRecord):
        return _checked_log(_identified(record))
    if isinstance(record, WrittenLog):
        _check_size(record.payload)
        return _checked_written(record.log)
    if isinstance(record, dict):
        payload = canonical_json(record)
        _check_size(payload)
        return _checked(_from_object(record, payload, ts_ms))
    _check_size(record)
    if record.startswith(wire.MARKER):
        return _checked_log(_identified(_from_avro(record)))
    if (written := tunemill_record.read_as_written(record)) is not None:
        return _checked_written(written.log)
    return _checked(_from_json(record, ts_ms))


def examine(payload: bytes) -> tuple[str, str] | None:
    """The code and the reason for which `payload`, one record or many, would be rejected as it is; None when it can be read."""
    try:
        for record in unpack(payload):
            decode(record, ts_ms=0)
    except Undecodable as error:
        return error.code, str(error)
    except Exception as error:  # the message of an unforeseen error may hold text of the log
        return "internal", f"unforeseen {type(error).__name__} at stage decode"
    return None


def shapes_in(payload: bytes) -> set[str]:
    """The names of the shapes that the records in `payload` have.

    Raises:
        Undecodable: it cannot be taken apart, or a record has no known shape.
    """
    return {_shape_name(record) for record in unpack(payload)}


def _shape_name(record: Record) -> str:
    if isinstance(record, LogRecord | WrittenLog) or (isinstance(record, bytes) and record.startswith(wire.MARKER)):
        return tunemill_record.SHAPE.name
    return registry.shape_of(record if isinstance(record, dict) else _json_object(record)).name


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_RECORD_BYTES:
        raise Undecodable("too_large", f"the record has {len(payload)} bytes; at most {MAX_RECORD_BYTES} are taken")


def _from_avro(record: bytes) -> LogRecord:
    try:
        return wire.decode(record, LogRecord)
    except wire.WireError as error:
        raise Undecodable(error.code, str(error)) from error


def _identified(log: LogRecord) -> LogRecord:
    if log.log_id:
        return log
    return msgspec.structs.replace(log, log_id=payload_log_id(msgspec.json.encode(log)))


def _from_json(record: bytes, ts_ms: int) -> Reading:
    return _from_object(_json_object(record), record, ts_ms)


def _json_object(record: bytes) -> JsonObject:
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
    return value


def _from_object(value: JsonObject, payload: bytes, ts_ms: int) -> Reading:
    if not _is_shallow(payload):
        _check_depth(value)
    return registry.read(value, Arrival(payload_log_id(payload), ts_ms))


def _is_shallow(payload: bytes) -> bool:
    """Whether there are too few brackets for it to be too deep: cheap, and true of most."""
    return payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, _CONTAINERS)
        ]
        if not level:
            return
    raise Undecodable("too_deep", f"arrays and objects are nested more than {MAX_DEPTH} deep")


def _checked(reading: Reading) -> Reading:
    """The reading, if every value in it is one that each later hop can hold."""
    if isinstance(reading, LogRecord):
        return _checked_log(reading)
    if isinstance(reading, Piece):
        _check_log(reading.log)
        if reading.note:
            _check_id("trace_id", reading.note.trace_id)
    elif isinstance(reading, TraceNote):
        _check_id("trace_id", reading.trace_id)
    elif isinstance(reading, Feedback):
        _check_feedback(reading)
    return reading


def _checked_log(log: LogRecord) -> LogRecord:
    _check_log(_with_messages(log))
    return log


def _checked_written(log: LogRecord) -> LogRecord:
    """The same for a log that was read as it is written: writing a part of it again cannot fail."""
    _checked_values(_with_messages(log))
    free = _free_form(log)
    if not _is_shallow(_encode(free)):
        _check_depth(free)
    return log


def _with_messages(log: LogRecord) -> LogRecord:
    if not log.messages:
        raise Undecodable("invalid", "there are no messages")
    return log


def _check_log(log: LogRecord) -> None:
    _checked_values(log)
    _check_depth(_free_form(log))


def _free_form(log: LogRecord) -> list[Any]:
    """All in a log that may nest at will, each as deep inside the list as it is inside the log."""
    parts = [message.parts for message in (*log.messages, *log.output) if message.parts is not None]
    return [log.tools, log.params, log.extra, [parts] if parts else None]


def _checked_values(log: LogRecord) -> LogRecord:
    """The log, if each of its plain fields is within its bounds."""
    _check_id("log_id", log.log_id)
    _check_time(log.ts_ms)
    if log.status not in ("ok", "error"):
        raise Undecodable("invalid", "status is neither ok nor error")
    _check_count("input_tokens", log.usage.input_tokens)
    _check_count("output_tokens", log.usage.output_tokens)
    _check_finite("cost_usd", log.cost_usd)
    _check_finite("latency_ms", log.latency_ms)
    return log


def _check_count(name: str, count: int | None) -> None:
    if count is not None and not 0 <= count <= MAX_COUNT:
        raise Undecodable("invalid", f"usage.{name} is out of bounds")


def _check_feedback(feedback: Feedback) -> None:
    for name in ("feedback_id", "log_id", "trace_id"):
        if getattr(feedback, name) is not None:
            _check_id(name, getattr(feedback, name))
    _check_time(feedback.ts_ms)
    _check_finite("score", feedback.score)


def _check_id(name: str, found: str) -> None:
    if not 0 < len(found) <= MAX_LOG_ID_CHARS or not found.isprintable() or found in _PATHS:
        raise Undecodable(
            "bad_log_id" if name == "log_id" else "invalid",
            f"{name} is not 1 to {MAX_LOG_ID_CHARS} printable characters, or only dots",
        )


def _check_time(ts_ms: int) -> None:
    if not 0 <= ts_ms <= MAX_TS_MS:
        raise Undecodable("bad_time", "ts_ms is not within the years 1970 to 9999")


def _check_finite(name: str, number: float | None) -> None:
    if number is not None and not math.isfinite(number):
        raise Undecodable("invalid", f"{name} is not a finite number")
