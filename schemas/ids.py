"""Identity: ids made before the first send, digests made from content. Equal content gives an equal digest on every machine."""

import hashlib
import os
import time
from typing import Any

import msgspec
from ulid import ULID

MAX_LOG_ID_CHARS = 128  # an index takes ids of up to 512 bytes, and a character has up to 4
PROJECT = "default"  # the project of a record whose source names none


def new_id() -> str:
    """A ULID: 26 characters, sortable by time, unique without coordination (https://github.com/ulid/spec).

    Made without the lock and the state of `ULID()`, which a fork copies and a signal interrupts.
    """
    return str(ULID.from_bytes((time.time_ns() // 10**6).to_bytes(6) + os.urandom(10)))


def payload_log_id(payload: bytes) -> str:
    """The log_id of a record whose producer gave none: a digest of its bytes, so that a replay collapses onto it."""
    return "sha-" + hashlib.sha256(payload).hexdigest()[:32]


def span_log_id(trace_id: str, span_id: str) -> str:
    """The log_id of a call that is told as part of a trace: the same for each part, and for feedback that names them."""
    log_id = f"{trace_id}-{span_id}"
    return log_id if len(log_id) <= MAX_LOG_ID_CHARS else payload_log_id(log_id.encode())


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: one value, one spelling.

    Args:
        value: JSON-like Python data or msgspec structs.
    """
    return msgspec.json.encode(value, order="sorted")


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal characters."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
