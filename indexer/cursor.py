"""The place of a page's last hit, as opaque text. It holds the sort and a digest of the query, so that it fits no other search."""

import base64
import binascii
import hashlib

import msgspec

from tunemill.indexer.ast import Query
from tunemill.indexer.dates import LATEST_MS
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import SearchRequest, Sort

LONGEST = 4096


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The sort keys of a hit: hits are ordered by (score, ts, log_id), the largest first."""

    search: str  # which search this is a place in
    seen: int  # hits on the pages so far
    score: float
    ts_ms: int
    log_id: str


def encode(place: Place) -> str:
    """The place as text."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def decode(request: SearchRequest) -> Place | None:
    """Where the request's page begins; None: at the start.

    Raises:
        CursorInvalid: not a cursor, or of another query or sort.
    """
    if request.cursor is None:
        return None
    if len(request.cursor) > LONGEST or not request.cursor.isascii():
        raise CursorInvalid("this is not a cursor of a search")
    try:
        padded = request.cursor + "=" * (-len(request.cursor) % 4)
        place = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=Place)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CursorInvalid("this is not a cursor of a search") from error
    if place.seen < 0 or not 0 <= place.ts_ms <= LATEST_MS:
        raise CursorInvalid("this is not a cursor of a search")
    if place.search != search_key(request.query, request.sort):
        raise CursorInvalid("this cursor belongs to another query or sort: search again without it")
    return place


def search_key(query: Query, sort: Sort) -> str:
    """A short digest of what is searched and how it is sorted."""
    return hashlib.sha256(f"{sort}:{to_text(query)}".encode(errors="replace")).hexdigest()[:16]
