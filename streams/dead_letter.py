"""A record that could not be processed, as it goes to the dead letters. Pure."""

from tunemill.bus.port import Message
from tunemill.privacy.pii import without_private
from tunemill.privacy.secrets import without_secrets
from tunemill.schemas.records import RejectedLog
from tunemill.schemas.redrive import next_rejection
from tunemill.schemas.topics import REJECTED

_WRAPPING_BYTES = 16 * 2**10  # the other fields of a dead letter, with room to spare
MAX_PAYLOAD_BYTES = REJECTED.max_message_bytes - _WRAPPING_BYTES


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
        payload: its bytes. Secrets in them are masked; they are left out when they are too many for the topic, or when
            masking is what failed.
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
        payload=b"" if stage == "mask" else _storable(payload, private),
        payload_bytes=len(payload),
        attempts=said.attempts,
        first_ts_ms=said.first_ts_ms,
    )


def _storable(payload: bytes, private: bool) -> bytes:
    if len(payload) > MAX_PAYLOAD_BYTES:
        return b""
    try:
        text, encoding = _text(payload)
        text, _ = without_secrets(text)
        if private:
            text, _ = without_private(text)
        masked = text.encode(encoding)
    except Exception:  # what cannot be masked is not stored
        return b""
    return masked if len(masked) <= MAX_PAYLOAD_BYTES else b""


def _text(payload: bytes) -> tuple[str, str]:
    """The payload as text, and its encoding. Latin-1 takes any bytes and gives them back: it may be Avro, or no text at all."""
    try:
        return payload.decode(), "utf-8"
    except UnicodeDecodeError:
        return payload.decode("latin-1"), "latin-1"
