"""Secrets out of every string of a log, of a part of one, and of what is said beside it, before anything is stored; private data
too where the project's policy is `ingest`. Pure.

A set of looser patterns looks at the record's JSON first; only where they find something is it done string by string.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import re2

from tunemill.privacy import pii
from tunemill.privacy.secrets import KINDS, has_secret, kinds_masked_in, may_have_secret, said_by, without_secrets
from tunemill.schemas.ids import payload_log_id
from tunemill.schemas.records import LogRecord
from tunemill.streams.formats.shape import Piece

_FREE_FORM = ("params", "tools", "parts", "extra")  # fields
_LONG_NUMBER = 10**6  # of private data none has fewer digits
_MOST_ID_PARTS = 8  # each run of them is looked at
_UUID = re2.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

T = TypeVar("T", bound=msgspec.Struct)

_encode = msgspec.json.Encoder(order="deterministic").encode
_IDS = ("log_id", "feedback_id")  # one record each: two that hold secrets must not become one
_LINKS = (
    "response_id",
    "trace_id",
    "session_id",
    "user_id",
)  # what hangs together must not be torn apart, nor be mixed


class Masked(msgspec.Struct, frozen=True):
    """A log without secrets, and the kinds of those that were found, in the order of `KINDS`."""

    log: LogRecord
    kinds: tuple[str, ...]
    json: bytes | None = None  # of the log, with the keys of objects in order, if it is at hand
    private: tuple[str, ...] = ()  # the kinds of private data that was replaced


class MaskedPiece(msgspec.Struct, frozen=True):
    """A part of a log without secrets, and the kinds of those that were found."""

    piece: Piece
    kinds: tuple[str, ...]
    private: tuple[str, ...] = ()  # the kinds of private data that was replaced


def mask(log: LogRecord, *, private: bool = False, json: bytes | None = None) -> Masked:
    """The log with every secret in any of its strings replaced; the same object when there is none.

    Args:
        private: whether private data is replaced too.
        json: the log's, with the keys of objects in order, if it is at hand.
    """
    json = json or _encode(log)
    masked, kinds, replaced = _cleaned(log, json, private)
    return Masked(masked, kinds, json if masked is log else _encode(masked), replaced)


def mask_piece(piece: Piece, *, private: bool = False) -> MaskedPiece:
    """A part of a log likewise, and what it says about its trace."""
    log, kinds, replaced = _cleaned(piece.log, _encode(piece.log), private)
    note = piece.note and mask_beside(piece.note, private=private)
    return MaskedPiece(replace(piece, log=log, note=note), kinds, replaced)


def mask_beside(said: T, *, private: bool = False) -> T:
    """A trace's note or feedback likewise."""
    return _cleaned(said, _encode(said), private)[0]


def _cleaned(record: T, json: bytes, private: bool) -> tuple[T, tuple[str, ...], tuple[str, ...]]:
    """The record without secrets, and without private data if that is asked for; the kinds of both that were found."""
    if not private and not may_have_secret(json):
        return record, (), ()
    told = kinds_masked_in(json)  # by whoever had it before
    whole = "\n".join(_strings(record))
    secret = has_secret(whole)
    if not secret and not (private and pii.may_hold(whole)):
        return record, _in_order(KINDS, told), ()
    secret_kinds, private_kinds = set(told), set[str]()

    def clean(text: str, name: str) -> str:
        if secret:
            text, kinds = without_secrets(text, name=name)
            secret_kinds.update(kinds)
        if private:
            text, kinds = _without_private(text, name)
            private_kinds.update(kinds)
        return text

    masked = msgspec.convert(map_strings(msgspec.to_builtins(record), clean), type(record))
    return _with_ids_of(record, masked), _in_order(KINDS, secret_kinds), _in_order(pii.KINDS, private_kinds)


def _without_private(text: str, name: str) -> tuple[str, frozenset[str]]:
    masked, kinds = pii.without_private(text, name=name)
    if kinds or name not in (*_IDS, *_LINKS):
        return masked, kinds
    parts = _UUID.sub("", text).split("-")[:_MOST_ID_PARTS]  # an id may be made of several, joined by dashes
    pairs = itertools.combinations(range(len(parts) + 1), 2)
    kinds = frozenset().union(*(pii.kinds_in("-".join(parts[start:end])) for start, end in pairs))
    return (f"[PII:{min(kinds)}]" if kinds else text), kinds


def _in_order(kinds: Iterable[str], found: Set[str]) -> tuple[str, ...]:
    return tuple(kind for kind in kinds if kind in found)


def _with_ids_of(record: T, masked: T) -> T:
    """An id that held a secret is replaced by a digest: still one id for each replay, and another for each record. What links
    records is so replaced where it held private data, which people are called by more often than by a secret."""
    changed = {}
    for name in (*_IDS, *_LINKS):
        given, now = getattr(record, name, None), getattr(masked, name, None)
        if given is not None and given != now and (name in _IDS or "[PII:" in str(now)):
            changed[name] = payload_log_id(given.encode())
    return msgspec.structs.replace(masked, **changed) if changed else masked


def _strings(record: msgspec.Struct) -> list[str]:
    strings: list[str] = []

    def keep(text: str, name: str) -> str:
        strings.append(said_by(name) + text)
        return text

    map_strings(msgspec.to_builtins(record), keep)
    return strings


def map_strings(value: Any, change: Callable[[str, str], str], name: str = "", *, is_free: bool = False) -> Any:
    """The value with each of its strings changed, the names of fields of free-form JSON among them, and each long number there.

    Args:
        change: takes a string, and the name of the field that it stands in.
        is_free: whether the value is free-form JSON, where a number may become a string.
    """
    if isinstance(value, str):
        return change(value, name)
    if is_free and type(value) is int and abs(value) >= _LONG_NUMBER:
        written = str(value)
        changed = change(written, name)
        return value if changed == written else changed
    if isinstance(value, dict):
        mapped: dict[str, Any] = {}
        for key, item in value.items():
            mapped[_free_name(change(key, ""), mapped)] = map_strings(
                item, change, key, is_free=is_free or key in _FREE_FORM
            )
        return mapped
    if isinstance(value, list | tuple):
        return [map_strings(item, change, name, is_free=is_free) for item in value]
    return value


def _free_name(name: str, taken: Collection[str]) -> str:
    """The name, numbered where another field has it already: what was replaced in both was not the same."""
    if name not in taken:
        return name
    return next(numbered for count in itertools.count(2) if (numbered := f"{name} {count}") not in taken)
