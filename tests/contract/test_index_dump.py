"""All logs of a query as JSON, on both engines: as they were when it was asked, each once."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from engines.own_index import ENGINES, opened_for
from fakes.search_memory import MemorySearch

from tunemill.indexer import local
from tunemill.indexer.elastic_scan import FIRST_PAGE
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import LogRecord, Message, TaggedLog

LOGS = 10 * FIRST_PAGE + 200  # more than one page of each slice


def log(number: int, text: str = "all of them") -> TaggedLog:
    record = LogRecord(log_id=f"l{number:05}", ts_ms=number, messages=(Message(role="user", content=text),))
    return TaggedLog(log=record, content_digest="d")


async def filled(index: SearchIndex) -> None:
    written = await index.write([log(number, f"number n{number % 2}") for number in range(LOGS)])
    assert {item.outcome for item in written} == {Outcome.INDEXED}
    await index.refresh()


@pytest.fixture(params=("memory", *ENGINES))
async def index(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SearchIndex]:
    monkeypatch.setattr(local, "NUMBERED", LOGS // 3)  # more than one page of the embedded index's, too
    if request.param == "memory":
        await filled(memory := MemorySearch())
        yield memory
        return
    async with opened_for(request, tmp_path) as found:
        await filled(found)
        yield found


async def dumped(index: SearchIndex, text: str) -> list[tuple[str, TaggedLog]]:
    return [
        (one.log_id, msgspec.json.decode(one.record, type=TaggedLog))
        async for some in index.dump(parse(text))
        for one in some
    ]


async def test_a_dump_has_what_a_scan_has(index: SearchIndex) -> None:
    for text in ("", "n1", "number id:l00007", "nothing"):
        scanned = [(tagged.log.log_id, tagged) async for tagged in index.scan(parse(text), limit=None)]
        assert sorted(await dumped(index, text), key=lambda pair: pair[0]) == scanned


async def test_a_dump_is_of_one_moment_and_can_be_left(index: SearchIndex) -> None:
    seen: list[str] = []
    async for some in index.dump(parse("number")):
        if not seen:
            await index.write([log(LOGS, "number")])
            await index.delete(["l00000", f"l{LOGS - 1:05}"])
            await index.refresh()
        seen += [one.log_id for one in some]
    assert sorted(seen) == [f"l{number:05}" for number in range(LOGS)]
    left = index.dump(parse(""))
    assert await anext(left)
    await left.aclose()  # type: ignore[attr-defined]
    assert len(await dumped(index, "")) == LOGS - 1
