"""Many logs in one message, as newline-delimited JSON or a JSON array; nothing here needs Avro, so an application can import it."""

from collections.abc import Iterable, Sequence

import msgspec

from tunemill.schemas.records import LogRecord

_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def pack(logs: Iterable[LogRecord]) -> bytes:
    """Many logs as one message: newline-delimited JSON."""
    return b"\n".join(msgspec.json.encode(log) for log in logs)


def split(payload: bytes) -> Sequence[bytes]:
    """The JSON values in a message: the items of an array, the lines of newline-delimited JSON, or the message itself.

    A line that is no JSON is an item like the others, and fails alone where it is decoded.
    """
    text = payload.strip()
    if text.startswith(b"["):
        try:
            return [bytes(item) for item in msgspec.json.decode(text, type=list[msgspec.Raw])]
        except _NOT_JSON:
            return [payload]
    lines = [line for line in text.split(b"\n") if line.strip()]
    return lines if len(lines) > 1 and _are_values(lines) and not _is_value(text) else [payload]


def _are_values(lines: Sequence[bytes]) -> bool:
    """Whether each line is meant to be a value. Pretty-printed JSON that is broken has no whole object at a line's beginning."""
    return all(line.lstrip().startswith(b"{") for line in lines) or any(
        line.startswith(b"{") and _is_value(line) for line in lines
    )


def _is_value(text: bytes) -> bool:
    """Whether this is one whole JSON value. Pretty-printed JSON has lines that start with a brace, too."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except _NOT_JSON:
        return False
    return True
