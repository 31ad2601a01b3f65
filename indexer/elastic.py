"""The search index on Elasticsearch 9."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from elasticsearch import ApiError, BadRequestError

from tunemill.indexer import elastic_rebuild, elastic_scan, elastic_shelves, mapping
from tunemill.indexer.bulk import Bulk
from tunemill.indexer.document import refusal, to_document
from tunemill.indexer.elastic_client import connect, error_type, translated
from tunemill.indexer.elastic_copies import Settled, delete_copies, look_up, settle, wanted
from tunemill.indexer.elastic_expunge import expunge
from tunemill.indexer.elastic_feedback import Call, ElasticFeedback
from tunemill.indexer.elastic_indices import is_outdated, size_of
from tunemill.indexer.elastic_search import ElasticSearch
from tunemill.indexer.elastic_stored import NoteDocument, note_document_id, read_stored, traces_of
from tunemill.indexer.elastic_write import send_all, until_answered
from tunemill.indexer.errors import IndexUnavailable, SearchIndexError
from tunemill.indexer.feedback import StoredFeedback
from tunemill.indexer.outcome import OUTCOMES, ItemOutcome, Verdict
from tunemill.indexer.query import Query
from tunemill.indexer.search import (
    Change,
    Dumped,
    Forget,
    Hit,
    IndexSize,
    Progress,
    Rebuilt,
    SearchPage,
    SearchRequest,
    Shelf,
)
from tunemill.schemas.outcome import Outcome, Written, id_conflict
from tunemill.schemas.records import Feedback, LogRecord, TaggedLog
from tunemill.schemas.stored import Stored, StoredLog, StoredNote

_CHANGED_MEANWHILE = {Verdict.DUPLICATE, Verdict.NO_INDEX}  # by somebody else, or with its index by a rebuild
_HAD_COPIES = ItemOutcome(Verdict.DUPLICATE, 409)
_MERGED = OUTCOMES | {Verdict.INDEXED: Outcome.MERGED}


class ElasticIndex:
    """One project's logs in an Elasticsearch."""

    def __init__(self, url: str, *, project: str) -> None:
        self._client = connect(url)
        self._project = project
        self.alias = mapping.alias(project)
        self._notes = mapping.notes_alias(project)
        self._feedback = ElasticFeedback(self._client, project=project, make_index=self.setup)
        self._search = ElasticSearch(self._client, self.alias)

    async def setup(self) -> None:
        """Make the templates, the indices and their aliases, unless they are there."""
        for alias, template in mapping.templates(self._project).items():
            with translated():
                await self._client.indices.put_index_template(name=alias, **template, create=False)
                if await self._client.indices.exists_alias(name=alias):
                    continue
                try:
                    await self._client.indices.create(
                        index=mapping.first_index(alias), aliases={alias: {"is_write_index": True}}
                    )
                except BadRequestError as error:
                    if error_type(error) != "resource_already_exists_exception":  # another process was faster
                        raise
        await self._feedback.setup()

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        """Store each log unless it is there; waits for an engine that is busy or away."""
        refused, bulk = await asyncio.to_thread(_created, logs)
        sent = [log for at, log in enumerate(logs) if at not in refused]
        outcomes = iter(await self._create(bulk, sent))
        written = [refused.get(at) or _written(log, next(outcomes)) for at, log in enumerate(logs)]
        return await self._with_conflicts(logs, written)

    async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
        """These logs and the notes of these traces, searchable or not yet."""
        logs, notes = (self.alias, log_ids), (self._notes, trace_ids)
        return await until_answered(partial(read_stored, self._client, logs, notes), self.setup)

    async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
        """Store another state of each log that still is as it was read."""
        documents = [(to_document(stored.tagged), stored.version) for stored in changed]
        bulk = Bulk()
        for document, version in documents:
            bulk.replace(document.id, document, version)
        outcomes = await send_all(self._client, bulk, alias=self.alias, make_index=None)
        return [
            None
            if outcome.verdict in _CHANGED_MEANWHILE
            else Written(document.id, _MERGED[outcome.verdict], outcome.code, outcome.reason)
            for (document, _), outcome in zip(documents, outcomes, strict=True)
        ]

    async def put_notes(self, changed: Sequence[StoredNote]) -> Sequence[bool]:
        """Store another state of each note that still is as it was read."""
        bulk = Bulk()
        for stored in changed:
            _put_note(bulk, stored)
        outcomes = await self._send(bulk, alias=self._notes)
        if any(outcome.verdict is Verdict.REJECTED for outcome in outcomes):
            raise SearchIndexError(
                "Elasticsearch does not take a trace's note: its index has another mapping than ours"
            )
        return [outcome.verdict is Verdict.INDEXED for outcome in outcomes]

    async def add_feedback(self, items: Sequence[Feedback]) -> Sequence[Written]:
        """Store each; of two with one feedback_id the later one holds."""
        return await self._feedback.add(items, now_ms=time.time_ns() // 1_000_000)

    async def feedback_of(self, log: LogRecord) -> tuple[Feedback, ...]:
        """What was said about this log, the oldest first."""
        return await self._feedback.of(log)

    async def feedback_of_each(self, logs: Sequence[LogRecord]) -> Sequence[tuple[Feedback, ...]]:
        """What was said about each of these logs, the oldest first."""
        return await self._feedback.of_each(logs)

    async def due_feedback(self, *, now_ms: int, limit: int) -> Sequence[StoredFeedback]:
        """Feedback that is due by now, the longest due first."""
        return await self._feedback.due(now_ms=now_ms, limit=limit)

    async def put_off(self, changed: Sequence[StoredFeedback]) -> None:
        """Keep another time for each feedback that still is as it was read."""
        await self._feedback.put_off(changed)

    async def delete(self, log_ids: Sequence[str]) -> None:
        """Make these logs unfindable at once, and forget what was said about them."""
        known = [log_id for log_id in log_ids if log_id]
        if not known:
            return
        await self._feedback.forget_beside(known, self)
        await delete_copies(self._client, self.alias, known, make_index=self.setup)
        self._search.renew()

    async def forget_said(self, about: Sequence[str]) -> None:
        """Forget what was said about these answers and traces."""
        await self._feedback.forget_said(about, self)

    async def traces_of(self, person: str) -> Sequence[str]:
        """The traces whose notes name this user, session or metadata.subject."""
        return await traces_of(self._client, self._notes, person)

    async def get(self, log_id: str) -> TaggedLog | None:
        """The log with this id, findable by search or not yet."""
        if not log_id:
            return None
        found = await read_stored(self._client, (self.alias, [log_id]), (self._notes, []))
        return found.logs[log_id].tagged if found.logs else None

    async def search(self, request: SearchRequest) -> SearchPage:
        """One page of the logs that match."""
        try:
            return await self._search.page(request)
        except IndexUnavailable as error:
            if not _lost_its_shards(error):
                raise
        return await self._search.page(request)

    async def similar(self, text: str, *, limit: int) -> Sequence[Hit]:
        """The logs whose prompts and answers share most of the words that are telling in this text."""
        return await self._search.similar(text, limit=limit)

    def scan(self, query: Query, *, limit: int | None) -> AsyncIterator[TaggedLog]:
        """All logs that match at one point in time, ordered by (ts_ms, log_id)."""
        return elastic_scan.scan(self._client, self.alias, query, limit=limit)

    def dump(self, query: Query) -> AsyncIterator[Sequence[Dumped]]:
        """All logs that match at one point in time, in no order."""
        return elastic_scan.dump(self._client, self.alias, query)

    async def refresh(self) -> None:
        """What was written before is findable after."""
        with translated():
            await self._client.indices.refresh(index=[self.alias, self._feedback.alias])
        self._search.renew()

    async def rebuild(self, change: Change, *, progress: Progress) -> Rebuilt:
        """Make the indices of the logs anew by today's template."""
        await self.setup()
        try:
            return await elastic_rebuild.rebuild(self._client, self.alias, change=change, progress=progress)
        finally:
            self._search.renew()

    async def expunge(self) -> None:
        """Merge deleted documents away."""
        await expunge(self._client, (self.alias, self._notes, self._feedback.alias))
        self._search.renew()

    async def is_outdated(self) -> bool:
        """Whether an index of the logs was made by another template than today's."""
        return await is_outdated(self._client, self.alias)

    async def size(self) -> IndexSize:
        """How much the indices of the logs hold."""
        return await size_of(self._client, self.alias)

    async def shelves(self) -> Sequence[Shelf]:
        """The indices of the logs."""
        return await elastic_shelves.shelves(self._client, self.alias)

    async def roll_over(self) -> bool:
        """New logs go into another index from now on; False: no node has room for one."""
        return await elastic_shelves.roll_over(self._client, self.alias)

    async def drop_shelf(self, name: str, *, before: Forget) -> int:
        """Drop an index whole, with what was said of its logs."""

        async def forget(calls: Sequence[Call]) -> None:
            await before([call.log_id for call in calls])
            await self._feedback.forget_calls(calls, self)

        try:
            return await elastic_shelves.drop(self._client, self.alias, name, forget=forget)
        finally:
            self._search.renew()

    async def ping(self) -> None:
        """Return if Elasticsearch answers."""
        with translated():
            await self._client.info()

    async def close(self) -> None:
        """Close the connections."""
        await self._search.close()
        await self._client.close()

    async def _send(self, bulk: Bulk, *, alias: str = "") -> list[ItemOutcome]:
        return await send_all(self._client, bulk, alias=alias or self.alias, make_index=self.setup)

    async def _create(self, bulk: Bulk, logs: Sequence[TaggedLog]) -> list[ItemOutcome]:
        """Create each of these logs unless one of the indices has it; the outcomes in order."""
        outcomes = await self._send(bulk)
        places = {
            logs[at].log.log_id: at for at in reversed(range(len(bulk))) if outcomes[at].verdict is not Verdict.REJECTED
        }
        settled = await settle(self._client, self.alias, places, make_index=self.setup)
        created = [at for at, outcome in enumerate(outcomes) if outcome.verdict is Verdict.INDEXED]
        for at in await self._not_left(settled, logs, created):
            outcomes[at] = _HAD_COPIES
        if again := [places[log_id] for log_id in settled.gone]:
            results = await self._create(bulk.only(again), [logs[at] for at in again])
            for at, outcome in zip(again, results, strict=True):
                outcomes[at] = outcome
        return outcomes

    async def _not_left(self, settled: Settled, logs: Sequence[TaggedLog], created: Sequence[int]) -> list[int]:
        """The places of those created logs of which another copy is left, or may be: what it holds has to be read first."""
        ids = {at: logs[at].log.log_id for at in created}
        asked = [log_id for log_id in ids.values() if log_id in settled.elsewhere - settled.several]
        left = await until_answered(partial(self._digests, asked), self.setup) if asked else {}
        return [
            at
            for at, log_id in ids.items()
            if log_id in settled.several or left.get(log_id, logs[at].content_digest) != logs[at].content_digest
        ]

    async def _digests(self, log_ids: Sequence[str]) -> dict[str, str]:
        """Of each of these logs that is there, what it holds."""
        found = await look_up(self._client, [wanted(self.alias, log_id, "content_digest") for log_id in log_ids])
        return {doc["_id"]: doc["_source"]["content_digest"] for doc in found if doc is not None}

    async def _with_conflicts(self, logs: Sequence[TaggedLog], written: Sequence[Written]) -> Sequence[Written]:
        """What was written, where the id of a duplicate that holds other content is a conflict."""
        ids = [end.log_id for end in written if end.outcome is Outcome.DUPLICATE]
        if not ids:
            return written
        stored = await until_answered(partial(self._digests, ids), self.setup)
        return [
            id_conflict(end.log_id)
            if end.outcome is Outcome.DUPLICATE and stored.get(end.log_id, log.content_digest) != log.content_digest
            else end
            for log, end in zip(logs, written, strict=True)
        ]


def _lost_its_shards(error: IndexUnavailable) -> bool:
    """Whether a rebuild may have put another index in the place of the one that a search began in."""
    return isinstance(error.__cause__, ApiError) and error_type(error.__cause__) == "search_phase_execution_exception"


def _created(logs: Sequence[TaggedLog]) -> tuple[dict[int, Written], Bulk]:
    """The end of each log that no engine could store, by its place, and what is sent of all others."""
    refused: dict[int, Written] = {}
    bulk = Bulk()
    for at, log in enumerate(logs):
        if (end := refusal(log)) is not None:
            refused[at] = end
            continue
        try:
            bulk.create(to_document(log))
        except UnicodeEncodeError:
            refused[at] = Written(log.log.log_id, Outcome.REJECTED, "not_unicode", "half of a surrogate pair")
    return refused, bulk


def _written(log: TaggedLog, outcome: ItemOutcome) -> Written:
    return Written(log.log.log_id, OUTCOMES[outcome.verdict], outcome.code, outcome.reason)


def _put_note(bulk: Bulk, stored: StoredNote) -> None:
    document_id, document = note_document_id(stored.note.trace_id), NoteDocument(stored.note)
    if stored.version is None:
        bulk.put(document_id, document, operation="create")
    else:
        bulk.replace(document_id, document, stored.version)
