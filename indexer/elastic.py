"""The search index on Elasticsearch 9."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import msgspec
import structlog
from elasticsearch import BadRequestError, NotFoundError

from tunemill.indexer import feedback, mapping
from tunemill.indexer.bulk import Bulk
from tunemill.indexer.cursor import Place, decode, encode, search_key
from tunemill.indexer.document import refusal, texts, to_document
from tunemill.indexer.elastic_client import connect, error_type, translated
from tunemill.indexer.elastic_query import to_dsl
from tunemill.indexer.elastic_stored import NoteDocument, note_document_id, read_stored
from tunemill.indexer.elastic_write import send_all, until_answered
from tunemill.indexer.errors import IndexUnavailable, SearchIndexError
from tunemill.indexer.highlight import highlight
from tunemill.indexer.outcome import ItemOutcome, Verdict
from tunemill.indexer.query import Query
from tunemill.indexer.search import FACET_VALUES, FACETS, FacetCount, Hit, SearchPage, SearchRequest
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Feedback, LogRecord, TaggedLog
from tunemill.schemas.stored import Stored, StoredLog, StoredNote
from tunemill.schemas.trace import without_calls
from tunemill.telemetry.metrics import ID_CONFLICTS

SEARCH_TIMEOUT = "10s"  # Elasticsearch stops a search that takes longer
SCAN_PAGE = 500  # hits; a few MiB
SCAN_KEEP_ALIVE = "5m"  # between two pages of a scan

_NO_IDS = ("", ".", "..")  # in a URL they would name the index itself

_OUTCOMES = {
    Verdict.INDEXED: Outcome.INDEXED,
    Verdict.DUPLICATE: Outcome.DUPLICATE,
    Verdict.REJECTED: Outcome.REJECTED,
}
_MERGED = _OUTCOMES | {Verdict.INDEXED: Outcome.MERGED}
_AGGREGATIONS = {name: {"terms": {"field": name, "size": FACET_VALUES}} for name in FACETS}

_log = structlog.get_logger()


class ElasticIndex:
    """One project's logs in an Elasticsearch."""

    def __init__(self, url: str, *, project: str) -> None:
        self._client = connect(url)
        self._project = project
        self._alias = mapping.alias(project)
        self._notes = mapping.notes_alias(project)
        self._feedback = mapping.feedback_alias(project)

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

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        """Store each log unless it is there; waits for an engine that is busy or away."""
        refused, bulk = await asyncio.to_thread(_created, logs)
        outcomes = iter(await self._send(bulk))
        written = [refused.get(at) or _written(log, next(outcomes)) for at, log in enumerate(logs)]
        await self._warn_of_conflicts(
            [log for log, end in zip(logs, written, strict=True) if end.outcome is Outcome.DUPLICATE]
        )
        return written

    async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
        """These logs and the notes of these traces, searchable or not yet."""
        logs, notes = (self._alias, log_ids), (self._notes, trace_ids)
        return await until_answered(partial(read_stored, self._client, logs, notes), self.setup)

    async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
        """Store another state of each log that still is as it was read."""
        documents = [(to_document(stored.tagged), stored.version) for stored in changed]
        bulk = Bulk()
        for document, version in documents:
            bulk.replace(document.id, document, version)
        outcomes = await self._send(bulk)
        return [
            None
            if outcome.verdict is Verdict.DUPLICATE
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
        refused = {item.feedback_id: end for item in items if (end := feedback.refusal(item)) is not None}
        documents = [feedback.to_document(item) for item in items if item.feedback_id not in refused]
        bulk = Bulk()
        for document in documents:
            bulk.put(document.id, document, operation="index")
        outcomes = await self._send(bulk, alias=self._feedback)
        ends = refused | {
            document.id: Written(document.id, _OUTCOMES[outcome.verdict], outcome.code, outcome.reason)
            for document, outcome in zip(documents, outcomes, strict=True)
        }
        return [ends[item.feedback_id] for item in items]

    async def feedback_of(self, log: LogRecord) -> tuple[Feedback, ...]:
        """What was said about this log, the oldest first."""
        with translated():
            answer = await self._client.search(
                index=self._feedback,
                query={"terms": {"about": feedback.names_of(log)}},
                sort=[{"ts": "asc"}, {"id": "asc"}],
                size=feedback.MOST_SHOWN,
                source_includes=["record"],
            )
        return tuple(msgspec.convert(hit["_source"]["record"], Feedback) for hit in answer["hits"]["hits"])

    async def delete(self, log_ids: Sequence[str]) -> None:
        """Make these logs unfindable at once, and forget what was said about them."""
        known = [log_id for log_id in log_ids if log_id]
        if not known:
            return
        await self._forget_beside(known)
        await self._send(_deleted(known), refresh=True)

    async def get(self, log_id: str) -> TaggedLog | None:
        """The log with this id, findable by search or not yet."""
        found = await self._stored(log_id)
        return None if found is None else _record(found)

    async def search(self, request: SearchRequest) -> SearchPage:
        """One page of the logs that match."""
        place = decode(request)
        with translated():
            answer = await self._client.search(**self._search_body(request, place))
        if answer["timed_out"]:
            raise IndexUnavailable(f"the search took longer than {SEARCH_TIMEOUT}: make it narrower")
        found = answer["hits"]["hits"]
        shown = found[: request.limit]
        return SearchPage(
            total=answer["hits"]["total"]["value"],
            hits=await asyncio.to_thread(_hits, request, shown),  # long texts take a while to mark
            facets=_facets(answer["aggregations"]),
            cursor=_next_cursor(request, place, shown) if shown and len(found) > len(shown) else None,
        )

    async def scan(self, query: Query, *, limit: int | None) -> AsyncIterator[TaggedLog]:
        """All logs that match at one point in time, ordered by (ts_ms, log_id)."""
        with translated():
            opened = await self._client.open_point_in_time(index=self._alias, keep_alive=SCAN_KEEP_ALIVE)
        point = opened["id"]
        try:
            async for hit in self._scan_hits(query, point, limit):
                yield _record(hit)
        finally:
            with translated():
                await self._client.close_point_in_time(id=point)

    async def refresh(self) -> None:
        """What was written before is findable after."""
        with translated():
            await self._client.indices.refresh(index=[self._alias, self._feedback])

    async def ping(self) -> None:
        """Return if Elasticsearch answers."""
        with translated():
            await self._client.info()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _send(self, bulk: Bulk, *, alias: str = "", refresh: bool = False) -> list[ItemOutcome]:
        return await send_all(self._client, bulk, alias=alias or self._alias, make_index=self.setup, refresh=refresh)

    async def _forget_beside(self, log_ids: Sequence[str]) -> None:
        """Their feedback; and of traces whose last calls they are, the note and the feedback."""
        logs = (await self.stored(log_ids=log_ids, trace_ids=[])).logs
        calls: dict[str, list[str]] = {}
        for log_id, found in logs.items():
            if found.tagged.log.trace_id:
                calls.setdefault(found.tagged.log.trace_id, []).append(log_id)
        ended = await self._taken_out(calls)
        said = [name for log_id in log_ids for name in feedback.names(log_id, None, None)]
        said += [name for log in logs.values() for name in feedback.names(None, log.tagged.log.response_id, None)]
        said += [name for trace_id in ended for name in feedback.names(None, None, trace_id)]
        while feedback_ids := await until_answered(partial(self._feedback_ids, said), self.setup):
            await self._send(_deleted(feedback_ids), alias=self._feedback, refresh=True)

    async def _taken_out(self, calls: Mapping[str, Sequence[str]]) -> list[str]:
        """Forget that these calls were ones of their traces, by trace; those traces that are left without any."""
        ended: list[str] = []
        waiting = list(calls)
        while waiting:
            notes = (await self.stored(log_ids=[], trace_ids=waiting)).notes
            rests = [
                StoredNote(without_calls(found.note, calls[trace_id]), found.version)
                for trace_id, found in notes.items()
            ]
            done = await self.put_notes(rests)
            ended += [
                rest.note.trace_id for rest, is_put in zip(rests, done, strict=True) if is_put and not rest.note.log_ids
            ]
            waiting = [rest.note.trace_id for rest, is_put in zip(rests, done, strict=True) if not is_put]
        return ended

    async def _feedback_ids(self, about: Sequence[str]) -> list[str]:
        with translated():
            await self._client.indices.refresh(index=self._feedback)  # what is not searchable yet would stay
            answer = await self._client.search(
                index=self._feedback, query={"terms": {"about": about}}, size=feedback.MOST_SHOWN, source=False
            )
        return [hit["_id"] for hit in answer["hits"]["hits"]]

    def _search_body(self, request: SearchRequest, place: Place | None) -> dict[str, Any]:
        keys = [{"ts": "desc"}, {"id": "desc"}]
        after = None if place is None else [place.ts_ms, place.log_id]
        if request.by_score:
            keys = [{"_score": "desc"}, *keys]
            after = None if place is None or after is None else [place.score, *after]
        body: dict[str, Any] = {
            "index": self._alias,
            "query": to_dsl(request.query),
            "size": request.limit + 1,  # one more, to know whether there is a next page
            "sort": keys,
            "aggs": _AGGREGATIONS,
            "source_includes": ["record"],
            "track_total_hits": True,
            "timeout": SEARCH_TIMEOUT,
            "allow_partial_search_results": False,
        }
        return body if after is None else body | {"search_after": after}

    async def _scan_hits(self, query: Query, point: str, limit: int | None) -> AsyncIterator[Mapping[str, Any]]:
        after: list[Any] | None = None
        left = limit
        while left is None or left > 0:
            with translated():
                answer = await self._client.search(
                    query=to_dsl(query),
                    pit={"id": point, "keep_alive": SCAN_KEEP_ALIVE},
                    size=SCAN_PAGE if left is None else min(SCAN_PAGE, left),
                    sort=[{"ts": "asc"}, {"id": "asc"}],
                    source_includes=["record"],
                    track_total_hits=False,
                    allow_partial_search_results=False,  # a dataset may not lack the logs of a shard that is away
                    search_after=after,
                )
            hits = answer["hits"]["hits"]
            for hit in hits:
                yield hit
            if not hits:
                return
            after = hits[-1]["sort"]
            left = None if left is None else left - len(hits)

    async def _stored(self, log_id: str) -> Mapping[str, Any] | None:
        if log_id in _NO_IDS:
            return None
        try:
            with translated():
                found = await self._client.get(index=self._alias, id=log_id)
        except IndexUnavailable as error:
            if isinstance(error.__cause__, NotFoundError) and error_type(error.__cause__) == "":
                return None
            raise
        return cast("Mapping[str, Any]", found.body)

    async def _warn_of_conflicts(self, duplicates: Sequence[TaggedLog]) -> None:
        """Say how many logs came with an id that holds other content: a producer makes its ids badly."""
        if not duplicates:
            return
        try:
            with translated():
                answer = await self._client.mget(
                    index=self._alias, ids=[log.log.log_id for log in duplicates], source_includes=["content_digest"]
                )
        except IndexUnavailable:
            return
        stored = {doc["_id"]: doc["_source"]["content_digest"] for doc in answer["docs"] if doc.get("found")}
        count = sum(stored.get(log.log.log_id, log.content_digest) != log.content_digest for log in duplicates)
        if count:
            ID_CONFLICTS.inc(count)
            _log.warning("same_id_other_content", logs=count)


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


def _deleted(ids: Iterable[str]) -> Bulk:
    bulk = Bulk()
    for document_id in ids:
        bulk.delete(document_id)
    return bulk


def _written(log: TaggedLog, outcome: ItemOutcome) -> Written:
    return Written(log.log.log_id, _OUTCOMES[outcome.verdict], outcome.code, outcome.reason)


def _put_note(bulk: Bulk, stored: StoredNote) -> None:
    document_id, document = note_document_id(stored.note.trace_id), NoteDocument(stored.note)
    if stored.version is None:
        bulk.put(document_id, document, operation="create")
    else:
        bulk.replace(document_id, document, stored.version)


def _record(hit: Mapping[str, Any]) -> TaggedLog:
    return msgspec.convert(hit["_source"]["record"], TaggedLog)


def _hits(request: SearchRequest, found: Sequence[Mapping[str, Any]]) -> tuple[Hit, ...]:
    return tuple(_hit(request, hit) for hit in found)


def _hit(request: SearchRequest, hit: Mapping[str, Any]) -> Hit:
    tagged = _record(hit)
    return Hit(tagged, hit["sort"][0] if request.by_score else None, highlight(request.query, texts(tagged)))


def _next_cursor(request: SearchRequest, place: Place | None, shown: Sequence[Mapping[str, Any]]) -> str:
    score, ts_ms, log_id = ([] if request.by_score else [0.0]) + shown[-1]["sort"]
    seen = len(shown) + (place.seen if place else 0)
    return encode(Place(search_key(request.query, request.sort), seen, score, ts_ms, log_id))


def _facets(aggregations: Mapping[str, Any]) -> dict[str, tuple[FacetCount, ...]]:
    return {
        name: tuple(FacetCount(bucket["key"], bucket["doc_count"]) for bucket in aggregations[name]["buckets"])
        for name in FACETS
    }
