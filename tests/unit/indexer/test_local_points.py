"""Points in time of the embedded search."""

from pathlib import Path

from tunemill.indexer.ast import Everything
from tunemill.indexer.local import LocalIndex
from tunemill.indexer.search import Histogram, SearchRequest
from tunemill.schemas.records import LogRecord, TaggedLog

# What is written and deleted, each log at another power of ten of milliseconds, and whether a search follows.
STEPS = (
    ((8, 10), (), True),
    ((9,), (), True),
    ((6, 11), (), True),
    ((), (11,), True),
    ((), (6,), True),
    ((), (10, 9), True),
    ((), (8,), True),
    ((9, 5), (), True),
    ((12,), (), False),
    ((), (5,), True),
    ((7,), (), True),
)


def made(at: int) -> TaggedLog:
    return TaggedLog(log=LogRecord(log_id=str(at), ts_ms=10**at, messages=()), content_digest="d")


async def over_time(index: LocalIndex) -> Histogram | None:
    return (await index.search(SearchRequest(Everything(), limit=0))).histogram


async def test_a_histogram_goes_by_the_first_and_the_last_log_that_there_are_now(tmp_path: Path) -> None:
    """As it does in an index that never had others, whatever was written or deleted since the last search."""
    index = LocalIndex(tmp_path / "used", project="span")
    there: set[int] = set()
    for step, (written, deleted, is_searched) in enumerate(STEPS):
        await index.write([made(at) for at in written])
        await index.delete([str(at) for at in deleted])
        there = there.union(written).difference(deleted)
        if is_searched:
            fresh = LocalIndex(tmp_path / str(step), project="span")
            await fresh.write([made(at) for at in there])
            assert await over_time(index) == await over_time(fresh)
            await fresh.close()
    await index.close()
