"""The searchable projection of the embedded index, in tantivy. It can be thrown away at any time: `bodies.py` has the truth."""

import shutil
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import tantivy

from tunemill.indexer.analysis import filters, spaced
from tunemill.indexer.bodies import Bodies
from tunemill.indexer.document import Document, to_document
from tunemill.indexer.errors import IndexRefused
from tunemill.indexer.fields import KEYWORDS, NUMBERS, PARTS, SEVERAL_VALUES, UNNAMED, metadata_term
from tunemill.indexer.local_facets import COMBINED, combined
from tunemill.indexer.ranges import float_order

LAYOUT = "5"  # count up when the schema below or the analysis changes: every index is then rebuilt when it is opened
VERSION = f"{LAYOUT} {tantivy.__version__}"

WRITER_BYTES = 50_000_000
REBUILD_COMMIT_EVERY = 5000  # documents
TOKENIZER = "log_text"

_WHOLE = ("chars", "input_tokens", "output_tokens")
_FLOATS = ("latency_ms", "cost_usd", "score")  # written as `float_order` has them: tantivy misreads some floats in JSON
_SEVERAL = (*SEVERAL_VALUES, *UNNAMED)
_PLAIN = (*_SEVERAL, *_WHOLE, *(name for name in KEYWORDS if name not in SEVERAL_VALUES))  # taken over as they are
_parts = attrgetter(*PARTS)
_floats = attrgetter(*_FLOATS)
_faceted = [attrgetter(*names) for names in COMBINED.values()]
_plain = attrgetter(*_PLAIN)
_Entry = msgspec.defstruct(
    "_Entry",
    [
        ("seq", int),
        ("ts", int),
        *((name, str) for name in COMBINED),
        ("metadata", list[str], []),
        *((name, list[str], []) for name in PARTS),
        *((name, int | None, None) for name in _FLOATS),
        *((name, tuple[str, ...] | str | int | None, () if name in _SEVERAL else None) for name in _PLAIN),
    ],
    omit_defaults=True,
)


class Projection:
    """The tantivy index in a folder, open for writing; only one process at a time can have it so."""

    def __init__(self, folder: Path, bodies: Bodies | None) -> None:
        """Open it, and catch up with what is missing; anew if it is of another version, damaged or not there.

        Args:
            bodies: None: it begins anew and empty, and is not there before `finish`.

        Raises:
            IndexRefused: another process has it open.
        """
        self._folder = folder
        self.schema = _schema()
        if bodies is None or not self._is_usable():
            self._start_anew()
        self._open()
        if bodies is None:
            return
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

    def finish(self) -> None:
        """Say that it is whole, and let go of the folder."""
        self._stamp.write_text(VERSION, encoding="utf-8")
        self.close()

    def stop_writing(self) -> None:
        """Never change the folder again. It can be read on."""
        self._writer.wait_merging_threads()
        del self._writer

    def close(self) -> None:
        """Let go of the folder."""
        self.stop_writing()
        del self._index

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
        texts = [_parts(document) for _, document in documents]
        words = iter(spaced([text for parts in texts for part in parts for text in part]))  # all at once: cheaper
        for (seq, document), parts in zip(documents, texts, strict=True):
            self._writer.add_json(_json(seq, document, [list(islice(words, len(part))) for part in parts]))

    def _commit(self) -> None:
        self._writer.commit()
        self._index.reload()


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("seq", fast=True)
    for name in PARTS:
        builder.add_text_field(name, tokenizer_name=TOKENIZER, index_option="position")
    builder.add_text_field("metadata", tokenizer_name="raw", index_option="basic")  # as `metadata_term` makes them
    for name in (*KEYWORDS, *UNNAMED):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=name in KEYWORDS)
    for name in COMBINED:
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=True)
    for name in NUMBERS:
        builder.add_integer_field(name, indexed=True, fast=True)
    return builder.build()


def _json(seq: int, document: Document, words: Sequence[list[str]]) -> str:
    """What tantivy indexes of a document, in one text: cheaper than a call for each value."""
    metadata = [metadata_term(key, text) for key, text in document.metadata.items()]
    floats = map(_ordered, _floats(document))
    faceted = [combined(values(document)) for values in _faceted]
    entry = _Entry(seq, document.ts, *faceted, metadata, *words, *floats, *_plain(document))
    return msgspec.json.encode(entry).decode()


def _ordered(number: float | None) -> int | None:
    return None if number is None else float_order(number)


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
