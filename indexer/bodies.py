"""The embedded index's truth: whole logs, compressed, in one SQLite file; and which of them the search does not know yet.

The same file holds the traces' notes and the feedback.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec
import zstandard

from tunemill.indexer import feedback_table, note_table
from tunemill.indexer.document import Document
from tunemill.indexer.feedback import FeedbackDocument, StoredFeedback, names_of
from tunemill.indexer.search import Dumped
from tunemill.schemas.about import names, traces_in
from tunemill.schemas.records import Feedback, LogRecord, TaggedLog
from tunemill.schemas.stored import StoredLog, StoredNote

CHUNK = 500  # rows read at once
_INSERTED_ROWS = 100  # by one statement

_SCHEMA = """
CREATE TABLE IF NOT EXISTS logs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: the search knows a log by it
    log_id TEXT NOT NULL UNIQUE,
    ts_ms INTEGER NOT NULL,                 -- as the search sorts by it
    content_digest TEXT NOT NULL,
    body BLOB NOT NULL                      -- zstd of the JSON of a TaggedLog
) STRICT;
CREATE TABLE IF NOT EXISTS behind (log_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;  -- changed here, perhaps not yet in the search
"""


class Row(msgspec.Struct, frozen=True):
    """A log and the number that the search knows it by."""

    seq: int
    tagged: TaggedLog


class Bodies:
    """One connection to the file; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # what `write` returned for survives a power cut
        self._db.execute("PRAGMA secure_delete = ON")  # a deleted log is overwritten, not only unlinked
        self._db.executescript(_SCHEMA + note_table.SCHEMA)
        feedback_table.prepare(self._db)
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompress = zstandard.ZstdDecompressor().decompress

    def insert(self, documents: Sequence[tuple[Document, bytes]], caught_up: bool) -> list[int | None]:
        """Keep each document unless its id is there: its number, or None.

        Args:
            documents: each with the JSON of its record.
            caught_up: the search knows everything that was marked as behind.
        """
        bodies = self._compressed([record for _, record in documents])
        with self._db:
            self._begin(caught_up)
            first = self._next_seq()
            rows = [
                (seq, doc.id, doc.ts, doc.content_digest, body)
                for seq, ((doc, _), body) in enumerate(zip(documents, bodies, strict=True), start=first)
            ]
            for start in range(0, len(rows), _INSERTED_ROWS):
                self._insert(rows[start : start + _INSERTED_ROWS])
            self._db.execute("INSERT OR IGNORE INTO behind SELECT log_id FROM logs WHERE seq >= ?", (first,))
            kept = {seq for (seq,) in self._db.execute("SELECT seq FROM logs WHERE seq >= ?", (first,))}
        return [row[0] if row[0] in kept else None for row in rows]

    def delete(self, log_ids: Sequence[str], caught_up: bool) -> None:
        """Forget these logs and what was said about them."""
        with self._db:
            self._begin(caught_up)
            before = self._db.total_changes
            for log_id in log_ids:
                self._forget_beside(log_id)
                self._db.execute("DELETE FROM logs WHERE log_id = ?", (log_id,))
            if self._db.total_changes > before:
                self._count_deletions(self.deletions() + 1)
            for log_id in log_ids:
                self._mark(log_id)

    def forget_said(self, about: Sequence[str]) -> None:
        """Forget what was said about these answers and traces."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            before = self._db.total_changes
            note_table.forget(self._db, traces_in(about))
            feedback_table.forget(self._db, about)
            if self._db.total_changes > before:
                self._count_deletions(self.deletions() + 1)

    def traces_of(self, person: str) -> list[str]:
        """The traces whose notes name this user, session or metadata.subject."""
        return note_table.of_person(self._db, person)

    def deletions(self) -> int:
        """How often something was deleted since nothing was left of what had been."""
        (count,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(count)

    def expunge(self, deletions: int) -> None:
        """Write the file anew without its free space.

        Args:
            deletions: how many the search was made anew after; with more, some of their words may be left in it.
        """
        self._db.execute("VACUUM")
        is_busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise sqlite3.OperationalError("a scan is under way: the old pages are still in use")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if self.deletions() == deletions:
                self._count_deletions(0)

    def replace(self, changed: Sequence[tuple[Document, bytes]], caught_up: bool) -> list[int | None]:
        """Keep another state of each log that still has the body it was read with: its number, or None."""
        with self._db:
            self._begin(caught_up)
            return [self._replace(document, version) for document, version in changed]

    def stored(self, log_ids: Sequence[str]) -> dict[str, StoredLog]:
        """These logs, each with its body as its version."""
        found = self._db.execute(
            "SELECT log_id, body FROM logs WHERE log_id IN (SELECT value FROM json_each(?))", (_json(log_ids),)
        )
        return {log_id: StoredLog(self._decoded(body), body) for log_id, body in found}

    def notes(self, trace_ids: Sequence[str]) -> dict[str, StoredNote]:
        """The notes of these traces."""
        return note_table.read(self._db, trace_ids)

    def put_notes(self, changed: Sequence[StoredNote]) -> list[bool]:
        """Keep another state of each note that still is as it was read."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            return [note_table.put(self._db, stored) for stored in changed]

    def add_feedback(self, documents: Sequence[FeedbackDocument]) -> None:
        """Keep each, in the place of one that has its id."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            feedback_table.put(self._db, documents)

    def due_feedback(self, now_ms: int, limit: int) -> list[StoredFeedback]:
        """Feedback that is due by now, the longest due first."""
        return feedback_table.due(self._db, now_ms, limit)

    def put_off(self, changed: Sequence[StoredFeedback]) -> None:
        """Keep another time for each feedback that still is as it was read."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            feedback_table.put_off(self._db, changed)

    def feedback_of(self, log: LogRecord) -> tuple[Feedback, ...]:
        """What was said about this log, the oldest first."""
        return feedback_table.about(self._db, names_of(log))

    def get(self, log_id: str) -> TaggedLog | None:
        """The log with this id."""
        found = self._db.execute("SELECT body FROM logs WHERE log_id = ?", (log_id,)).fetchone()
        return None if found is None else self._decoded(found[0])

    def digests(self, log_ids: Sequence[str]) -> dict[str, str]:
        """The content digests of these logs."""
        found = self._db.execute(
            "SELECT log_id, content_digest FROM logs WHERE log_id IN (SELECT value FROM json_each(?))",
            (_json(log_ids),),
        )
        return dict(found.fetchall())

    def ids(self, seqs: Sequence[int]) -> dict[int, str]:
        """The log ids of these numbers; those that are gone are left out."""
        found = self._db.execute(
            "SELECT seq, log_id FROM logs WHERE seq IN (SELECT value FROM json_each(?))", (_json(seqs),)
        )
        return dict(found.fetchall())

    def bodies(self, seqs: Sequence[int]) -> dict[int, TaggedLog]:
        """The logs of these numbers; those that are gone are left out."""
        found = self._db.execute(
            "SELECT seq, body FROM logs WHERE seq IN (SELECT value FROM json_each(?))", (_json(seqs),)
        )
        return {seq: self._decoded(body) for seq, body in found}

    def dumped(self, seqs: Sequence[int]) -> list[Dumped]:
        """The logs of these numbers as they lie here; those that are gone are left out."""
        found = self._db.execute(
            "SELECT log_id, body FROM logs WHERE seq IN (SELECT value FROM json_each(?))", (_json(seqs),)
        )
        return [Dumped(log_id, self._decompress(body)) for log_id, body in found]

    def in_order(self, seqs: Sequence[int]) -> list[int]:
        """These numbers in the order of (ts_ms, log_id)."""
        found = self._db.execute(
            "SELECT seq FROM logs WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY ts_ms, log_id", (_json(seqs),)
        )
        return [seq for (seq,) in found]

    def rows_behind(self) -> Iterator[tuple[str, Row | None]]:
        """Each log id that was marked as behind, and its log if it is still there."""
        return self.rows_of([log_id for (log_id,) in self._db.execute("SELECT log_id FROM behind")])

    def rows_of(self, log_ids: Sequence[str]) -> Iterator[tuple[str, Row | None]]:
        """Each of these ids, and its log if it is there."""
        for log_id in log_ids:
            found = self._db.execute("SELECT seq, body FROM logs WHERE log_id = ?", (log_id,)).fetchone()
            yield log_id, None if found is None else Row(found[0], self._decoded(found[1]))

    def rows(self) -> Iterator[Row]:
        """Every log."""
        last = 0
        while chunk := self._db.execute(
            "SELECT seq, body FROM logs WHERE seq > ? ORDER BY seq LIMIT ?", (last, CHUNK)
        ).fetchall():
            last = chunk[-1][0]
            yield from (Row(seq, self._decoded(body)) for seq, body in chunk)

    def stored_after(self, seq: int, limit: int) -> dict[int, StoredLog]:
        """The next logs by their numbers, each with its body as its version."""
        found = self._db.execute("SELECT seq, body FROM logs WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
        return {number: StoredLog(self._decoded(body), body) for number, body in found}

    def last_seq(self) -> int:
        """The number that was given last, 0 if none was."""
        return self._next_seq() - 1

    def used_bytes(self) -> int:
        """What the file holds; pages that deleted rows left free are not counted."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int(pages - free) * int(size)

    def count(self) -> int:
        """How many logs there are."""
        (count,) = self._db.execute("SELECT count(*) FROM logs").fetchone()
        return int(count)

    def all_caught_up(self) -> None:
        """Nothing is behind any more."""
        self._db.execute("DELETE FROM behind")

    def freeze(self) -> None:
        """From now on this connection sees one point in time, until it is closed."""
        self._db.execute("BEGIN")
        self._db.execute("SELECT seq FROM logs LIMIT 1")  # the snapshot is taken at the first read

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _begin(self, caught_up: bool) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        if caught_up:  # here, and not after each write, to spare a second wait for the disk
            self._db.execute("DELETE FROM behind")

    def _count_deletions(self, count: int) -> None:
        self._db.execute(f"PRAGMA user_version = {count:d}")  # PRAGMA takes no parameters

    def _next_seq(self) -> int:
        found = self._db.execute("SELECT seq + 1 FROM sqlite_sequence WHERE name = 'logs'").fetchone()
        return int(found[0]) if found else 1

    def _insert(self, rows: Sequence[tuple[int, str, int, str, bytes]]) -> None:
        places = ", ".join(["(?, ?, ?, ?, ?)"] * len(rows))
        self._db.execute(
            f"INSERT INTO logs (seq, log_id, ts_ms, content_digest, body) VALUES {places} ON CONFLICT DO NOTHING",  # noqa: S608  constants
            list(chain.from_iterable(rows)),
        )

    def _forget_beside(self, log_id: str) -> None:
        """Its feedback; and, if it was the last call of its trace, the trace's note and feedback."""
        tagged = self.get(log_id)
        response_id, trace_id = (tagged.log.response_id, tagged.log.trace_id) if tagged else (None, None)
        is_last = trace_id is not None and note_table.take_out(self._db, trace_id, log_id)
        feedback_table.forget(self._db, names(log_id, response_id, trace_id if is_last else None))

    def _replace(self, document: Document, version: bytes) -> int | None:
        body = self._compressor.compress(msgspec.json.encode(document.record))
        found = self._db.execute(
            "UPDATE logs SET ts_ms = ?, content_digest = ?, body = ? WHERE log_id = ? AND body = ? RETURNING seq",
            (document.ts, document.content_digest, body, document.id, version),
        ).fetchone()
        if found is None:
            return None
        self._mark(document.id)
        return int(found[0])

    def _mark(self, log_id: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO behind VALUES (?)", (log_id,))

    def _compressed(self, records: list[bytes | bytearray | memoryview]) -> list[bytes]:
        """All in one call: other threads of Python get in between only once."""
        if not records:
            return []
        found = self._compressor.multi_compress_to_buffer(records)
        return [found[at].tobytes() for at in range(len(found))]

    def _decoded(self, body: bytes) -> TaggedLog:
        return msgspec.json.decode(self._decompress(body), type=TaggedLog)


def _json(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()
