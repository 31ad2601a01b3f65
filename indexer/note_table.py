"""Traces' notes in the embedded index's file."""

import sqlite3
from collections.abc import Sequence

import msgspec

from tunemill.schemas.stored import StoredNote
from tunemill.schemas.trace import TraceNote, without_calls, without_words

SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
    trace_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    body BLOB NOT NULL                      -- JSON of a TraceNote
) STRICT;
"""
_READ = "SELECT trace_id, version, body FROM notes WHERE trace_id IN (SELECT value FROM json_each(?))"
_ADD = "INSERT INTO notes (trace_id, version, body) VALUES (?, 1, ?) ON CONFLICT DO NOTHING"
_OF = """
SELECT trace_id FROM notes, (SELECT ? AS person) WHERE json_extract(CAST(body AS TEXT), '$.user_id') = person
    OR json_extract(CAST(body AS TEXT), '$.session_id') = person
    OR json_extract(CAST(body AS TEXT), '$.metadata.subject') = person
"""
_REPLACE = "UPDATE notes SET version = version + 1, body = ? WHERE trace_id = ? AND version = ?"


def read(db: sqlite3.Connection, trace_ids: Sequence[str]) -> dict[str, StoredNote]:
    """The notes of these traces."""
    found = db.execute(_READ, (msgspec.json.encode(trace_ids).decode(),))
    return {
        trace_id: StoredNote(msgspec.json.decode(body, type=TraceNote), version) for trace_id, version, body in found
    }


def put(db: sqlite3.Connection, stored: StoredNote) -> bool:
    """Keep another state of a note; False: it is no longer the state that was read."""
    trace_id, body = stored.note.trace_id, msgspec.json.encode(stored.note)
    if stored.version is None:
        return db.execute(_ADD, (trace_id, body)).rowcount == 1
    return db.execute(_REPLACE, (body, trace_id, stored.version)).rowcount == 1


def take_out(db: sqlite3.Connection, trace_id: str, log_id: str) -> bool:
    """Forget that a call was one of this trace. True: it was the last one, and the note says nothing any more."""
    stored = read(db, [trace_id]).get(trace_id)
    if stored is None:
        return False
    rest = without_calls(stored.note, [log_id])
    put(db, StoredNote(rest, stored.version))
    return not rest.log_ids


def forget(db: sqlite3.Connection, trace_ids: Sequence[str]) -> None:
    """Forget what was said about these traces."""
    for found in read(db, trace_ids).values():
        if (rest := without_words(found.note)) != found.note:
            put(db, StoredNote(rest, found.version))


def of_person(db: sqlite3.Connection, person: str) -> list[str]:
    """The traces whose notes name this user, session or metadata.subject."""
    return [trace_id for (trace_id,) in db.execute(_OF, (person,))]
