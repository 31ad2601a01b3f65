"""Documents -> the lines of `_bulk` requests, as bytes that the client sends as they are."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from tunemill.indexer.document import Document

MAX_BYTES = 4 * 2**20  # a request's size at which Elasticsearch's throughput levels off for documents of a few KiB
MAX_ITEMS = 1000


class BulkItem(msgspec.Struct, frozen=True):
    """One action, and the line of its document if it has one."""

    log_id: str
    lines: tuple[bytes, ...]

    def size(self) -> int:
        """Bytes on the wire."""
        return sum(map(len, self.lines)) + len(self.lines)


def create_item(document: Document) -> BulkItem:
    """Store the document unless its id is there.

    Raises:
        UnicodeEncodeError: a text holds half of a surrogate pair.
    """
    return put_item(document.id, document, operation="create")


def replace_item(document_id: str, document: msgspec.Struct, version: tuple[int, int]) -> BulkItem:
    """Store another state of a document that still has this sequence number and primary term.

    Raises:
        UnicodeEncodeError: a text holds half of a surrogate pair.
    """
    seq_no, primary_term = version
    action = {"index": {"_id": document_id, "if_seq_no": seq_no, "if_primary_term": primary_term}}
    return BulkItem(document_id, (msgspec.json.encode(action), msgspec.json.encode(document)))


def put_item(document_id: str, document: msgspec.Struct, *, operation: Literal["create", "index"]) -> BulkItem:
    """Store the document; `create`: unless its id is there."""
    return BulkItem(document_id, (_action(operation, document_id), msgspec.json.encode(document)))


def delete_item(log_id: str) -> BulkItem:
    """Take the document away."""
    return BulkItem(log_id, (_action("delete", log_id),))


def requests(items: Sequence[BulkItem]) -> Iterator[Sequence[BulkItem]]:
    """The items in order, in requests of a good size."""
    start = size = 0
    for at, item in enumerate(items):
        more = item.size()
        if at > start and (size + more > MAX_BYTES or at - start >= MAX_ITEMS):
            yield items[start:at]
            start, size = at, 0
        size += more
    if start < len(items):
        yield items[start:]


def body(items: Sequence[BulkItem]) -> bytes:
    """A request's body."""
    lines = [line for item in items for line in item.lines]
    lines.append(b"")  # the last line ends, too
    return b"\n".join(lines)


def _action(operation: str, log_id: str) -> bytes:
    return msgspec.json.encode({operation: {"_id": log_id}})
