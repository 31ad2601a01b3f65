"""What the embedded search does when time is over."""

from pathlib import Path

import pytest

from tunemill.indexer import highlight, local
from tunemill.indexer.errors import SearchTooSlow
from tunemill.indexer.local import LocalIndex
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.schemas.records import LogRecord, Message, TaggedLog

LOGS = [
    TaggedLog(
        log=LogRecord(log_id=f"l{at}", ts_ms=at, messages=(Message(role="user", content="a refund"),)),
        content_digest="d",
    )
    for at in range(3)
]


async def test_a_search_over_the_time_limit_is_to_be_made_narrower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = LocalIndex(tmp_path, project="default")
    await index.write(LOGS)
    with monkeypatch.context() as patched:
        patched.setattr(local, "SEARCH_TIMEOUT_S", 0)
        with pytest.raises(SearchTooSlow, match="make it narrower"):
            await index.search(SearchRequest(parse("refund")))
        with pytest.raises(SearchTooSlow):
            await index.similar("a refund", limit=3)
    assert (await index.search(SearchRequest(parse("refund")))).total == 3
    await index.close()


async def test_hits_that_there_is_no_time_to_mark_are_given_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = LocalIndex(tmp_path, project="default")
    await index.write(LOGS)
    monkeypatch.setattr(highlight, "MARKED_WITHIN_S", -1.0)
    page = await index.search(SearchRequest(parse("refund")))
    assert [(hit.log.log.log_id, hit.is_marked, hit.highlights) for hit in page.hits] == [
        (f"l{at}", False, ()) for at in (2, 1, 0)
    ]
    monkeypatch.undo()
    page = await index.search(SearchRequest(parse("refund")))
    assert all(hit.is_marked and hit.highlights for hit in page.hits)
    await index.close()
