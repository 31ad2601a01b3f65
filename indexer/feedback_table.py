"""Feedback in the embedded index's file."""

import sqlite3
from collections.abc import Sequence

import msgspec

from tunemill.indexer.feedback import MOST_SHOWN, FeedbackDocument
from tunemill.schemas.records import Feedback

SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
    feedback_id TEXT PRIMARY KEY,
    about TEXT NOT NULL,
    ts_ms INTEGER NOT NULL,
    body BLOB NOT NULL                      -- JSON of a Feedback
) STRICT;
CREATE INDEX IF NOT EXISTS feedback_about ON feedback (about, ts_ms);
"""
_PUT = """
INSERT INTO feedback (feedback_id, about, ts_ms, body) VALUES (?, ?, ?, ?)
ON CONFLICT (feedback_id) DO UPDATE SET about = excluded.about, ts_ms = excluded.ts_ms, body = excluded.body
"""
_ABOUT = "about IN (SELECT value FROM json_each(?))"


def put(db: sqlite3.Connection, documents: Sequence[FeedbackDocument]) -> None:
    """Keep each, in the place of one that has its id."""
    rows = [(doc.id, doc.about, doc.ts, msgspec.json.encode(doc.record)) for doc in documents]
    db.executemany(_PUT, rows)


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
