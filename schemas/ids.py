"""Identity: ids made before the first send, digests made from content. Equal content gives an equal digest on every machine."""

import hashlib
from typing import Any

import msgspec
from ulid import ULID

PROJECT = "default"  # the project of a record whose source names none


def new_id() -> str:
    """A ULID: 26 characters, sortable by time, unique without coordination (https://github.com/ulid/spec)."""
    return str(ULID())


def payload_log_id(payload: bytes) -> str:
    """The log_id of a record whose producer gave none: a digest of its bytes, so that a replay collapses onto it."""
    return "sha-" + hashlib.sha256(payload).hexdigest()[:32]


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: one value, one spelling.

    Args:
        value: JSON-like Python data or msgspec structs.
    """
    return msgspec.json.encode(value, order="sorted")


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal characters."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
