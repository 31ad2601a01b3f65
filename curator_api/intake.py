"""A request's body of logs, cut into messages for the bus. What a log says is decoded later, by the stream. Pure."""

from collections.abc import Iterator, Sequence

import msgspec

from tunemill.curator_api.errors import BadRequest, TooLarge
from tunemill.schemas.packing import split
from tunemill.schemas.topics import LOGS

MESSAGE_BYTES = 2**20  # what is packed into one message: small enough for every consumer, large enough to be fast


def messages(body: bytes, *, is_lines: bool = False) -> tuple[int, Sequence[bytes]]:
    """How many records a body holds, and the messages to publish them in.

    Args:
        is_lines: the sender says that each line is a record (`application/x-ndjson`). Then one that cannot be read
            spoils nothing but itself: it travels alone and becomes a dead letter.

    Raises:
        BadRequest: it is not JSON: not an object, an array of objects, or one object a line.
        TooLarge: one record is larger than a message may be.
    """
    if not body.strip():
        raise BadRequest("the body is empty: send a JSON object, an array of objects, or one object a line")
    if is_lines:
        lines = [line for line in body.split(b"\n") if line.strip()]
        _refuse_giants(lines)
        return len(lines), [_packed(group, is_array=False) for group in _groups(lines)]
    items = split(body)
    is_array = body.lstrip().startswith(b"[")
    if len(items) == 1 and not is_array:
        _refuse_other_than_an_object(body)
    if is_array and items and items[0] is body:
        raise BadRequest("the body begins like a JSON array and is not one")
    _refuse_giants(items)
    return len(items), [_packed(group, is_array=is_array) for group in _groups(items)]


def _refuse_other_than_an_object(body: bytes) -> None:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            "the body is not JSON: send a JSON object, an array of objects, or one object a line; "
            "every line must begin with a brace"
        ) from error
    if not isinstance(value, dict):
        raise BadRequest("the body is JSON, but not an object")


def _refuse_giants(items: Sequence[bytes]) -> None:
    limit = LOGS.max_message_bytes - 1024  # room for the bus's own framing
    for place, item in enumerate(items, start=1):
        if len(item) > limit:
            raise TooLarge(
                f"record {place} has {len(item)} bytes; one may have {limit}. Nothing was accepted", limit=limit
            )


def _groups(items: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Items in order, in groups of a bounded size. One that cannot be an object stays alone: the stream splits at braces."""
    group: list[bytes] = []
    size = 0
    for item in items:
        alone = not item.lstrip().startswith(b"{")
        if group and (alone or size + len(item) > MESSAGE_BYTES):
            yield group
            group, size = [], 0
        if alone:
            yield [item]
            continue
        group.append(item)
        size += len(item) + 1
    if group:
        yield group


def _packed(group: Sequence[bytes], *, is_array: bool) -> bytes:
    """Items of an array may be spread over lines; lines may be broken JSON. Each stays in the packing that it came in."""
    return b"[" + b",".join(group) + b"]" if is_array else b"\n".join(group)
