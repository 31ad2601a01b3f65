"""Cursors come from outside, where they can be forged."""

import pytest

from tunemill.indexer.cursor import Place, at_start, encode, fits, moment
from tunemill.indexer.dates import LATEST_MS
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.query import parse


def test_the_moment_of_the_first_page_is_in_its_cursor() -> None:
    assert moment(encode(Place("search", 1, None, 1, "a", now_ms=LATEST_MS))) == LATEST_MS


@pytest.mark.parametrize(
    "place",
    [
        Place("search", -1, None, 1, "a"),
        Place("search", 1, 1e300, 1, "a"),
        Place("search", 1, None, LATEST_MS + 1, "a"),
        Place("search", 1, None, 1, "a", now_ms=LATEST_MS + 1),  # no date has a name there
        Place("search", 1, None, 1, "a", now_ms=-1),
    ],
)
def test_a_place_that_no_hit_can_have_is_refused(place: Place) -> None:
    with pytest.raises(CursorInvalid):
        moment(encode(place))


def test_a_search_can_begin_in_a_point_in_time_by_a_cursor_of_its_own() -> None:
    cursor = at_start(parse("a OR b"), "relevance", "a point", 1234)
    assert moment(cursor) == 1234
    assert fits(cursor, parse("a OR b"), "relevance")
    assert not fits(cursor, parse("a b"), "relevance")
    assert not fits(cursor, parse("a OR b"), "newest")
    with pytest.raises(CursorInvalid):
        fits("nonsense", parse("a OR b"), "relevance")
