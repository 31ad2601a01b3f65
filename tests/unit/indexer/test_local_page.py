"""Pages of the embedded index by relevance where very many hits have one score."""

from pathlib import Path

from tunemill.indexer.local import LocalIndex
from tunemill.indexer.local_page import MANY_TIES
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.schemas.records import LogRecord, Message, TaggedLog


def log(log_id: str, ts_ms: int, text: str) -> TaggedLog:
    record = LogRecord(log_id=log_id, ts_ms=ts_ms, messages=(Message(role="user", content=text),))
    return TaggedLog(log=record, content_digest="d")


async def walked(index: LocalIndex, limit: int, pages: int) -> list[str]:
    found: list[str] = []
    cursor = None
    for _ in range(pages):
        page = await index.search(SearchRequest(parse("word"), limit=limit, cursor=cursor))
        found += [hit.log.log.log_id for hit in page.hits]
        cursor = page.cursor
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
