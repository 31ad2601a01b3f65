"""One message -> its logs, tagged or rejected. Pure: no I/O, no clock, and no input makes it raise."""

from collections.abc import Callable
from typing import TypeVar

from tunemill.bus.port import Message
from tunemill.schemas import wire
from tunemill.schemas.records import LogRecord, RejectedLog, TaggedLog
from tunemill.streams.dead_letter import dead_letter
from tunemill.streams.decode import MAX_RECORD_BYTES, decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.mask import mask
from tunemill.streams.rules import Rules
from tunemill.streams.tag import tag

MAX_RECORDS = 10_000  # in one message; each of its records may need a dead letter of its own

T = TypeVar("T")


class _Rejected(Exception):
    """This record ends here."""

    def __init__(self, stage: str, code: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.code, self.reason = stage, code, reason


def process(message: Message, rules: Rules, *, now_ms: int) -> list[TaggedLog | RejectedLog]:
    """What became of each record in the message, in their order: the place in the list is the record's in the message."""
    try:
        records = _unpack(message.value)
    except _Rejected as error:
        return [_letter(message, 0, message.value, error, now_ms)]
    return [_process_one(message, place, record, rules, now_ms) for place, record in enumerate(records)]


def _unpack(value: bytes) -> list[bytes | LogRecord]:
    try:
        records = list(wire.unpack(value))
    except wire.WireError as error:
        raise _Rejected("decode", error.code, str(error)) from error
    if len(records) > MAX_RECORDS:
        raise _Rejected(
            "decode", "too_many", f"the message holds {len(records)} records; at most {MAX_RECORDS} are taken"
        )
    return records


def _process_one(
    message: Message, place: int, record: bytes | LogRecord, rules: Rules, now_ms: int
) -> TaggedLog | RejectedLog:
    try:
        log = _step("decode", lambda: _decode(message, record))
        masked = _step("mask", lambda: mask(log))
        return _step("decode", lambda: tag(masked, rules))  # tagging itself never fails; the content's digest may
    except _Rejected as error:
        payload = record if isinstance(record, bytes) else wire.encode(record)
        return _letter(message, place, payload, error, now_ms)


def _decode(message: Message, record: bytes | LogRecord) -> LogRecord:
    if isinstance(record, LogRecord) and len(message.value) > MAX_RECORD_BYTES:  # else none of its records is too large
        record = wire.encode(record)
    return decode(record, ts_ms=message.ts_ms)


def _step(stage: str, work: Callable[[], T]) -> T:
    """The work's result. Whatever it stumbles over is in the record: the next record must not wait for it."""
    try:
        return work()
    except Undecodable as error:
        raise _Rejected(stage, error.code, str(error)) from error
    except Exception as error:  # the message of an unforeseen error may hold text of the log: only its kind is told
        raise _Rejected(stage, "internal", f"unforeseen {type(error).__name__} at stage {stage}") from error


def _letter(message: Message, place: int, payload: bytes, error: _Rejected, now_ms: int) -> RejectedLog:
    return dead_letter(message, place, payload, stage=error.stage, code=error.code, reason=error.reason, now_ms=now_ms)
