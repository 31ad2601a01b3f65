"""Reading what Elasticsearch holds of logs and traces by id, in one round trip, with the versions to replace it by."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_scan

from tunemill.indexer.document import LONGEST_ID_BYTES
from tunemill.indexer.elastic_client import translated
from tunemill.indexer.elastic_copies import look_up, version_of, wanted
from tunemill.schemas.ids import payload_log_id
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.stored import Stored, StoredLog, StoredNote
from tunemill.schemas.told import people_of
from tunemill.schemas.trace import TraceNote

_NOTES_AT_ONCE = 1000


class NoteDocument(msgspec.Struct, frozen=True):
    """A trace's note as a document."""

    note: TraceNote


def note_document_id(trace_id: str) -> str:
    """The `_id` of a trace's note: its id, or a digest of one that is too long."""
    return trace_id if len(trace_id.encode()) <= LONGEST_ID_BYTES else payload_log_id(trace_id.encode())


async def read_stored(
    client: AsyncElasticsearch, logs: tuple[str, Sequence[str]], notes: tuple[str, Sequence[str]]
) -> Stored:
    """The documents of these ids in these two aliases, searchable or not yet.

    Args:
        logs: an alias, and log ids.
        notes: an alias, and trace ids.
    """
    (logs_alias, log_ids), (notes_alias, trace_ids) = logs, notes
    asked = [wanted(logs_alias, log_id, "record") for log_id in log_ids]
    asked += [wanted(notes_alias, note_document_id(trace_id)) for trace_id in trace_ids]
    answered = await look_up(client, asked)
    return Stored(
        {
            log_id: StoredLog(record_of(found), version_of(found))
            for log_id, found in zip(log_ids, answered[: len(log_ids)], strict=True)
            if found is not None
        },
        {
            trace_id: StoredNote(msgspec.convert(found["_source"], NoteDocument).note, version_of(found))
            for trace_id, found in zip(trace_ids, answered[len(log_ids) :], strict=True)
            if found is not None
        },
    )


async def traces_of(client: AsyncElasticsearch, notes_alias: str, person: str) -> list[str]:
    """The traces whose notes name this user, session or metadata.subject: every note is read, for none is searchable."""
    found: list[str] = []
    with translated():
        await client.indices.refresh(index=notes_alias)
        async for hit in async_scan(client, index=notes_alias, size=_NOTES_AT_ONCE):
            note = msgspec.convert(hit["_source"], NoteDocument).note
            if person in people_of(note):
                found.append(note.trace_id)
    return found


def record_of(found: Mapping[str, Any]) -> TaggedLog:
    """The log in a document that was read, or in a hit."""
    return msgspec.convert(found["_source"]["record"], TaggedLog)
