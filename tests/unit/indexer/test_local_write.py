"""The embedded index takes many logs at once."""

from collections import Counter
from pathlib import Path

from tunemill.indexer.local import LocalIndex
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import LogRecord, Message, TaggedLog


def log(log_id: str, text: str) -> TaggedLog:
    return TaggedLog(
        log=LogRecord(log_id=log_id, ts_ms=1, messages=(Message(role="user", content=text),)), content_digest=text
    )


async def test_of_many_logs_each_is_told_apart_from_those_that_are_there_and_from_its_own_kind(tmp_path: Path) -> None:
    index = LocalIndex(tmp_path, project="default")
    await index.write([log(str(number), f"first{number}") for number in range(0, 300, 10)])
    logs = [log(str(number), f"second{number}") for number in range(300)] + [log("7", "third7")]
    written = await index.write(logs)
    assert [item.log_id for item in written] == [item.log.log_id for item in logs]
    assert {int(item.log_id) for item in written[:300] if item.outcome is Outcome.DUPLICATE} == set(range(0, 300, 10))
    assert Counter(item.outcome for item in written) == {Outcome.INDEXED: 270, Outcome.DUPLICATE: 31}
    for text, log_id in (("first290", "290"), ("second7", "7"), ("second299", "299")):
        (hit,) = (await index.search(SearchRequest(parse(text)))).hits
        assert hit.log.log.log_id == log_id
    assert (await index.search(SearchRequest(parse("second290 OR third7")))).total == 0
    assert (await index.search(SearchRequest(parse("")))).total == 300
    await index.close()
