"""The place of a page's last hit, as opaque text. It holds the sort and a digest of the query, so that it fits no other search."""

import base64
import binascii
import hashlib

import msgspec

from tunemill.indexer.ast import Query
from tunemill.indexer.dates import LATEST_MS
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.fields import LARGEST_WHOLE
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import SearchRequest, Sort

LONGEST = 32_768  # characters; a point in time names each of the indices that it is of
BEST_SCORE = 10**15  # no hit has it


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The sort keys of a hit, in this order: the key by its sort, those without one last; then ts and log_id, the largest first."""

    search: str  # which search this is a place in
    seen: int  # hits on the pages so far
    key: int | float | None  # the score, or the value of the field that is sorted by, as the engine has it
    ts_ms: int
    log_id: str
    point: str = ""  # the point in time that all pages are of, as the engine names it
    now_ms: int | None = None  # what `now` meant on the first page


def next_cursor(
    request: SearchRequest, place: Place | None, shown: int, last: tuple[int | float | None, int, str], point: str
) -> str:
    """The cursor of the page after one that shows so many hits.

    Args:
        place: where that page began.
        last: the sort keys of its last hit: key, ts_ms, log_id.
    """
    seen = shown + (place.seen if place else 0)
    return encode(Place(search_key(request.query, request.sort), seen, *last, point, request.now_ms))


def at_start(query: Query, sort: Sort, point: str, now_ms: int | None) -> str:
    """The cursor of the first page of a search by relevance that begins in a point in time."""
    return encode(Place(search_key(query, sort), 0, BEST_SCORE, LATEST_MS, "", point, now_ms))


def fits(cursor: str, query: Query, sort: Sort) -> bool:
    """Whether this is a cursor of this search.

    Raises:
        CursorInvalid: it is not a cursor.
    """
    return _read(cursor).search == search_key(query, sort)


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
    place = _read(request.cursor)
    if place.search != search_key(request.query, request.sort):
        raise CursorInvalid("this cursor belongs to another query or sort: search again without it")
    return place


def moment(cursor: str | None) -> int | None:
    """What `now` meant on the first page of a search that is gone on with; None: there is no such page.

    Raises:
        CursorInvalid: not a cursor.
    """
    return None if cursor is None else _read(cursor).now_ms


def search_key(query: Query, sort: Sort) -> str:
    """A short digest of what is searched and how it is sorted."""
    return hashlib.sha256(f"{sort}:{to_text(query)}".encode(errors="replace")).hexdigest()[:16]


def _read(cursor: str) -> Place:
    if len(cursor) > LONGEST or not cursor.isascii():
        raise CursorInvalid("this is not a cursor of a search")
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=Place)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CursorInvalid("this is not a cursor of a search") from error
    moments = (place.ts_ms, place.now_ms or 0)
    if place.seen < 0 or abs(place.key or 0) > LARGEST_WHOLE or any(not 0 <= at <= LATEST_MS for at in moments):
        raise CursorInvalid("this is not a cursor of a search")
    return place
