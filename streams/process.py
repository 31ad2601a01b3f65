"""One message -> what it tells: logs, tagged or rejected, parts of logs, and what is said beside them.

Pure: no I/O, no clock, and no input makes it raise.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import msgspec

from tunemill.bus.port import Message
from tunemill.schemas import wire
from tunemill.schemas.records import Feedback, LogRecord, RejectedLog, TaggedLog
from tunemill.schemas.topics import FEEDBACK
from tunemill.schemas.trace import TraceNote
from tunemill.streams.confluent import Schemas
from tunemill.streams.dead_letter import dead_letter
from tunemill.streams.decode import MAX_RECORD_BYTES, decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import NotACall, Piece, Reading
from tunemill.streams.mask import MaskedPiece, mask, mask_beside, mask_piece
from tunemill.streams.rules import Rules
from tunemill.streams.tag import tag
from tunemill.streams.unpack import Record, as_bytes, unpack

Result = TaggedLog | MaskedPiece | TraceNote | Feedback | NotACall | RejectedLog

T = TypeVar("T")


class _Rejected(Exception):
    """This record ends here."""

    def __init__(self, stage: str, code: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.code, self.reason = stage, code, reason


def process(message: Message, rules: Rules, schemas: Schemas | None = None, *, now_ms: int) -> list[Result]:
    """What became of each record in the message, in their order: the place in the list is the record's in the message.

    Args:
        schemas: those of Confluent's frames; None when there is no schema registry.
    """
    try:
        records = _step("decode", lambda: unpack(message.value, schemas))
    except _Rejected as error:
        return [_letter(message, 0, message.value, error, now_ms)]
    return [_process_one(message, place, record, rules, now_ms) for place, record in enumerate(records)]


def _process_one(message: Message, place: int, record: Record, rules: Rules, now_ms: int) -> Result:
    try:
        reading = _step("decode", lambda: _decode(message, record))
        if not isinstance(reading, LogRecord):
            return _beside(reading)
        masked = _step("mask", lambda: mask(reading))
        return _step("decode", lambda: tag(masked, rules))  # tagging itself never fails; the content's digest may
    except _Rejected as error:
        return _letter(message, place, as_bytes(record), error, now_ms)


def _decode(message: Message, record: Record) -> Reading:
    if isinstance(record, LogRecord) and len(message.value) > MAX_RECORD_BYTES:  # else none of its records is too large
        record = wire.encode(record)
    return decode(record, ts_ms=message.ts_ms)


def _beside(reading: Piece | TraceNote | Feedback | NotACall) -> Result:
    """What is no whole log, without secrets. A part is tagged when it is joined."""
    if isinstance(reading, Piece):
        piece = _step("decode", lambda: replace(reading, log=_as_held(reading.log), note=_as_held(reading.note)))
        return _step("mask", lambda: mask_piece(piece))
    if isinstance(reading, NotACall):
        return reading
    said = _step("decode", lambda: _as_held(reading))
    masked = _step("mask", lambda: mask_beside(said))
    if isinstance(masked, Feedback):
        _step("decode", lambda: _check_size(masked))
    return masked


def _check_size(feedback: Feedback) -> None:
    """Refuse feedback that its topic would not take; masking may have made it longer."""
    size = len(wire.encode(feedback)) + len(feedback.feedback_id.encode())
    if size > FEEDBACK.max_message_bytes:
        raise Undecodable(
            "too_large", f"without its secrets the feedback has {size} bytes; {FEEDBACK.max_message_bytes} are taken"
        )


def _as_held(value: T) -> T:
    """The value as it comes back from an index, so that the same part said again is seen to be the same."""
    return msgspec.json.decode(msgspec.json.encode(value), type=type(value))


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
