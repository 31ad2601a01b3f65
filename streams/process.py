"""Messages -> what each tells: logs, tagged or rejected, parts of logs, and what is said beside them.

Pure: no I/O, no clock, and no input makes it raise.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from tunemill.bus.port import Message
from tunemill.schemas import wire
from tunemill.schemas.records import Feedback, LogRecord, RejectedLog, TaggedLog
from tunemill.schemas.redrive import first_seen_ms
from tunemill.schemas.topics import FEEDBACK
from tunemill.schemas.trace import TraceNote
from tunemill.streams.confluent import Schemas
from tunemill.streams.dead_letter import dead_letter
from tunemill.streams.decode import MAX_RECORD_BYTES, decode
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import NotACall, Piece, Reading
from tunemill.streams.formats.tunemill_record import WrittenLog
from tunemill.streams.mask import Masked, MaskedPiece, mask, mask_beside, mask_piece
from tunemill.streams.rules import Rules
from tunemill.streams.tag import tag_all
from tunemill.streams.unpack import Record, as_bytes, unpack

Result = TaggedLog | MaskedPiece | TraceNote | Feedback | NotACall | RejectedLog

T = TypeVar("T")


def process(
    messages: Sequence[Message], rules: Rules, schemas: Schemas | None = None, *, now_ms: int
) -> list[list[Result]]:
    """What became of each record in each message, in their order: the place in a list is the record's in the message.

    Args:
        schemas: those of Confluent's frames; None when there is no schema registry.
    """
    read = [_read(message, rules, schemas, now_ms) for message in messages]
    tagged = iter(tag_all([one for found in read for one in found if isinstance(one, Masked)], rules))
    return [[next(tagged) if isinstance(one, Masked) else one for one in found] for found in read]


def _read(message: Message, rules: Rules, schemas: Schemas | None, now_ms: int) -> list[Masked | Result]:
    """The message's records, its logs masked and not tagged yet."""
    if message.is_scrubbed:
        return []
    try:
        records = unpack(message.value, schemas)
    except Exception as error:
        return [_letter(message, 0, message.value, error, rules, stage="decode", now_ms=now_ms)]
    return [_read_one(message, place, record, rules, now_ms) for place, record in enumerate(records)]


def _read_one(message: Message, place: int, record: Record, rules: Rules, now_ms: int) -> Masked | Result:
    stage = "decode"
    try:
        reading = _decode(message, record)
        if isinstance(reading, NotACall):
            return reading
        private = rules.masks_private_data
        if isinstance(reading, LogRecord):
            stage = "mask"
            json = record.json if isinstance(record, WrittenLog) else None
            return mask(reading, private=private, json=json)
        held = _as_held(reading)
        stage = "mask"
        beside = mask_piece(held, private=private) if isinstance(held, Piece) else mask_beside(held, private=private)
        stage = "decode"
        return _checked_size(beside)
    except Exception as error:  # whatever it is, it is in the record: the next record must not wait for it
        return _letter(message, place, as_bytes(record), error, rules, stage=stage, now_ms=now_ms)


def _decode(message: Message, record: Record) -> Reading:
    if isinstance(record, LogRecord) and len(message.value) > MAX_RECORD_BYTES:  # else none of its records is too large
        record = wire.encode(record)
    return decode(record, ts_ms=first_seen_ms(message.headers, message.ts_ms))


def _as_held(reading: Piece | TraceNote | Feedback) -> Piece | TraceNote | Feedback:
    """It as it comes back from an index, so that the same said again is seen to be the same."""
    if isinstance(reading, Piece):
        return replace(reading, log=_read_back(reading.log), note=_read_back(reading.note))
    return _read_back(reading)


def _read_back(value: T) -> T:
    return msgspec.json.decode(msgspec.json.encode(value), type=type(value))


def _checked_size(beside: MaskedPiece | TraceNote | Feedback) -> MaskedPiece | TraceNote | Feedback:
    """It, unless it is feedback that its topic would not take; masking may have made it longer."""
    if isinstance(beside, Feedback):
        size = len(wire.encode(beside)) + len(beside.feedback_id.encode())
        most = FEEDBACK.max_message_bytes
        if size > most:
            raise Undecodable("too_large", f"without its secrets the feedback has {size} bytes; {most} are taken")
    return beside


def _letter(
    message: Message, place: int, payload: bytes, error: Exception, rules: Rules, *, stage: str, now_ms: int
) -> RejectedLog:
    if isinstance(error, Undecodable):
        code, reason = error.code, str(error)
    else:  # the message of an unforeseen error may hold text of the log: only its kind is told
        code, reason = "internal", f"unforeseen {type(error).__name__} at stage {stage}"
    private = rules.masks_private_data
    return dead_letter(message, place, payload, stage=stage, code=code, reason=reason, now_ms=now_ms, private=private)
