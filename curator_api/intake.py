"""A request's body, cut into items and packed into messages for the bus. What an item says is decoded later, by the stream. Pure."""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from tunemill.bus.port import Outgoing
from tunemill.curator_api.errors import BadRequest, TooDeep, TooLarge
from tunemill.schemas import wire
from tunemill.schemas.packing import split
from tunemill.schemas.topics import LOGS

MESSAGE_BYTES = 2**20  # what is packed into one message: small enough for every consumer, large enough to be fast
MESSAGE_ITEMS = 1_000  # so that no message takes its reader long
MAX_ITEM_BYTES = LOGS.max_message_bytes - 1024  # room for a key and the bus's own framing
MAX_DEPTH = 128  # of a body; a log may have 64, and what wraps it some more
MAX_KEY_CHARS = 128

Examine = Callable[
    [bytes], tuple[str, str] | None
]  # the stream's decoding: code and reason if it will reject this item
KeyOf = Callable[[bytes], str | None]

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_LEVELS = {**dict.fromkeys(b"[{", 1), **dict.fromkeys(b"]}", -1)}


class Rejection(NamedTuple):
    """An item that will not become a log."""

    item: int  # its place in the body, from 0
    code: str
    reason: str


class Received(NamedTuple):
    """A body, ready to be published."""

    items: int
    rejected: Sequence[
        Rejection
    ]  # all but those that are too large are published with the others, as dead letters to be
    messages: Sequence[Outgoing]


def receive(body: bytes, *, is_lines: bool = False, examine: Examine) -> Received:
    """A body of logs as messages, and what is known already about each of its items.

    Args:
        is_lines: the sender says that each line is an item (`application/x-ndjson`). Then one that cannot be read
            spoils nothing but itself: it travels alone and becomes a dead letter.

    Raises:
        BadRequest: it is neither Avro nor JSON: not an object, an array of objects, or one object a line.
        TooLarge: no item is small enough for a message.
    """
    if body.startswith(wire.MARKER):
        return _received_avro(body, examine)
    items = cut(body, is_lines=is_lines)
    too_large = [Rejection(place, *_giant(item)) for place, item in enumerate(items) if len(item) > MAX_ITEM_BYTES]
    if too_large and len(too_large) == len(items):
        raise TooLarge(f"item 0: {too_large[0].reason}. Nothing was accepted", limit=MAX_ITEM_BYTES)
    small = [item for item in items if len(item) <= MAX_ITEM_BYTES]
    verdicts = [
        Rejection(place, *verdict)
        for place, item in enumerate(items)
        if len(item) <= MAX_ITEM_BYTES and (verdict := examine(item)) is not None
    ]
    return Received(len(items), sorted([*too_large, *verdicts]), packed(small))


def _received_avro(body: bytes, examine: Examine) -> Received:
    """One Avro record, or a `LogBatch`, is a message as it is."""
    if len(body) > MAX_ITEM_BYTES:
        raise TooLarge(_giant(body)[1], limit=MAX_ITEM_BYTES)
    try:
        records = wire.unpack(body)
    except wire.WireError as error:
        raise BadRequest(str(error)) from error
    verdicts = [examine(record if isinstance(record, bytes) else wire.encode(record)) for record in records]
    rejected = [Rejection(place, *verdict) for place, verdict in enumerate(verdicts) if verdict is not None]
    return Received(len(records), rejected, [Outgoing(body)])


def _giant(item: bytes) -> tuple[str, str]:
    return "too_large", f"it has {len(item)} bytes; at most {MAX_ITEM_BYTES} are taken"


def cut(body: bytes, *, is_lines: bool = False) -> Sequence[bytes]:
    """The items of a JSON body, as they came: the items of an array, one a line, or the body itself.

    Raises:
        BadRequest: it is none of that.
        TooDeep: arrays and objects lie too deep inside one another.
    """
    body = body.removeprefix(BOM_UTF8)  # some editors and shells begin a file with it
    if not body.strip():
        raise BadRequest("the body is empty: send a JSON object, an array of objects, or one object a line")
    if is_lines:
        return [line for line in body.split(b"\n") if line.strip()]
    items = split(body)
    is_whole = len(items) == 1 and items[0] is body
    for item in items:
        refuse_deep(item)
    if is_whole and body.lstrip().startswith(b"["):
        raise BadRequest("the body begins like a JSON array and is not one")
    if is_whole:
        _refuse_other_than_an_object(body)
    return items


def refuse_deep(body: bytes) -> None:
    """Return if nobody has to climb far into this JSON. Looks at the brackets alone, so that broken JSON costs no more.

    Raises:
        TooDeep: arrays and objects lie too deep inside one another.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKET)
    if max(accumulate(map(_LEVELS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise TooDeep(f"arrays and objects are nested more than {MAX_DEPTH} deep", limit=MAX_DEPTH)


def _refuse_other_than_an_object(body: bytes) -> None:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: bad UTF-8, numbers of many digits
        raise BadRequest(
            "the body is not JSON: send a JSON object, an array of objects, or one object a line; "
            "every line must begin with a brace"
        ) from error
    if not isinstance(value, dict):
        raise BadRequest("the body is JSON, but not an object")


class _Named(msgspec.Struct):
    """What orders a log among others, by the names of `LogRecord`."""

    session_id: str | None = None
    trace_id: str | None = None


def key_of(item: bytes) -> str | None:
    """The session of a log, else its trace: logs of one session keep their order. None if that is not said in our own words."""
    try:
        named = msgspec.json.decode(item, type=_Named)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return named.session_id or named.trace_id or None


def packed(items: Sequence[bytes], key_of: KeyOf = key_of) -> list[Outgoing]:
    """Items in order, many in one message. A message whose items have one key between them gets it."""
    return [Outgoing(_joined(group), _key(group, key_of)) for group in _groups(items)]


def _groups(items: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Groups of a bounded size. One that cannot be an object stays alone: the stream splits at braces."""
    group: list[bytes] = []
    size = 0
    for item in items:
        alone = not item.lstrip().startswith(b"{")
        if group and (alone or size + len(item) > MESSAGE_BYTES or len(group) == MESSAGE_ITEMS):
            yield group
            group, size = [], 0
        if alone:
            yield [item]
            continue
        group.append(item)
        size += len(item) + 1
    if group:
        yield group


def _joined(group: Sequence[bytes]) -> bytes:
    """As lines; but items of an array may themselves be spread over lines, and are whole JSON, so that they make an array again."""
    is_array = len(group) > 1 and any(b"\n" in item for item in group)
    return b"[" + b",".join(group) + b"]" if is_array else b"\n".join(group)


def _key(group: Sequence[bytes], key_of: KeyOf) -> str | None:
    key = key_of(group[0])
    if key is None or len(key) > MAX_KEY_CHARS:
        return None
    return key if all(key_of(item) == key for item in group[1:]) else None
