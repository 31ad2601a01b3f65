"""Feedback reaches the logs that it is about, on both engines and the fake, whichever comes first."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from engines.own_index import ENGINES, opened_for
from fakes.curator_api import tagged
from fakes.search_memory import MemorySearch

from tunemill.indexer.ast import And, Is
from tunemill.indexer.errors import IndexUnavailable
from tunemill.indexer.feedback import NEVER, StoredFeedback
from tunemill.indexer.feedback_join import AT_ONCE, SOONEST_MS, TRACE_GROWS_MS, join, join_until
from tunemill.indexer.open import open_index
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Feedback, Said
from tunemill.schemas.stored import StoredLog

WRONG = Said(name="is_correct", score=0.0, corrected=True)


@pytest.fixture(params=("memory", *ENGINES))
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    if request.param == "memory":
        yield MemorySearch()
        return
    async with opened_for(request, tmp_path) as found:
        yield found


def wrong(feedback_id: str = "f", **about: object) -> Feedback:
    values = {"feedback_id": feedback_id, "ts_ms": 1, "name": "is_correct", "score": 0.0, "correction": "5", **about}
    return msgspec.convert(values, Feedback)


async def round_(index: SearchIndex, *, after_ms: int = 0) -> int:
    """One round of the join, so long after now; how many feedbacks were due."""
    await index.refresh()
    found = await join(index, now_ms=time.time_ns() // 1_000_000 + after_ms)
    await index.refresh()
    return found


async def found(index: SearchIndex, *terms: tuple[str, str]) -> list[str]:
    """The logs that have each of these values."""
    queries = tuple(Is(*term) for term in terms)
    query = queries[0] if len(queries) == 1 else And(queries)
    return [log.log.log_id async for log in index.scan(query, limit=None)]


async def said_of(index: SearchIndex, log_id: str) -> tuple[Said, ...]:
    log = await index.get(log_id)
    assert log is not None
    return log.feedback


@pytest.mark.parametrize("about", [{"log_id": "a"}, {"response_id": "r"}, {"trace_id": "t"}])
async def test_a_log_is_found_by_what_was_said_of_it(index: SearchIndex, about: dict[str, str]) -> None:
    await index.write([tagged("a", response_id="r", trace_id="t"), tagged("b")])
    await index.add_feedback([wrong(**about)])
    assert await round_(index) == 1
    assert await said_of(index, "a") == (WRONG,)
    assert await found(index, ("feedback", "is_correct:0"), ("has", "correction")) == ["a"]
    assert await found(index, ("has", "feedback")) == ["a"]


@pytest.mark.parametrize("about", [{"log_id": "a"}, {"response_id": "r"}, {"trace_id": "t"}])
async def test_feedback_that_comes_before_its_log_waits_for_it(index: SearchIndex, about: dict[str, str]) -> None:
    await index.add_feedback([wrong(**about)])
    assert await round_(index) == 1
    assert await round_(index) == 0  # put off: it does not stand in the way of others
    await index.write([tagged("a", response_id="r", trace_id="t")])
    assert await round_(index, after_ms=SOONEST_MS + 1_000) == 1
    assert await said_of(index, "a") == (WRONG,)


async def test_what_waits_is_looked_at_less_and_less_often(index: SearchIndex) -> None:
    await index.add_feedback([wrong(log_id="never")])
    looked = [await round_(index, after_ms=at_ms) for at_ms in range(0, 64_000, 1_100)]
    assert 4 <= sum(looked) <= 8


async def test_feedback_that_met_its_log_is_done_unless_its_trace_may_grow(index: SearchIndex) -> None:
    await index.write([tagged("a", trace_id="t")])
    await index.add_feedback([wrong("of-log", log_id="a"), wrong("of-trace", trace_id="t")])
    assert await round_(index) == 2
    await index.write([tagged("later-call", trace_id="t")])
    assert await round_(index, after_ms=60_000) == 1
    assert (await said_of(index, "later-call"), await said_of(index, "a")) == ((WRONG,), (WRONG, WRONG))
    assert await round_(index, after_ms=TRACE_GROWS_MS + 1_000) == 1
    assert await round_(index, after_ms=40 * TRACE_GROWS_MS) == 0


async def test_what_is_said_anew_takes_the_place_of_what_was_said(index: SearchIndex) -> None:
    await index.write([tagged("a")])
    await index.add_feedback([wrong(log_id="a"), Feedback(feedback_id="g", ts_ms=2, name="tone", log_id="a")])
    await index.add_feedback([Feedback(feedback_id="g", ts_ms=2, name="tone", label="rude", log_id="a")])
    await round_(index)
    assert await said_of(index, "a") == (WRONG, Said(name="tone", label="rude"))
    await index.add_feedback([wrong(log_id="a", score=1.0, correction=None, comment="fine after all")])
    assert await round_(index) == 1
    assert await found(index, ("feedback", "is_correct:0")) == []
    assert await found(index, ("feedback", "is_correct:1"), ("feedback", "tone:rude"), ("has", "comment")) == ["a"]


async def test_a_log_that_was_deleted_stays_so_and_its_feedback_with_it(index: SearchIndex) -> None:
    await index.write([tagged("a")])
    await index.add_feedback([wrong(log_id="a")])
    await index.refresh()
    await index.delete(["a"])
    assert await round_(index) == 0
    assert await index.get("a") is None


async def test_what_was_said_again_between_is_not_put_off_as_if_it_were_done(index: SearchIndex) -> None:
    await index.write([tagged("a")])
    await index.add_feedback([wrong(log_id="a")])
    await index.refresh()
    now_ms = time.time_ns() // 1_000_000
    read = await index.due_feedback(now_ms=now_ms, limit=9)
    await index.add_feedback([wrong(log_id="a", score=1.0)])
    done = [StoredFeedback(msgspec.structs.replace(one.document, due=NEVER), one.version) for one in read]
    await index.put_off(done)
    assert await round_(index, after_ms=1) == 1
    assert await said_of(index, "a") == (Said(name="is_correct", score=1.0, corrected=True),)


async def test_more_than_one_round_of_feedback_reaches_one_log_by_few_writes() -> None:
    class Counting(MemorySearch):
        writes = 0

        async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
            self.writes += 1
            return await super().replace(changed)

    index = Counting(tagged("a"))
    await index.add_feedback([wrong(f"f{at:04}", log_id="a") for at in range(2 * AT_ONCE)])
    assert [await round_(index) for _ in range(3)] == [AT_ONCE, AT_ONCE, 0]
    assert (len(await said_of(index, "a")), index.writes) == (2 * AT_ONCE, 1)


async def test_what_somebody_does_to_the_log_meanwhile_stays() -> None:
    class Raced(MemorySearch):
        races = 2

        async def feedback_of(self, log: object) -> tuple[Feedback, ...]:
            if self.races:
                self.races -= 1
                before = self.logs["a"]
                self.logs["a"] = msgspec.structs.replace(before, revision=before.revision + 1)
            return await super().feedback_of(log)  # type: ignore[arg-type]

    index = Raced(tagged("a"))
    await index.add_feedback([wrong(log_id="a")])
    await round_(index)
    assert (index.logs["a"].revision, index.logs["a"].feedback) == (2, (WRONG,))


async def test_the_task_waits_for_an_index_that_is_away_and_goes_on() -> None:
    stop = asyncio.Event()

    class Away(MemorySearch):
        asked = 0

        async def due_feedback(self, *, now_ms: int, limit: int) -> Sequence[StoredFeedback]:
            self.asked += 1
            if self.asked == 1:
                raise IndexUnavailable("away")
            return await super().due_feedback(now_ms=now_ms, limit=limit)

        async def put_off(self, changed: Sequence[StoredFeedback]) -> None:
            await super().put_off(changed)
            stop.set()

    index = Away(tagged("a"))
    await index.add_feedback([wrong(log_id="a")])
    async with asyncio.timeout(30):
        await join_until(stop, index)
    assert index.logs["a"].feedback == (WRONG,)


async def test_feedback_in_a_file_of_an_older_version_reaches_its_log(tmp_path: Path) -> None:
    url = f"local:{tmp_path}"
    index = open_index(url, project="default")
    await index.write([tagged("a")])
    await index.add_feedback([wrong(log_id="a")])
    await index.close()
    with sqlite3.connect(tmp_path / "logs-default" / "logs.db") as db:
        db.execute("DROP INDEX feedback_due")
        db.execute("ALTER TABLE feedback DROP COLUMN due_ms")
        db.execute("ALTER TABLE feedback DROP COLUMN since_ms")
    db.close()
    index = open_index(url, project="default")
    assert await round_(index) == 1
    assert await said_of(index, "a") == (WRONG,)
    assert [end.outcome for end in await index.add_feedback([wrong("g", log_id="a")])] == [Outcome.INDEXED]
    await index.close()
