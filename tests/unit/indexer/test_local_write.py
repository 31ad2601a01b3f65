"""The embedded index takes many logs at once."""

import math
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tunemill.indexer.local import LocalIndex
from tunemill.indexer.query import parse
from tunemill.indexer.ranges import float_order
from tunemill.indexer.search import SearchRequest
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import LogRecord, Message, TaggedLog


def log(log_id: str, text: str, latency_ms: float | None = None) -> TaggedLog:
    message = Message(role="user", content=text)
    record = LogRecord(log_id=log_id, ts_ms=1, messages=(message,), latency_ms=latency_ms)
    return TaggedLog(log=record, content_digest=text)


async def test_of_many_logs_each_is_told_apart_from_those_that_are_there_and_from_its_own_kind(tmp_path: Path) -> None:
    index = LocalIndex(tmp_path, project="default")
    await index.write([log(str(number), f"first{number}") for number in range(0, 300, 10)])
    logs = [log(str(number), f"second{number}") for number in range(300)] + [log("7", "third7")]
    written = await index.write(logs)
    assert [item.log_id for item in written] == [item.log.log_id for item in logs]
    assert {int(item.log_id) for item in written[:300] if item.outcome is Outcome.REJECTED} == set(range(0, 300, 10))
    assert Counter(item.outcome for item in written) == {Outcome.INDEXED: 270, Outcome.REJECTED: 31}
    for text, log_id in (("first290", "290"), ("second7", "7"), ("second299", "299")):
        (hit,) = (await index.search(SearchRequest(parse(text)))).hits
        assert hit.log.log.log_id == log_id
    assert (await index.search(SearchRequest(parse("second290 OR third7")))).total == 0
    assert (await index.search(SearchRequest(parse("")))).total == 300
    await index.close()


async def test_a_number_is_found_by_all_of_its_digits(tmp_path: Path) -> None:
    """Among them some that tantivy reads wrongly from JSON."""
    numbers = sorted({math.pi * 3.7**power * sign for power in range(-20, 30) for sign in (-1, 1)})
    index = LocalIndex(tmp_path, project="default")
    await index.write([log(str(at), "", number) for at, number in enumerate(numbers)])
    for at, number in enumerate(numbers):
        (hit,) = (await index.search(SearchRequest(parse(f"latency_ms:[{number!r} TO {number!r}]")))).hits
        assert hit.log.log.latency_ms == number
        assert (await index.search(SearchRequest(parse(f"latency_ms:<{number!r}"), limit=0))).total == at
    await index.close()


@given(st.lists(st.floats(allow_nan=False)))
def test_floats_keep_their_order_as_whole_numbers(numbers: list[float]) -> None:
    assert sorted(numbers, key=float_order) == sorted(numbers)
    assert all((float_order(a) == float_order(b)) == (a == b) for a in numbers for b in numbers)
    assert all(-(2**63) <= float_order(number) < 2**63 for number in numbers)
