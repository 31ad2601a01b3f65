"""The searchable projection of the embedded index, in tantivy. It can be thrown away at any time: `bodies.py` has the truth."""

import shutil
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import tantivy

from tunemill.indexer.analysis import filters, spaced
from tunemill.indexer.bodies import Bodies
from tunemill.indexer.document import Document, to_document
from tunemill.indexer.errors import IndexRefused
from tunemill.indexer.fields import KEYWORDS, metadata_term

LAYOUT = "2"  # count up when the schema below or the analysis changes: every index is then rebuilt when it is opened
VERSION = f"{LAYOUT} {tantivy.__version__}"

WRITER_BYTES = 50_000_000
REBUILD_COMMIT_EVERY = 5000  # documents
TOKENIZER = "log_text"
NUMBER_KINDS = {"latency_ms": float, "cost_usd": float, "input_tokens": int, "output_tokens": int}

_PLAIN = (*(name for name in KEYWORDS if name != "tag"), *NUMBER_KINDS)  # the fields that have one value or none
_plain = attrgetter(*_PLAIN)


class Projection:
    """The tantivy index in a folder, open for writing; only one process at a time can have it so."""

    def __init__(self, folder: Path, bodies: Bodies) -> None:
        """Open it, and catch up with what is missing; anew if it is of another version, damaged or not there.

        Raises:
            IndexRefused: another process has it open.
        """
        self._folder = folder
        self.schema = _schema()
        if not self._is_usable():
            self._start_anew()
        self._open()
        self.catch_up(bodies)
        if self.searcher().num_docs != bodies.count():
            self._rebuild(bodies)
        self._stamp.write_text(VERSION, encoding="utf-8")

    def add(self, documents: Sequence[tuple[int, Document]]) -> None:
        """Make documents searchable that were not there."""
        self._write(documents)
        self._commit()

    def replace(self, changes: Sequence[tuple[str, int, Document | None]]) -> None:
        """Make the searchable state of these logs what is given; None: not there."""
        for log_id, _, _ in changes:
            self._writer.delete_documents_by_term("id", log_id)
        self._write([(seq, document) for _, seq, document in changes if document is not None])
        self._commit()

    def catch_up(self, bodies: Bodies) -> None:
        """Bring the logs that are marked as behind to their state in the bodies. Doing it twice does no harm."""
        self.replace(
            [
                (log_id, row.seq if row else 0, to_document(row.tagged) if row else None)
                for log_id, row in bodies.rows_behind()
            ]
        )
        bodies.all_caught_up()

    def roll_back(self) -> None:
        """Forget what was added and not committed."""
        self._writer.rollback()

    def searcher(self) -> Any:
        """A tantivy searcher: one point in time."""
        return self._index.searcher()

    def close(self) -> None:
        """Let go of the folder."""
        self._writer.wait_merging_threads()
        del self._writer, self._index

    @property
    def _stamp(self) -> Path:
        return self._folder / "tunemill-version"

    def _is_usable(self) -> bool:
        try:
            return self._stamp.read_text(encoding="utf-8") == VERSION and tantivy.Index.exists(str(self._folder))
        except (OSError, UnicodeDecodeError):
            return False

    def _start_anew(self) -> None:
        if self._folder.exists():
            _refuse_if_in_use(self._folder)
            shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True)

    def _open(self) -> None:
        try:
            self._index = tantivy.Index(self.schema, path=str(self._folder))
        except ValueError:  # damaged files
            self._start_anew()
            self._index = tantivy.Index(self.schema, path=str(self._folder))
        self._index.register_tokenizer(TOKENIZER, filters())
        self._writer = _writer(self._index, self._folder)

    def _rebuild(self, bodies: Bodies) -> None:
        self._writer.delete_all_documents()
        for at, row in enumerate(bodies.rows(), start=1):
            self._write([(row.seq, to_document(row.tagged))])
            if at % REBUILD_COMMIT_EVERY == 0:
                self._commit()
        self._commit()

    def _write(self, documents: Sequence[tuple[int, Document]]) -> None:
        texts = iter(spaced([text for _, document in documents for text in document.content]))  # all at once: cheaper
        for seq, document in documents:
            fields = _fields(seq, document, list(islice(texts, len(document.content))))
            self._writer.add_document(tantivy.Document.from_dict(fields, self.schema))

    def _commit(self) -> None:
        self._writer.commit()
        self._index.reload()


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("seq", fast=True)
    builder.add_integer_field("ts", indexed=True, fast=True)
    builder.add_text_field("content", tokenizer_name=TOKENIZER, index_option="position")
    builder.add_text_field("metadata", tokenizer_name="raw", index_option="basic")  # as `metadata_term` makes them
    for name in KEYWORDS:
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=True)
    for name, kind in NUMBER_KINDS.items():
        (builder.add_integer_field if kind is int else builder.add_float_field)(name, indexed=True, fast=True)
    return builder.build()


def _fields(seq: int, document: Document, content: list[str]) -> dict[str, Any]:
    given = zip(_PLAIN, _plain(document), strict=True)
    fields = {"seq": seq, "ts": document.ts, "content": content, "tag": list(document.tag)}
    fields |= {name: value for name, value in given if value is not None}
    if document.metadata:
        fields["metadata"] = [metadata_term(key, text) for key, text in document.metadata.items()]
    return fields


def _writer(index: Any, folder: Path) -> Any:
    try:
        return index.writer(heap_size=WRITER_BYTES, num_threads=1)
    except ValueError as error:
        if "LockBusy" not in str(error):
            raise
        raise IndexRefused(f"{folder} is in use by another process: end it, or give this one another folder") from error


def _refuse_if_in_use(folder: Path) -> None:
    """An index that is about to be thrown away must be nobody's."""
    try:
        index = tantivy.Index.open(str(folder))
    except ValueError:  # not an index, or damaged
        return
    _writer(index, folder).wait_merging_threads()
