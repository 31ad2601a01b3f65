"""Many logs in one message, as newline-delimited JSON or a JSON array; nothing here needs Avro, so an application can import it."""

from collections.abc import Iterable, Sequence

import msgspec

from tunemill.schemas.records import LogRecord

_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def pack(logs: Iterable[LogRecord]) -> bytes:
    """Many logs as one message: newline-delimited JSON."""
    return b"\n".join(msgspec.json.encode(log) for log in logs)


def split(payload: bytes) -> Sequence[bytes]:
    """The JSON values in a message: the items of an array, the lines of newline-delimited JSON, or the message itself."""
    text = payload.strip()
    if text.startswith(b"["):
        try:
            return [bytes(item) for item in msgspec.json.decode(text, type=list[msgspec.Raw])]
        except _NOT_JSON:
            return [payload]
    lines = [line for line in text.split(b"\n") if line.strip()]
    if len(lines) > 1 and all(line.lstrip().startswith(b"{") for line in lines) and not _is_one_value(text):
        return lines
    return [payload]


def _is_one_value(text: bytes) -> bool:
    """Whether this is one value: pretty-printed JSON has lines that start with a brace, too."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except _NOT_JSON:
        return False
    return True
