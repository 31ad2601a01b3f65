"""Pages of the embedded index where very many hits have one score, and where the first by time are far from the ends."""

import random
from pathlib import Path

import pytest

from tunemill.indexer.local import LocalIndex
from tunemill.indexer.local_page import MANY_TIES
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest, Sort
from tunemill.schemas.records import LogRecord, Message, TaggedLog


def log(log_id: str, ts_ms: int, text: str) -> TaggedLog:
    record = LogRecord(log_id=log_id, ts_ms=ts_ms, messages=(Message(role="user", content=text),))
    return TaggedLog(log=record, content_digest="d")


async def walked(index: LocalIndex, limit: int, pages: int, query: str = "word", sort: Sort = "relevance") -> list[str]:
    found: list[str] = []
    cursor = None
    for _ in range(pages):
        page = await index.search(SearchRequest(parse(query), limit=limit, sort=sort, cursor=cursor))
        found += [hit.log.log.log_id for hit in page.hits]
        cursor = page.cursor
        if cursor is None:
            break
    return found


async def test_the_newest_of_many_ties_come_first_and_pages_go_on_from_there(tmp_path: Path) -> None:
    many = 3 * MANY_TIES
    same = [log(f"same-{at:04}", at // 3, "a word of many") for at in range(many)]  # three at a time
    other = [log(f"other-{at:04}", many + at, "a word of many others, which makes it longer") for at in range(500)]
    better = [log("better", 0, "word")]
    index = LocalIndex(tmp_path, project="ties")
    await index.setup()
    await index.write([*same[::2], *other, *better, *same[1::2]])
    expected = ["better", *[tagged.log.log_id for tagged in same[::-1]]]
    assert await walked(index, 50, 8) == expected[:400]
    assert (await walked(index, 1_000, 4))[: many + 1] == [*expected, *[tagged.log.log_id for tagged in other[::-1]]][
        : many + 1
    ]
    await index.close()


@pytest.mark.parametrize("sort", ["newest", "oldest"])
async def test_logs_come_by_time_wherever_in_it_they_are(tmp_path: Path, sort: Sort) -> None:
    """Most at both ends, some together, a few between; of a word that few have, none near the ends."""
    draw = random.Random(0)
    times = [draw.choice([draw.randrange(20), 10**6 - draw.randrange(20), draw.randrange(10**6)]) for _ in range(300)]
    logs = [
        log(f"{at:03}", ts_ms, "a word" if at % 9 or not 10**4 < ts_ms < 10**6 - 10**4 else "rare word")
        for at, ts_ms in enumerate(times)
    ]
    index = LocalIndex(tmp_path, project="times")
    await index.write(logs)
    sign = -1 if sort == "newest" else 1
    for query in ("word", "rare"):
        some = [tagged.log for tagged in logs if query in (tagged.log.messages[0].content or "")]
        ranked = sorted(sorted(some, key=lambda one: one.log_id, reverse=True), key=lambda one: sign * one.ts_ms)
        assert await walked(index, 7, 99, query, sort) == [one.log_id for one in ranked]
    await index.close()
