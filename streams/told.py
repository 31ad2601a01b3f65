"""A message's bytes -> what each of its records tells of. Pure; what cannot be read tells of nothing."""

import msgspec

from tunemill.schemas import wire
from tunemill.schemas.records import Feedback, LogRecord
from tunemill.schemas.told import Told, people_of
from tunemill.schemas.trace import TraceNote
from tunemill.streams.decode import decode
from tunemill.streams.formats.shape import Piece, Reading
from tunemill.streams.unpack import Record, as_bytes, unpack


def told_in(value: bytes) -> list[Told]:
    """What the records of a message tell of, in order; one that cannot be taken apart is one record."""
    try:
        records = unpack(value)
    except Exception:  # whatever the bytes lead it to: the message was rejected for it
        return [Told(record=value)]
    return [_told(record) for record in records]


def _told(record: Record) -> Told:
    try:
        reading = decode(record, ts_ms=0)
    except Exception:  # likewise
        return Told(record=_one_line(as_bytes(record)))
    return _of(reading, _json(record))


def _of(reading: Reading, record: bytes) -> Told:
    match reading:
        case LogRecord():
            return _of_log(reading, record)
        case Piece():
            return _of_log(reading.log, record)
        case TraceNote():
            return Told(record=record, trace_id=reading.trace_id, people=people_of(reading))
        case Feedback():
            about = (reading.log_id, reading.response_id, reading.trace_id)
            return Told(record=record, log_id=about[0], response_id=about[1], trace_id=about[2])
        case _:
            return Told(record=record)


def _of_log(log: LogRecord, record: bytes) -> Told:
    return Told(
        record=record,
        log_id=log.log_id,
        response_id=log.response_id,
        trace_id=log.trace_id,
        is_log=True,
        people=people_of(log),
    )


def _json(record: Record) -> bytes:
    """The record as JSON on one line: the same log, whatever encoding it came in."""
    if isinstance(record, LogRecord):
        return msgspec.json.encode(record)
    payload = as_bytes(record)
    if payload.startswith(wire.MARKER):
        return msgspec.json.encode(wire.decode(payload, LogRecord))
    return _one_line(payload)


def _one_line(payload: bytes) -> bytes:
    try:
        return msgspec.json.format(payload, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return payload
