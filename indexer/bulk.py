"""Documents -> the lines of `_bulk` requests, as bytes that the client sends as they are."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Literal, Self

import msgspec

from tunemill.indexer.document import Document

MAX_BYTES = 4 * 2**20  # a request's size at which Elasticsearch's throughput levels off for documents of a few KiB
MAX_ITEMS = 1000

_json = msgspec.json.Encoder()


class Bulk:
    """Actions, each with its document if it has one, one behind the other as they travel: nothing is put together again."""

    def __init__(self) -> None:
        self._lines = bytearray()
        self._ends = [0]  # of the items; the first begins where none has ended

    def __len__(self) -> int:
        return len(self._ends) - 1

    def create(self, document: Document) -> None:
        """Store the document unless its id is there.

        Raises:
            UnicodeEncodeError: a text holds half of a surrogate pair; nothing is added.
        """
        self.put(document.id, document, operation="create")

    def put(self, document_id: str, document: msgspec.Struct, *, operation: Literal["create", "index"]) -> None:
        """Store the document; `create`: unless its id is there."""
        self._add({operation: {"_id": document_id}}, document)

    def replace(self, document_id: str, document: msgspec.Struct, version: tuple[str, int, int]) -> None:
        """Store another state of a document that still has, in this index, this sequence number and primary term.

        Raises:
            UnicodeEncodeError: a text holds half of a surrogate pair; nothing is added.
        """
        self._add({"index": _still(document_id, version)}, document)

    def delete(self, document_id: str, index: str | None = None) -> None:
        """Take the document away; out of this index, or of the one that is written to."""
        where = {} if index is None else _in(index)
        self._add({"delete": {**where, "_id": document_id}})

    def delete_copy(self, document_id: str, version: tuple[str, int, int]) -> None:
        """Take away a document that still has, in this index, this sequence number and primary term."""
        self._add({"delete": _still(document_id, version)})

    def requests(self) -> Iterator[range]:
        """The places of the items in order, in requests of a good size."""
        start = 0
        while start < len(self):
            fitting = bisect_right(self._ends, self._ends[start] + MAX_BYTES) - 1
            stop = max(start + 1, min(fitting, start + MAX_ITEMS))  # one that is larger alone goes alone
            yield range(start, stop)
            start = stop

    def body(self, places: range) -> bytes | bytearray:
        """A request's body."""
        start, stop = self._ends[places.start], self._ends[places.stop]
        if stop - start == len(self._lines):
            return self._lines
        with memoryview(self._lines) as lines:
            return bytes(lines[start:stop])

    def only(self, places: Iterable[int]) -> Self:
        """These items alone."""
        some = type(self)()
        with memoryview(self._lines) as lines:
            for at in places:
                some._lines += lines[self._ends[at] : self._ends[at + 1]]
                some._ends.append(len(some._lines))
        return some

    def _add(self, *lines: object) -> None:
        try:
            for line in lines:
                _json.encode_into(line, self._lines, -1)
                self._lines += b"\n"
        except UnicodeEncodeError:
            del self._lines[self._ends[-1] :]
            raise
        self._ends.append(len(self._lines))


def _in(index: str) -> dict[str, object]:
    return {"_index": index, "require_alias": False}


def _still(document_id: str, version: tuple[str, int, int]) -> dict[str, object]:
    index, seq_no, primary_term = version
    return {**_in(index), "_id": document_id, "if_seq_no": seq_no, "if_primary_term": primary_term}


def deletions(document_ids: Iterable[str]) -> Bulk:
    """Take these documents away."""
    bulk = Bulk()
    for document_id in document_ids:
        bulk.delete(document_id)
    return bulk
