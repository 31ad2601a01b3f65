"""A record that could not be processed, as it goes to the dead letters. Pure."""

import re

import msgspec

from tunemill.bus.port import Message
from tunemill.privacy.pii import may_hold, without_private
from tunemill.privacy.secrets import may_have_secret, without_secrets
from tunemill.schemas.records import RejectedLog
from tunemill.schemas.redrive import next_rejection
from tunemill.schemas.topics import REJECTED
from tunemill.streams.mask import map_strings

_WRAPPING_BYTES = 16 * 2**10  # the other fields of a dead letter, with room to spare
MAX_PAYLOAD_BYTES = REJECTED.max_message_bytes - _WRAPPING_BYTES
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\/")  # of JSON, for what it may write without one, too
_BINARY = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def dead_letter(
    message: Message,
    place: int,
    payload: bytes,
    *,
    stage: str,
    code: str,
    reason: str,
    now_ms: int,
    private: bool = True,
) -> RejectedLog:
    """The dead letter of one record of a message; the same record gives the same id, so a replay overwrites it.

    One that was sent again says in its headers which dead letter it was: it is that one again, rejected once more.

    Args:
        place: the record's position in the message.
        payload: its bytes. Secrets in them are masked; they are left out when they are too many for the topic, when masking is
            what failed, or when it cannot be told where in them a secret begins.
        private: whether private data in them is masked too.
    """
    said = next_rejection(message.headers, message.topic, message.partition, message.offset, place)
    return RejectedLog(
        rejected_id=said.rejected_id,
        ts_ms=now_ms,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        stage=stage,
        error_code=code,
        reason=reason,
        payload=b"" if stage == "mask" else storable(payload, private=private),
        payload_bytes=len(payload),
        attempts=said.attempts,
        first_ts_ms=said.first_ts_ms,
    )


def storable(payload: bytes, *, private: bool) -> bytes:
    """Bytes that nobody could read, without secrets; none where they are too many, or nobody can tell where a secret begins.

    Args:
        private: whether private data in them is masked too.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        return b""
    try:
        masked = _masked(payload, private)
    except Exception:  # what cannot be masked is not stored
        return b""
    return masked if len(masked) <= MAX_PAYLOAD_BYTES else b""


def _masked(payload: bytes, private: bool) -> bytes:
    def clean(text: str, name: str = "") -> str:
        text, _ = without_secrets(text, name=name)
        return without_private(text, name=name)[0] if private else text

    try:
        value = msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        text, encoding = _text(payload)
        if _may_hide(text, private):
            return b""
    else:  # string by string: as they stand in JSON an escape may hide where something begins
        cleaned = map_strings(value, clean)
        text, encoding = _text(payload if cleaned == value else msgspec.json.encode(cleaned))
    return clean(text).encode(encoding)


def _may_hide(text: str, private: bool) -> bool:
    """Whether something to mask may stand in this text right behind an escape or a binary length, which look like a part of it."""
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else "/", text)
    if plain == text and not _BINARY.search(text):
        return False
    plain = plain.encode(errors="replace").decode()
    return may_have_secret(plain.encode()) or (private and may_hold(plain))


def _text(payload: bytes) -> tuple[str, str]:
    """The payload as text, and its encoding. Latin-1 takes any bytes and gives them back: it may be Avro, or no text at all."""
    try:
        return payload.decode(), "utf-8"
    except UnicodeDecodeError:
        return payload.decode("latin-1"), "latin-1"
