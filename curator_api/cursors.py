"""Cursors: where a page ended, as text that a client hands back. Pure."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TypeVar

import msgspec

from tunemill.curator_api.errors import BadRequest

T = TypeVar("T")


def to_cursor(place: object) -> str:
    """A place in a list, as a cursor."""
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def from_cursor(cursor: str | None, kind: type[T]) -> T | None:
    """The place that a cursor stands for.

    Raises:
        BadRequest: it is not a cursor of ours.
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return msgspec.json.decode(urlsafe_b64decode(padded), type=kind)
    except ValueError as error:  # msgspec's and base64's errors are of this kind
        raise BadRequest("the cursor is not one of this list: ask again without it") from error
