"""A request's body, cut into items and packed into messages for the bus. What an item says is decoded later, by the stream. Pure."""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from tunemill.bus.port import Outgoing
from tunemill.curator_api.errors import BadRequest, TooDeep, TooLarge
from tunemill.schemas import wire
from tunemill.schemas.packing import split
from tunemill.schemas.topics import LOGS

MESSAGE_BYTES = 2**20  # what is packed into one message: small enough for every consumer, large enough to be fast
MESSAGE_ITEMS = 1_000  # so that no message takes its reader long
MAX_ITEM_BYTES = LOGS.max_message_bytes - 1024  # room for a key and the bus's own framing
MAX_ITEMS = 50_000  # of a body: each needs far more memory than its bytes, and may need an answer and a dead letter
MAX_DEPTH = 128  # of a body; a log may have 64, and what wraps it some more
MAX_KEY_CHARS = 128

Verdict = tuple[str, str]  # code and reason
Examine = Callable[[bytes], Verdict | None]  # the stream's decoding: its verdict if it will reject this item
KeyOf = Callable[[bytes], str | None]

_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}  # how such bytes begin
_STEP = 2**16  # brackets that are counted at once; between two steps other threads have their turn
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_LEVELS = {**dict.fromkeys(b"[{", 1), **dict.fromkeys(b"]}", -1)}


class Rejection(msgspec.Struct, frozen=True):
    """An item that will not become a log."""

    item: int  # its place in the body, from 0
    code: str
    reason: str


class Received(NamedTuple):
    """A body, ready to be published."""

    items: int
    rejected: Sequence[Rejection]  # they are published with the others, as dead letters to be,
    left_out: int  # but for those that are too large
    messages: Sequence[Outgoing]


def receive(body: bytes, *, is_lines: bool = False, examine: Examine) -> Received:
    """A body of logs as messages, and what is known already about each of its items.

    Args:
        is_lines: the sender says that each line is an item (`application/x-ndjson`). Then one that cannot be read
            spoils nothing but itself: it travels alone and becomes a dead letter.

    Raises:
        BadRequest: it is neither Avro nor JSON: not an object, an array of objects, or one object a line.
        TooLarge: no item is small enough for a message, or there are too many.
    """
    if body.startswith(wire.MARKER):
        return _received_avro(body, examine)
    items = cut(body, is_lines=is_lines)
    small = [item for item in items if giant(item) is None]
    if items and not small:
        raise TooLarge(f"item 0: it has {len(items[0])} bytes. Nothing was accepted", limit=MAX_ITEM_BYTES)
    verdicts = [giant(item) or examine(item) for item in items]
    return Received(len(items), _rejections(verdicts), len(items) - len(small), packed(small))


def _received_avro(body: bytes, examine: Examine) -> Received:
    """One Avro record, or a `LogBatch`, is a message as it is."""
    if (verdict := giant(body)) is not None:
        raise TooLarge(verdict[1], limit=MAX_ITEM_BYTES)
    try:
        records = wire.unpack(body)
    except wire.WireError as error:
        raise BadRequest(str(error)) from error
    verdicts = [examine(record if isinstance(record, bytes) else wire.encode(record)) for record in records]
    return Received(len(records), _rejections(verdicts), 0, [Outgoing(body)])


def _rejections(verdicts: Sequence[Verdict | None]) -> Sequence[Rejection]:
    return [Rejection(place, *verdict) for place, verdict in enumerate(verdicts) if verdict is not None]


def giant(item: bytes) -> Verdict | None:
    """The verdict on an item that no message can hold; None for any other."""
    if len(item) <= MAX_ITEM_BYTES:
        return None
    return "too_large", f"it has {len(item)} bytes; at most {MAX_ITEM_BYTES} are taken"


def is_lines(headers: Mapping[str, str]) -> bool:
    """Whether the sender says that each line of the body is an item."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() in _LINES


def cut(body: bytes, *, is_lines: bool = False) -> Sequence[bytes]:
    """The items of a JSON body, as they came: the items of an array, one a line, or the body itself.

    Raises:
        BadRequest: it is none of that.
        TooLarge: it has too many items.
        TooDeep: arrays and objects lie too deep inside one another.
    """
    body = body.removeprefix(BOM_UTF8)  # some editors and shells begin a file with it
    if not body.strip():
        raise BadRequest("the body is empty: send a JSON object, an array of objects, or one object a line")
    _refuse_compressed(body)
    if is_lines:
        refuse_many(body.count(b"\n"))
        return [line for line in body.split(b"\n") if line.strip()]
    items = split(body)
    refuse_many(len(items))
    is_whole = len(items) == 1 and items[0] is body
    for item in items:
        if giant(item) is None:
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
    depth = 0
    for place in range(0, len(brackets), _STEP):
        depths = list(accumulate(map(_LEVELS.__getitem__, brackets[place : place + _STEP]), initial=depth))
        if max(depths) > MAX_DEPTH:
            raise TooDeep(f"arrays and objects are nested more than {MAX_DEPTH} deep", limit=MAX_DEPTH)
        depth = depths[-1]


def refuse_many(items: int) -> None:
    """Return if a body may have so many items.

    Raises:
        TooLarge: it may not.
    """
    if items > MAX_ITEMS:
        raise TooLarge(f"the body has over {MAX_ITEMS} items: send it in several requests", limit=MAX_ITEMS)


def _refuse_compressed(body: bytes) -> None:
    name = next((name for begin, name in _COMPRESSED.items() if body.startswith(begin)), None)
    if name is not None:
        raise BadRequest(f"the body is compressed and does not say so: send it with Content-Encoding: {name}")


def _refuse_other_than_an_object(body: bytes) -> None:
    kind: Any = msgspec.Raw if giant(body) else Any  # what is refused for its size needs no memory for its values
    try:
        value = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: bad UTF-8, numbers of many digits
        place = f" ({error})" if isinstance(error, msgspec.DecodeError) else ""
        raise BadRequest(
            f"the body is not JSON{place}: send a JSON object, an array of objects, or one object a line; "
            "every line must begin with a brace"
        ) from error
    if not isinstance(value, dict | msgspec.Raw):
        raise BadRequest(
            "the body is JSON, but not an object: send a JSON object, an array of objects, or one object a line"
        )


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
