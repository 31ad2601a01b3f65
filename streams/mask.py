"""Secrets out: every string of a log, of a part of one, and of what is said beside it, before anything is stored. Pure.

A set of looser patterns looks at the record's JSON first; only where they find something is it done string by string.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from tunemill.privacy.secrets import KINDS, has_secret, may_have_secret, without_secrets
from tunemill.schemas.ids import payload_log_id
from tunemill.schemas.records import LogRecord
from tunemill.streams.formats.shape import Piece

T = TypeVar("T", bound=msgspec.Struct)

_encode = msgspec.json.Encoder(order="deterministic").encode
_IDS = ("log_id", "feedback_id")  # one record each: two that hold secrets must not become one


class Masked(msgspec.Struct, frozen=True):
    """A log without secrets, and the kinds of those that were found, in the order of `KINDS`."""

    log: LogRecord
    kinds: tuple[str, ...]
    json: bytes | None = None  # of the log, with the keys of objects in order, if it is at hand


class MaskedPiece(msgspec.Struct, frozen=True):
    """A part of a log without secrets, and the kinds of those that were found."""

    piece: Piece
    kinds: tuple[str, ...]


def mask(log: LogRecord) -> Masked:
    """The log with every secret in any of its strings replaced; the same object when there is none."""
    json = _encode(log)
    masked, kinds = _without_secrets(log, json)
    return Masked(masked, kinds, json if masked is log else None)


def mask_piece(piece: Piece) -> MaskedPiece:
    """A part of a log likewise, and what it says about its trace."""
    log, kinds = _without_secrets(piece.log, _encode(piece.log))
    note = piece.note and mask_beside(piece.note)
    return MaskedPiece(replace(piece, log=log, note=note), kinds)


def mask_beside(said: T) -> T:
    """A trace's note or feedback likewise."""
    return _without_secrets(said, _encode(said))[0]


def _without_secrets(record: T, json: bytes) -> tuple[T, tuple[str, ...]]:
    if not may_have_secret(json):
        return record, ()
    strings: list[str] = []
    _map_strings(msgspec.to_builtins(record), strings.append)
    if not has_secret("\n".join(strings)):
        return record, ()
    found: set[str] = set()

    def clean(text: str) -> str:
        masked, kinds = without_secrets(text)
        found.update(kinds)
        return masked

    masked = msgspec.convert(_map_strings(msgspec.to_builtins(record), clean), type(record))
    return _with_ids_of(record, masked), tuple(kind for kind in KINDS if kind in found)


def _with_ids_of(record: T, masked: T) -> T:
    """An id that held a secret is replaced by a digest: still one id for each replay, and another for each record."""
    changed = {}
    for name in _IDS:
        given = getattr(record, name, None)
        if given is not None and given != getattr(masked, name):
            changed[name] = payload_log_id(given.encode())
    return msgspec.structs.replace(masked, **changed) if changed else masked


def _map_strings(value: Any, change: Callable[[str], Any]) -> Any:
    """The value with each of its strings changed, the names of fields of free-form JSON among them."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_map_strings(key, change): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(item, change) for item in value]
    return value
