"""Sorts, pages of one point in time, histograms and likeness: the same on both engines and on the fake."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from engines.own_index import ENGINES, opened_for
from fakes.search_memory import MemorySearch

from tunemill.indexer.cursor import decode, encode, moment
from tunemill.indexer.document import to_document
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.histogram import WIDTHS_MS
from tunemill.indexer.query import parse
from tunemill.indexer.search import SORTS, SearchIndex, SearchPage, SearchRequest, Sort
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import LogRecord, Message, Said, TaggedLog
from tunemill.schemas.stored import StoredLog

NEW_YEAR = 1_767_225_600_000  # 2026-01-01
DAY_MS = 86_400_000
KEYS = {"cost": "cost_usd", "latency": "latency_ms", "length": "chars", "feedback": "score"}  # by sort


@pytest.fixture(params=(*ENGINES, "memory"))
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    if request.param == "memory":
        yield MemorySearch()
        return
    async with opened_for(request, tmp_path) as index:
        yield index


def log(log_id: str, text: str = "apple", **fields: object) -> TaggedLog:
    said = fields.pop("said", None)
    record = LogRecord(
        log_id=log_id,
        messages=(Message(role="user", content=text),),
        **{"ts_ms": NEW_YEAR, "app": "shop", **fields},  # type: ignore[arg-type]
    )
    feedback = () if said is None else (Said(name="correct", score=said),)  # type: ignore[arg-type]
    return TaggedLog(log=record, content_digest=f"digest-of-{text}", feedback=feedback)


def odd_logs(count: int, app: str = "shop") -> list[TaggedLog]:
    """Many ties, on every key, and values that are missing, negative, tiny and huge."""
    costs = (None, 0.0, 0.25, 1e-12, -3.5, 1e18, 0.25)
    latencies = (None, None, 412.5, 0.1, 3e9)
    return [
        log(
            f"{app}-l{at:03}",
            "apple " * (at % 4 + 1),
            app=app,
            ts_ms=NEW_YEAR + at // 9 * 1000,
            cost_usd=costs[at % 7],
            latency_ms=latencies[at % 5],
            said=(None, 1.0, 0.5, 0.0, None)[at // 3 % 5],
        )
        for at in range(count)
    ]


def in_order(logs: Sequence[TaggedLog], sort: Sort) -> list[str]:
    """By the key, those without one last; then the newest, then the larger id."""
    kept = sorted(map(to_document, logs), key=lambda document: (document.ts, document.id), reverse=True)
    if sort == "oldest":
        kept.sort(key=lambda document: document.ts)
    if sort in KEYS:
        sign = 1 if sort == "feedback" else -1
        values = {document.id: getattr(document, KEYS[sort]) for document in kept}
        kept.sort(key=lambda document: (values[document.id] is None, sign * (values[document.id] or 0)))
    return [document.id for document in kept]


async def fill(index: SearchIndex, logs: Sequence[TaggedLog]) -> None:
    assert {item.outcome for item in await index.write(logs)} == {Outcome.INDEXED}
    await index.refresh()


async def search(index: SearchIndex, text: str, **how: object) -> SearchPage:
    return await index.search(SearchRequest(parse(text), **how))  # type: ignore[arg-type]


def ids(page: SearchPage) -> list[str]:
    return [hit.log.log.log_id for hit in page.hits]


async def walked(index: SearchIndex, text: str, **how: object) -> list[str]:
    """The ids of all pages."""
    seen: list[str] = []
    cursor = None
    while True:
        page = await search(index, text, cursor=cursor, **how)
        seen += ids(page)
        cursor = page.cursor
        if cursor is None:
            return seen


async def test_pages_of_every_size_walk_all_logs_once_and_in_order(index: SearchIndex) -> None:
    logs = odd_logs(63)
    await fill(index, logs)
    for sort in SORTS:
        expected = in_order(logs, sort)
        for text in ("app:shop", "appl*"):
            for limit in (5, 62, 63):
                assert await walked(index, text, sort=sort, limit=limit, counts=False) == expected, (sort, text, limit)
        whole = await walked(index, "apple", sort=sort, limit=100)
        assert sorted(whole) == sorted(expected)
        assert whole == expected or sort == "relevance"
        assert await walked(index, "apple", sort=sort, limit=4, counts=False) == whole


async def replaced(index: SearchIndex, log_id: str, **fields: object) -> None:
    stored = (await index.stored(log_ids=[log_id], trace_ids=[])).logs[log_id]
    record = msgspec.structs.replace(stored.tagged.log, **fields)
    (end,) = await index.replace([StoredLog(msgspec.structs.replace(stored.tagged, log=record), stored.version)])
    assert end is not None


async def test_pages_are_of_one_point_in_time_whatever_is_written_edited_and_deleted(index: SearchIndex) -> None:
    for sort in SORTS:
        await fill(index, odd_logs(60, app=sort))
    for sort in SORTS:
        text = f"apple app:{sort}"
        page = await search(index, text, sort=sort, limit=15)
        whole = ids(await search(index, text, sort=sort, limit=60))
        seen, deleted = ids(page), set[str]()
        for at in range(3):
            new = log(
                f"{sort}-new{at}", "apple apple", app=sort, ts_ms=NEW_YEAR + 3_500, cost_usd=0.2, latency_ms=400.0
            )
            await index.write([new])
            for log_id in (whole[at], whole[58 - at]):  # one that was shown, and one that comes
                pear = (Message(role="user", content="pear"),)
                await replaced(index, log_id, cost_usd=0.1, latency_ms=1.0, messages=pear)
            deleted.add(whole[55 - 3 * at])
            await index.delete([whole[55 - 3 * at]])
            await index.refresh()
            page = await search(index, text, sort=sort, limit=15, cursor=page.cursor)
            assert page.total == 60
            seen += ids(page)
        assert page.cursor is None
        assert [one for one in seen if one not in deleted] == [one for one in whole if one not in deleted], sort
        assert (await search(index, text)).total == 60 + 3 - 6 - 3


async def test_a_walk_goes_on_where_most_of_what_it_would_have_shown_was_deleted(index: SearchIndex) -> None:
    for sort in SORTS:
        await fill(index, odd_logs(40, app=sort))
    for sort in SORTS:
        text = f"apple app:{sort}"
        whole = ids(await search(index, text, sort=sort, limit=40))
        first = await search(index, text, sort=sort, limit=5)
        gone = {*whole[5:10], *whole[11:15], *whole[20:29]}
        await index.delete(sorted(gone))
        seen, cursor = ids(first), first.cursor
        while cursor is not None:
            page = await search(index, text, sort=sort, limit=5, cursor=cursor, counts=False)
            seen, cursor = seen + ids(page), page.cursor
        assert [one for one in seen if one not in gone] == [one for one in whole if one not in gone], sort


async def test_a_score_does_not_depend_on_what_was_written_with_a_log(index: SearchIndex) -> None:
    await fill(index, [log(f"many{at}", "apple") for at in range(9)])
    await fill(index, [log("old", "apple", ts_ms=NEW_YEAR - 1), *(log(f"fig{at}", "fig") for at in range(9))])
    page = await search(index, "apple")
    assert len({hit.score for hit in page.hits}) == 1
    assert ids(page)[-1] == "old"


async def test_facets_and_histogram_are_left_out_where_they_are_not_asked_for(index: SearchIndex) -> None:
    await fill(index, odd_logs(3))
    page = await search(index, "app:shop", counts=False)
    assert (page.total, page.facets, page.histogram) == (3, {}, None)


async def test_a_histogram_counts_the_matches_by_the_time_that_they_were_made(index: SearchIndex) -> None:
    empty = await search(index, "")
    assert empty.histogram is not None
    assert empty.histogram.buckets == ()
    logs = [log(f"l{at}", app=f"app{at % 2}", ts_ms=NEW_YEAR + at * DAY_MS) for at in (0, 1, 2, 30, 31, 50)]
    await fill(index, logs)
    for text, days in (("app:app0", (0, 2, 30, 50)), ("", (0, 1, 2, 30, 31, 50))):
        histogram = (await search(index, text)).histogram
        assert histogram is not None
        assert histogram.bucket_ms == DAY_MS
        assert list(histogram.buckets) == [(NEW_YEAR + at * DAY_MS, 1) for at in days]
    few = (await search(index, "app:app0 -ts:>2026-01-20")).histogram
    assert few is not None
    assert (few.bucket_ms, sum(count for _, count in few.buckets)) == (3_600_000, 2)
    one = (await search(index, "ts:>2026-02-10")).histogram
    assert one is not None
    assert (one.bucket_ms, one.buckets) == (1_000, ((NEW_YEAR + 50 * DAY_MS, 1),))
    narrow = (await search(index, "ts:[2026-01-01 TO 2026-01-01] app:app0", limit=0)).histogram
    assert narrow is not None
    assert (narrow.bucket_ms, narrow.buckets) == (1_000, ((NEW_YEAR, 1),))
    await fill(index, [log("old", ts_ms=5)])
    wide = (await search(index, "")).histogram
    assert wide is not None
    assert (wide.bucket_ms, sum(count for _, count in wide.buckets), wide.buckets[0]) == (WIDTHS_MS[-1], 7, (0, 1))


async def test_a_search_that_went_on_for_too_long_says_so_unless_time_itself_is_its_order(index: SearchIndex) -> None:
    await fill(index, odd_logs(20))
    for sort in SORTS:
        first = SearchRequest(parse("apple"), limit=5, sort=sort, now_ms=1234)
        cursor = (await index.search(first)).cursor
        assert moment(cursor) == 1234
        place = decode(replace(first, cursor=cursor))
        assert place is not None
        late = encode(msgspec.structs.replace(place, point="c29tZXRoaW5nIG9sZA=="))
        if sort in ("newest", "oldest"):
            assert await walked_from(index, late, sort) == await walked_from(index, cursor, sort)
            continue
        with pytest.raises(CursorInvalid):
            await search(index, "apple", limit=5, cursor=late, sort=sort)


async def test_a_search_sees_all_logs_right_after_a_rebuild(index: SearchIndex) -> None:
    await fill(index, odd_logs(8))
    first = await search(index, "apple", limit=5, sort="cost")

    async def same(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
        return logs

    async def progress(_logs: int) -> None:
        return

    await index.rebuild(same, progress=progress)
    assert ids(await search(index, "apple", limit=5, sort="cost")) == ids(first)


async def test_a_word_of_one_part_is_marked_there_only(index: SearchIndex) -> None:
    asked = log("a", "an apple", output=(Message(role="assistant", content="the apple"),))
    await fill(index, [asked])
    for part, before in (("prompt", "an "), ("response", "the ")):
        (hit,) = (await search(index, f"{part}:apple")).hits
        assert hit.highlights == (((before, False), ("apple", True)),)


async def walked_from(index: SearchIndex, cursor: str | None, sort: Sort) -> list[str]:
    return ids(await search(index, "apple", limit=5, cursor=cursor, sort=sort))


async def test_logs_like_a_text_share_its_telling_words(index: SearchIndex) -> None:
    text = "the customer wants a refund for a broken kettle that was delivered on tuesday"
    like = log("like", "a refund for the broken kettle, which was delivered broken on tuesday")
    some = log("some", "refund the kettle of this customer, it came on tuesday")
    others = [log(f"other{at}", f"kettle cake number {at}") for at in range(9)]  # one word is too little
    await fill(index, [like, some, *others])
    hits = await index.similar(text, limit=5)
    assert [hit.log.log.log_id for hit in hits] == ["like", "some"]
    assert (await index.similar(text, limit=1))[0].log == like
    assert list(await index.similar("xylophone", limit=5)) == []
    assert list(await index.similar("", limit=5)) == []
