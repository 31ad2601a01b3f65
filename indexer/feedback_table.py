"""Feedback in the embedded index's file, and when each is due to reach its log."""

import sqlite3
from collections.abc import Sequence

import msgspec

from tunemill.indexer.feedback import MOST_SHOWN, FeedbackDocument, StoredFeedback
from tunemill.schemas.records import Feedback

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
    feedback_id TEXT PRIMARY KEY,
    about TEXT NOT NULL,
    ts_ms INTEGER NOT NULL,
    body BLOB NOT NULL                      -- JSON of a Feedback
) STRICT;
CREATE INDEX IF NOT EXISTS feedback_about ON feedback (about, ts_ms);
"""
_LATER = ("since_ms", "due_ms")  # columns that files of older versions lack: all that they hold is due
_ADD = "ALTER TABLE feedback ADD COLUMN {} INTEGER NOT NULL DEFAULT 0"
_BY_DUE = "CREATE INDEX IF NOT EXISTS feedback_due ON feedback (due_ms)"
_PUT = """
INSERT INTO feedback (feedback_id, about, ts_ms, since_ms, due_ms, body) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (feedback_id) DO UPDATE SET about = excluded.about, ts_ms = excluded.ts_ms, since_ms = excluded.since_ms,
    due_ms = excluded.due_ms, body = excluded.body
"""
_DUE = """
SELECT feedback_id, about, ts_ms, since_ms, due_ms, body FROM feedback WHERE due_ms <= ? ORDER BY due_ms LIMIT ?
"""
_PUT_OFF = "UPDATE feedback SET due_ms = ? WHERE feedback_id = ? AND due_ms = ? AND body = ?"
_ABOUT = "about IN (SELECT value FROM json_each(?))"


def prepare(db: sqlite3.Connection) -> None:
    """Make the table, or give one of an older version what it lacks."""
    db.executescript(_SCHEMA)
    there = {name for _, name, *_ in db.execute("PRAGMA table_info(feedback)")}
    for name in _LATER:
        if name not in there:
            db.execute(_ADD.format(name))
    db.execute(_BY_DUE)


def put(db: sqlite3.Connection, documents: Sequence[FeedbackDocument]) -> None:
    """Keep each, in the place of one that has its id."""
    rows = [(doc.id, doc.about, doc.ts, doc.since, doc.due, msgspec.json.encode(doc.record)) for doc in documents]
    db.executemany(_PUT, rows)


def due(db: sqlite3.Connection, now_ms: int, limit: int) -> list[StoredFeedback]:
    """What is due by now, the longest due first, each with its body as its version."""
    return [
        StoredFeedback(
            FeedbackDocument(
                id=feedback_id,
                about=about,
                ts=ts_ms,
                since=since_ms,
                due=due_ms,
                record=msgspec.json.decode(body, type=Feedback),
            ),
            (due_ms, body),
        )
        for feedback_id, about, ts_ms, since_ms, due_ms, body in db.execute(_DUE, (now_ms, limit))
    ]


def put_off(db: sqlite3.Connection, changed: Sequence[StoredFeedback]) -> None:
    """Keep another time for each that still is as it was read."""
    db.executemany(_PUT_OFF, [(one.document.due, one.document.id, *one.version) for one in changed])


def about(db: sqlite3.Connection, names: Sequence[str]) -> tuple[Feedback, ...]:
    """What was said about any of these, the oldest first."""
    found = db.execute(
        f"SELECT body FROM feedback WHERE {_ABOUT} ORDER BY ts_ms, feedback_id LIMIT {MOST_SHOWN}",  # noqa: S608  constants
        (msgspec.json.encode(names).decode(),),
    )
    return tuple(msgspec.json.decode(body, type=Feedback) for (body,) in found)


def forget(db: sqlite3.Connection, names: Sequence[str]) -> None:
    """Delete what was said about any of these."""
    db.execute(f"DELETE FROM feedback WHERE {_ABOUT}", (msgspec.json.encode(names).decode(),))  # noqa: S608  constants
