"""A search by relevance that goes on: after the logs with all of its words come those with some of them, in the same moment."""

import asyncio
from dataclasses import replace
from typing import NamedTuple

from tunemill.indexer.ast import And, Not, Or, Query, WordPrefix, Words
from tunemill.indexer.cursor import at_start, decode, fits
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.search import SearchIndex, SearchPage, SearchRequest

MOST_WORDS = 64  # each is asked for twice, and an engine takes only so many at once


class WiderPage(NamedTuple):
    """A page of the logs with all words, and after the last of them of those with some."""

    page: SearchPage  # its total, facets and histogram are of the logs with all words
    whole: int  # so many of its hits have all words, the first ones
    wider: int | None  # logs with some of the words and not all; None: not asked for, or not yet


async def search_wider(index: SearchIndex, request: SearchRequest) -> WiderPage:
    """One page of the logs that match, and after the last of them of those that have some of the words.

    Raises:
        CursorInvalid: the cursor is of neither search, or its point in time is over.
    """
    query = some_words(request.query) if request.by_score and request.limit else None
    if query is None:
        page = await index.search(request)
        return WiderPage(page, len(page.hits), None)
    some = replace(request, query=query, counts=False)
    if request.cursor is not None and fits(request.cursor, query, request.sort):
        return await _later_page(index, request, some)
    page = await index.search(request)
    if page.cursor is not None:
        return WiderPage(page, len(page.hits), None)
    return await _filled_up(index, page, some)


async def _later_page(index: SearchIndex, request: SearchRequest, some: SearchRequest) -> WiderPage:
    """A page of logs with some of the words, counted by those that have all."""
    place = decode(some)
    start = at_start(request.query, request.sort, place.point if place else "", request.now_ms)
    found, whole = await asyncio.gather(index.search(some), index.search(replace(request, limit=0, cursor=start)))
    return WiderPage(replace(whole, hits=found.hits, cursor=found.cursor), 0, found.total)


async def _filled_up(index: SearchIndex, page: SearchPage, some: SearchRequest) -> WiderPage:
    """The last page of the logs with all words, and the first of the others behind them."""
    room = some.limit - len(page.hits)
    start = at_start(some.query, some.sort, page.point, some.now_ms)
    first = replace(some, limit=room, cursor=start)  # without room they are only counted
    try:
        found = await index.search(first)
    except CursorInvalid:  # its point is over already: rather one of another moment than none
        found = await index.search(replace(first, cursor=None))
        start = at_start(some.query, some.sort, found.point, some.now_ms)
    cursor = found.cursor if room else start if found.total else None
    filled = replace(page, hits=page.hits + found.hits, cursor=cursor)
    return WiderPage(filled, len(page.hits), found.total)


def some_words(query: Query) -> Query | None:
    """The logs with some of the words that the query asks for and not with all; None where it does not ask for several."""
    words, others = _words(query)
    if not 2 <= len(words) <= MOST_WORDS:
        return None
    return And((Or(words), Not(And(words)), *others))


def any_word(query: Query) -> Query | None:
    """The query with one of its words in place of all; None where it does not ask for several."""
    words, others = _words(query)
    if len(words) < 2:
        return None
    return And((Or(words), *others)) if others else Or(words)


def _words(query: Query) -> tuple[tuple[Words | WordPrefix, ...], tuple[Query, ...]]:
    """The words that all have to be there, each once, and what else has to hold."""
    items = query.items if isinstance(query, And) else ()
    words = dict.fromkeys(item for item in items if isinstance(item, Words | WordPrefix))
    return tuple(words), tuple(item for item in items if item not in words)
