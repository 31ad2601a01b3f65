"""A message without secrets, as it goes on a bus that may keep it for long. Pure.

The stream masks what it reads all the same: whatever comes past the API is as it was sent. It knows by the placeholders what
was replaced here.
"""

import re
from contextlib import suppress

import msgspec

from tunemill.privacy.secrets import has_secret, may_have_secret, without_secrets
from tunemill.schemas import otlp, wire
from tunemill.schemas.ids import payload_log_id
from tunemill.schemas.otlp_item import OtlpError
from tunemill.schemas.records import Feedback, LogBatch, LogRecord
from tunemill.schemas.topics import LOGS
from tunemill.streams.dead_letter import storable
from tunemill.streams.mask import map_strings, mask_beside
from tunemill.streams.unpack import as_bytes

# A plain character that is written as an escape, in which no pattern finds it.
_HIDDEN = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
_IDS = ("log_id", "feedback_id", "id")  # one record each: two that hold secrets must not become one
_WITHHELD = b'{"withheld":"it may hold a secret, and cannot be masked"}'  # it becomes a dead letter


def mask_message(value: bytes) -> bytes:
    """The message with every secret in its logs, or in its feedback, replaced; the same bytes when there is none.

    What is no JSON is masked as a text. Where nobody can tell where a secret begins, it is withheld.
    """
    if not may_have_secret(value) and not _HIDDEN.search(value):
        return value
    try:
        if value.startswith(wire.MARKER):
            return _masked_avro(value)
        if value.startswith(otlp.PROTOBUF_BYTE):
            with suppress(OtlpError):  # JSON may begin so, too
                return _masked_protobuf(value)
        records = [as_bytes(record) for record in wire.unpack(value)]  # of JSON its items as they came
    except Exception:  # whatever the bytes lead it to: the stream will reject them
        records = [value]
    masked = [_masked(record) for record in records]
    is_array = len(masked) > 1 and any(b"\n" in one for one in masked)
    joined = b"[" + b",".join(masked) + b"]" if is_array else b"\n".join(masked)
    if len(joined) > LOGS.max_message_bytes:
        return _WITHHELD
    return value if masked == records else joined


def _masked_avro(value: bytes) -> bytes:
    for kind in (LogRecord, Feedback):
        with suppress(wire.WireError):
            return wire.encode(mask_beside(wire.decode(value, kind)))
    logs = wire.decode(value, LogBatch).logs
    return wire.encode(LogBatch(tuple([mask_beside(log) for log in logs])))


def _masked_protobuf(value: bytes) -> bytes:
    """The request again, which its records one by one may be far larger than: each repeats what is said of their source."""
    masked = otlp.with_strings(value, lambda text: without_secrets(text)[0])
    return masked if len(masked) <= LOGS.max_message_bytes else _WITHHELD


def _masked(record: bytes) -> bytes:
    try:
        value = msgspec.json.decode(record)
    except (ValueError, RecursionError):
        return storable(record, private=False) or _WITHHELD
    try:
        cleaned = map_strings(value, _clean, is_free=True)
        if cleaned == value and not _holds_more(record):
            return record
        return msgspec.json.encode(cleaned)
    except Exception:  # what cannot be masked is not handed on
        return _WITHHELD


def _holds_more(record: bytes) -> bool:
    """Whether a secret may stand in JSON all of whose values hold none: in one whose name comes again, which nobody reads."""
    return has_secret(_HIDDEN.sub(lambda found: bytes.fromhex(found[1].decode()), record).decode())


def _clean(text: str, name: str) -> str:
    masked, kinds = without_secrets(text, name=name)
    return payload_log_id(text.encode()) if kinds and name in _IDS else masked
