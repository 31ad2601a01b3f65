"""By relevance, the logs with all words of a search come first and those with some after them: on both engines and on the fake."""

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from engines.own_index import ENGINES, opened_for
from fakes.search_memory import MemorySearch

from tunemill.indexer.cursor import at_start
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.query import MAX_DEPTH, MAX_TERMS, parse
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import SORTS, SearchIndex, SearchPage, SearchRequest
from tunemill.indexer.wider import MOST_WORDS, WiderPage, any_word, search_wider, some_words
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import LogRecord, Message, TaggedLog
from tunemill.schemas.stored import StoredLog

NEW_YEAR = 1_767_225_600_000  # 2026-01-01
FRUIT = ("apple", "pear", "plum", "fig", "kiwi", "melon")


@pytest.fixture(params=(*ENGINES, "memory"))
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    if request.param == "memory":
        yield MemorySearch()
        return
    async with opened_for(request, tmp_path) as index:
        yield index


@pytest.fixture(params=ENGINES)
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[SearchIndex, SearchIndex]]:
    async with opened_for(request, tmp_path) as ours, opened_for(request, tmp_path) as theirs:
        yield ours, theirs


def log(log_id: str, text: str, answer: str = "", **fields: object) -> TaggedLog:
    record = LogRecord(
        log_id=log_id,
        messages=(Message(role="user", content=text),),
        output=(Message(role="assistant", content=answer),) if answer else (),
        **{"ts_ms": NEW_YEAR, "app": "shop", **fields},  # type: ignore[arg-type]
    )
    return TaggedLog(log=record, content_digest=f"digest-of-{text}")


def baskets(chance: random.Random, count: int) -> list[TaggedLog]:
    """Logs that each name some fruit, in the prompt and in the answer, many of them the same."""
    return [
        log(
            f"l{at:02}",
            " ".join(chance.choices(FRUIT, k=chance.randrange(1, 5))),
            " ".join(chance.choices(FRUIT, k=chance.randrange(3))),
            ts_ms=NEW_YEAR + at // 4 * 1000,
            app=chance.choice(("shop", "market")),
        )
        for at in range(count)
    ]


def asked(chance: random.Random) -> str:
    """Two words or more, and what else has to hold."""
    word = lambda: chance.choice(FRUIT)  # noqa: E731
    kinds = (
        word,
        lambda: f'"{word()} {word()}"',
        lambda: f"{word()[:2]}*",
        lambda: f"{chance.choice(('prompt', 'response'))}:{word()}",
    )
    rests = (
        lambda: "",
        lambda: f"-{word()}",
        lambda: "app:shop",
        lambda: f"({word()} OR {word()})",
        lambda: f"ts:>={NEW_YEAR + 2000}",
        lambda: "-" * MAX_DEPTH + word(),
        lambda: f"({word()} OR -({word()} " * (MAX_DEPTH // 3) + word() + "))" * (MAX_DEPTH // 3),
    )
    terms = [chance.choice(kinds)() for _ in range(chance.randrange(2, 5))] + [chance.choice(rests)()]
    chance.shuffle(terms)
    return " ".join(terms)


async def fill(index: SearchIndex, logs: Sequence[TaggedLog]) -> None:
    assert {item.outcome for item in await index.write(logs)} == {Outcome.INDEXED}
    await index.refresh()


async def search(index: SearchIndex, text: str, **how: object) -> WiderPage:
    return await search_wider(index, SearchRequest(parse(text), **how))  # type: ignore[arg-type]


def ids(page: SearchPage) -> list[str]:
    return [hit.log.log.log_id for hit in page.hits]


async def walked(index: SearchIndex, text: str, limit: int) -> tuple[list[str], list[str]]:
    """The logs of all pages with all words, and those with some."""
    every: list[str] = []
    some: list[str] = []
    cursor, total = None, None
    while True:
        found = await search(index, text, limit=limit, cursor=cursor, counts=False)
        page = found.page
        assert total in (None, page.total)
        assert len(page.hits) == limit or page.cursor is None
        total = page.total
        assert found.whole == 0 or not some  # all words before some
        every += ids(page)[: found.whole]
        assert (found.wider is None) is (len(every) < total)
        some += ids(page)[found.whole :]
        if page.cursor is None:
            assert (len(every), len(some)) == (total, found.wider)
            return every, some
        cursor = page.cursor


async def test_pages_walk_all_logs_with_all_words_and_then_those_with_some(index: SearchIndex) -> None:
    chance = random.Random(7)
    logs = baskets(chance, 24)
    await fill(index, logs)
    known = MemorySearch(*logs)
    widened = 0
    for number in range(100):
        text = asked(chance)
        query = parse(text)
        wider = any_word(query)
        every, some = await walked(index, text, (1, 2, 3, 7)[number % 4]) if some_words(query) else ([], [])
        if wider is None or not some_words(query):
            continue
        scanned = [{found.log.log_id async for found in known.scan(one, limit=None)} for one in (query, wider)]
        assert set(every) == scanned[0], text
        assert set(some) == scanned[1] - scanned[0], text
        assert len(every + some) == len(scanned[1]), text
        widened += bool(every and some)
    assert widened > 20


async def test_a_log_with_all_words_comes_before_one_that_scores_higher(index: SearchIndex) -> None:
    filler = "and a long text about something else " * 20
    logs = [log("all", f"apple pear {filler}"), log("some", "apple apple"), log("other", "pear"), log("none", "fig")]
    await fill(index, logs)
    found = await search(index, "apple pear")
    assert ids(found.page)[0] == "all"
    assert set(ids(found.page)[1:]) == {"some", "other"}
    assert (found.page.total, found.whole, found.wider, found.page.cursor) == (1, 1, 2, None)
    if not isinstance(index, MemorySearch):
        (marked,) = next(hit for hit in found.page.hits if hit.log.log.log_id == "other").highlights
        assert marked == (("pear", True),)


async def test_what_is_counted_is_the_logs_with_all_words_on_every_page(index: SearchIndex) -> None:
    await fill(index, baskets(random.Random(1), 24))
    plain = await index.search(SearchRequest(parse("apple pear"), limit=0))
    assert 0 < plain.total < 8
    cursor = None
    for page in range(9):
        found = await search(index, "apple pear", limit=2, cursor=cursor)
        counts = found.page.total, found.page.facets, found.page.histogram
        assert counts == (plain.total, plain.facets, plain.histogram), page
        if (cursor := found.page.cursor) is None:
            break
    assert page > 4


async def test_pages_of_both_groups_are_of_one_moment(index: SearchIndex) -> None:
    await fill(index, [log(f"all{at}", "apple pear " * (at + 1)) for at in range(6)])
    await fill(index, [log(f"some{at}", "apple " * (at + 1)) for at in range(6)])
    every, some = await walked(index, "apple pear", 20)
    first = await search(index, "apple pear", limit=4)
    seen, page = ids(first.page), first.page
    gone = {every[4], some[1], some[5]}
    for at in range(2):
        await fill(index, [log(f"new{at}", "apple"), log(f"newer{at}", "apple pear")])
        for log_id in (every[5], every[0], some[2], some[0]):
            stored = (await index.stored(log_ids=[log_id], trace_ids=[])).logs[log_id]
            text = Message(role="user", content=("fig", "apple pear")[at])
            edited = msgspec.structs.replace(stored.tagged.log, messages=(text,))
            await index.replace([StoredLog(msgspec.structs.replace(stored.tagged, log=edited), stored.version)])
        await index.delete(sorted(gone))
        await index.refresh()
        page = (await search(index, "apple pear", limit=4, cursor=page.cursor)).page
        assert page.total == 6
        seen += ids(page)
    assert page.cursor is None
    assert [log_id for log_id in seen if log_id not in gone] == [
        log_id for log_id in every + some if log_id not in gone
    ]


async def test_a_page_that_the_logs_with_all_words_fill_is_not_the_last_where_others_follow(index: SearchIndex) -> None:
    await fill(index, [log(f"all{at}", "apple pear") for at in range(3)])
    assert (await search(index, "apple pear", limit=3)).page.cursor is None
    await fill(index, [log("some", "apple"), log("other", "fig")])
    full = await search(index, "apple pear", limit=3)
    assert (len(full.page.hits), full.whole, full.wider) == (3, 3, 1)
    await fill(index, [log("late", "pear")])
    last = await search(index, "apple pear", limit=3, cursor=full.page.cursor)
    assert (ids(last.page), last.whole, last.wider, last.page.cursor) == (["some"], 0, 1, None)


async def test_only_a_search_for_several_words_by_relevance_is_widened(index: SearchIndex) -> None:
    await fill(index, [log("all", "apple pear"), log("some", "apple")])
    for text in (
        "apple",
        "apple apple",
        "apple OR pear",
        "apple -pear",
        "(apple OR fig) (pear OR fig)",
        "app:shop",
        "",
    ):
        assert (await search(index, text)).wider is None, text
    for sort in SORTS[1:]:
        assert (await search(index, "apple pear", sort=sort)).wider is None
    assert (await search(index, "apple pear", limit=0)).wider is None
    assert (await search(index, "apple apple pear")).wider == 1
    assert (await search(index, "? apple")).wider == 2  # a sign is a word that no log has
    for text in ("? !", "fig kiwi"):
        found = await search(index, text)
        assert (found.page.total, found.page.hits, found.page.cursor, found.wider) == (0, (), None, 0)


async def test_as_many_words_as_an_engine_takes_are_widened(index: SearchIndex) -> None:
    await fill(index, [log("all", " ".join(f"word{at}" for at in range(300))), log("some", "word7")])
    words = [f"word{at}" for at in range(MOST_WORDS + 1)]
    others = " OR ".join(f"prompt:word{at}" for at in range(MAX_TERMS - MOST_WORDS - 1))
    assert (await search(index, f"{' '.join(words[:-1])} (word7 OR {others})")).wider == 1
    assert (await search(index, " ".join(words))).wider is None


async def test_a_cursor_that_nobody_gave_shows_nothing_that_it_should_not(index: SearchIndex) -> None:
    await fill(index, [log("all", "apple pear"), log("some", "apple")])
    query = some_words(parse("apple pear"))
    assert query is not None
    for point in ("c29tZXRoaW5nIG9sZA==", "1", "\0"):
        with pytest.raises(CursorInvalid):
            await search(index, "apple pear", cursor=at_start(query, "relevance", f"{point}{point}", None))
    other = some_words(parse("apple fig"))
    assert other is not None
    for cursor in (at_start(other, "relevance", "", None), at_start(query, "newest", "", None), "nonsense"):
        with pytest.raises(CursorInvalid):
            await search(index, "apple pear", cursor=cursor)


async def test_a_point_in_time_of_another_project_shows_nothing_of_it(two: tuple[SearchIndex, SearchIndex]) -> None:
    ours, theirs = two
    await fill(ours, [log("ours", "apple pear")])
    await fill(theirs, [log(f"theirs{at}", "apple pear") for at in range(3)] + [log("theirs", "pear")])
    for text in ("apple", "apple pear", "pear"):
        query = parse(text)
        point = (await theirs.search(SearchRequest(query, limit=1))).point
        forged = SearchRequest(query, cursor=at_start(query, "relevance", point, None))
        assert (await theirs.search(forged)).total >= 3
        for wanted in (forged, replace(forged, limit=0)):
            try:
                page = await ours.search(wanted)
            except CursorInvalid:
                continue
            assert (page.total, page.hits) == (0, ())
            assert not any(page.facets.values())


async def test_a_page_is_whole_though_its_moment_is_over_before_it_is_widened() -> None:
    class Forgetful(MemorySearch):
        async def search(self, request: SearchRequest) -> SearchPage:
            if request.cursor is not None and request.cursor == at_start(request.query, request.sort, "0", None):
                raise CursorInvalid("the point in time is over")
            return await super().search(request)

    for limit, shown in ((2, ["all", "some"]), (1, ["all"])):
        index = Forgetful(log("all", "apple pear"), log("some", "pear"))
        found = await search(index, "apple pear", limit=limit)
        assert (ids(found.page), found.whole, found.wider) == (shown, 1, 1)
        if found.page.cursor is not None:
            assert ids((await search(index, "apple pear", limit=limit, cursor=found.page.cursor)).page) == ["some"]


def test_any_word_keeps_everything_but_that_all_words_must_be_there() -> None:
    wider = {
        "a b": "a OR b",
        'a "b c" -d model:m': '(a OR "b c") NOT d model:"m"',
        "prompt:a b*": 'prompt:"a" OR b*',
    }
    assert {text: to_text(any_word(parse(text)) or parse("")) for text in wider} == wider
    assert [any_word(parse(text)) for text in ("", "a", "a a", "a OR b", "a -b", "-(a b)")] == [None] * 6


def test_some_words_are_one_of_them_and_not_all() -> None:
    widened = {"a b": "(a OR b) NOT (a b)", "a -d b app:x": '(a OR b) NOT (a b) NOT d app:"x"'}
    assert {text: to_text(some_words(parse(text)) or parse("")) for text in widened} == widened
    assert [some_words(parse(text)) for text in ("", "a", "a a", "a OR b", "a -b", "-(a b)")] == [None] * 6
