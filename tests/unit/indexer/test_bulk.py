"""What travels in `_bulk` requests, and where one request ends and the next begins."""

import msgspec
import pytest

from tunemill.indexer import bulk as module
from tunemill.indexer.bulk import Bulk
from tunemill.indexer.document import Document, to_document
from tunemill.schemas.records import LogRecord, Message, TaggedLog


def document(log_id: str, text: str = "text") -> Document:
    log = LogRecord(log_id=log_id, ts_ms=1, messages=(Message(role="user", content=text),))
    return to_document(TaggedLog(log=log, content_digest="d"))


def of(*documents: Document) -> Bulk:
    bulk = Bulk()
    for one in documents:
        bulk.create(one)
    return bulk


def ids(bulk: Bulk) -> list[list[str]]:
    """Those of the documents in each request."""
    return [
        [msgspec.json.decode(line)["id"] for line in bulk.body(places).splitlines()[1::2]] for places in bulk.requests()
    ]


def test_an_action_and_its_document_are_lines() -> None:
    bulk = of(document("a"))
    bulk.replace("b", document("b"), ("logs-1", 7, 1))
    bulk.delete("c")
    lines = [msgspec.json.decode(line) for line in bulk.body(range(3)).splitlines()]
    assert lines[0] == {"create": {"_id": "a"}}
    assert msgspec.convert(lines[1], Document) == document("a")
    assert lines[2] == {
        "index": {"_index": "logs-1", "require_alias": False, "_id": "b", "if_seq_no": 7, "if_primary_term": 1}
    }
    assert lines[4:] == [{"delete": {"_id": "c"}}]
    assert bulk.body(range(3)).endswith(b"\n")


def test_a_request_holds_only_so_many_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 2)
    assert ids(of(*map(document, "abcde"))) == [["a", "b"], ["c", "d"], ["e"]]


def test_a_request_holds_only_so_many_bytes_but_at_least_one_item(monkeypatch: pytest.MonkeyPatch) -> None:
    one = len(of(document("a")).body(range(1)))
    monkeypatch.setattr(module, "MAX_BYTES", 2 * one)
    large = document("L", "long " * one)
    assert ids(of(document("a"), document("b"), document("c"), large, document("d"))) == [
        ["a", "b"],
        ["c"],
        ["L"],
        ["d"],
    ]


def test_nothing_is_no_request() -> None:
    assert list(Bulk().requests()) == []


def test_what_cannot_be_written_leaves_nothing_behind() -> None:
    bulk = of(document("a"))
    with pytest.raises(UnicodeEncodeError):
        bulk.create(document("b", "long " * 1000 + "\ud800"))
    bulk.create(document("c"))
    assert len(bulk) == 2
    assert ids(bulk) == [["a", "c"]]


def test_some_items_of_many_travel_alone() -> None:
    bulk = of(*map(document, "abcde"))
    assert ids(bulk.only([1, 4])) == [["b", "e"]]
    assert bulk.body(range(1, 3)) == bulk.only([1, 2]).body(range(2))
