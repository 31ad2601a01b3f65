"""Feedback in Elasticsearch: stored, found for a log, and forgotten with it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from elasticsearch import AsyncElasticsearch

from tunemill.indexer import feedback, mapping
from tunemill.indexer.bulk import Bulk, deletions
from tunemill.indexer.elastic_client import translated
from tunemill.indexer.elastic_copies import version_of
from tunemill.indexer.elastic_write import send_all, until_answered
from tunemill.indexer.feedback import StoredFeedback
from tunemill.indexer.outcome import OUTCOMES
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.about import names, traces_in
from tunemill.schemas.outcome import Written
from tunemill.schemas.records import Feedback, LogRecord
from tunemill.schemas.stored import StoredNote
from tunemill.schemas.trace import without_calls, without_words

_LOGS_AT_ONCE = 100  # in one request


class Call(msgspec.Struct, frozen=True):
    """What feedback and a trace's note name a log by."""

    log_id: str
    response_id: str | None = None
    trace_id: str | None = None


class ElasticFeedback:
    """What was said about one project's logs."""

    def __init__(self, client: AsyncElasticsearch, *, project: str, make_index: Callable[[], Awaitable[None]]) -> None:
        self.alias = mapping.feedback_alias(project)
        self._client = client
        self._make_index = make_index

    async def setup(self) -> None:
        """Let feedback of an index of an older version be found by when it is due."""
        with translated():
            await self._client.indices.put_mapping(index=self.alias, properties=mapping.FEEDBACK_MAPPINGS["properties"])

    async def add(self, items: Sequence[Feedback], *, now_ms: int) -> Sequence[Written]:
        """Store each, due at once; of two with one feedback_id the later one holds."""
        refused = {item.feedback_id: end for item in items if (end := feedback.refusal(item)) is not None}
        documents = [feedback.to_document(item, stored_ms=now_ms) for item in items if item.feedback_id not in refused]
        bulk = Bulk()
        for document in documents:
            bulk.put(document.id, document, operation="index")
        outcomes = await send_all(self._client, bulk, alias=self.alias, make_index=self._make_index)
        ends = refused | {
            document.id: Written(document.id, OUTCOMES[outcome.verdict], outcome.code, outcome.reason)
            for document, outcome in zip(documents, outcomes, strict=True)
        }
        return [ends[item.feedback_id] for item in items]

    async def of(self, log: LogRecord) -> tuple[Feedback, ...]:
        """What was said about this log, the oldest first."""
        with translated():
            answer = await self._client.search(index=self.alias, body=_about(log))
        return _records(answer.body)

    async def of_each(self, logs: Sequence[LogRecord]) -> list[tuple[Feedback, ...]]:
        """What was said about each of these logs, the oldest first, many logs at a time."""
        found: list[tuple[Feedback, ...]] = []
        for start in range(0, len(logs), _LOGS_AT_ONCE):
            found += await self._of_some(logs[start : start + _LOGS_AT_ONCE])
        return found

    async def _of_some(self, logs: Sequence[LogRecord]) -> list[tuple[Feedback, ...]]:
        lines: Any = msgspec.json.Encoder().encode_lines(
            [part for log in logs for part in ({"index": self.alias}, _about(log))]
        )
        with translated():
            answer = await self._client.msearch(searches=lines)
        ends = answer["responses"]
        # One that failed alone is asked for alone, which says what is the matter.
        return [_records(end) if "hits" in end else await self.of(log) for log, end in zip(logs, ends, strict=True)]

    async def due(self, *, now_ms: int, limit: int) -> list[StoredFeedback]:
        """What is due by now, the longest due first; what an older version stored is."""
        by_now = {"range": {"due": {"lte": now_ms}}}
        of_old = {"bool": {"must_not": {"exists": {"field": "due"}}}}
        with translated():
            answer = await self._client.search(
                index=self.alias,
                query={"bool": {"should": [by_now, of_old]}},
                sort=[{"due": {"order": "asc", "missing": "_first"}}],
                size=limit,
                seq_no_primary_term=True,
                track_total_hits=False,
            )
        return [
            StoredFeedback(msgspec.convert(hit["_source"], feedback.FeedbackDocument), version_of(hit))
            for hit in answer["hits"]["hits"]
        ]

    async def put_off(self, changed: Sequence[StoredFeedback]) -> None:
        """Keep another time for each that still is as it was read."""
        bulk = Bulk()
        for one in changed:
            bulk.replace(one.document.id, one.document, one.version)
        await send_all(self._client, bulk, alias=self.alias, make_index=self._make_index)

    async def forget_beside(self, log_ids: Sequence[str], index: SearchIndex) -> None:
        """Forget what was said about these logs of an index, whether they are there or not; see `forget_calls`."""
        logs = (await index.stored(log_ids=log_ids, trace_ids=[])).logs
        found = {log_id: stored.tagged.log for log_id, stored in logs.items()}
        known = {log_id: Call(log_id, log.response_id, log.trace_id) for log_id, log in found.items()}
        await self.forget_calls([known.get(log_id, Call(log_id)) for log_id in log_ids], index)

    async def forget_calls(self, calls: Sequence[Call], index: SearchIndex) -> None:
        """Forget what was said about these calls; and of traces whose last ones they are, the note and what was said."""
        by_trace: dict[str, list[str]] = {}
        for call in calls:
            if call.trace_id:
                by_trace.setdefault(call.trace_id, []).append(call.log_id)
        ended = await _taken_out(by_trace, index)
        said = [name for call in calls for name in names(call.log_id, call.response_id, None)]
        said += [name for trace_id in ended for name in names(None, None, trace_id)]
        await self._forget_about(said)

    async def forget_said(self, about: Sequence[str], index: SearchIndex) -> None:
        """Forget what was said about these answers and traces, with the notes of the traces."""
        await _forget_words(traces_in(about), index)
        await self._forget_about(about)

    async def _forget_about(self, about: Sequence[str]) -> None:
        while feedback_ids := await until_answered(partial(self._ids_about, about), self._make_index):
            bulk = deletions(feedback_ids)
            await send_all(self._client, bulk, alias=self.alias, make_index=self._make_index, refresh=True)

    async def _ids_about(self, about: Sequence[str]) -> list[str]:
        with translated():
            await self._client.indices.refresh(index=self.alias)  # what is not searchable yet would stay
            answer = await self._client.search(
                index=self.alias, query={"terms": {"about": about}}, size=feedback.MOST_SHOWN, source=False
            )
        return [hit["_id"] for hit in answer["hits"]["hits"]]


async def _taken_out(calls: Mapping[str, Sequence[str]], index: SearchIndex) -> list[str]:
    """Forget that these calls were ones of their traces, by trace; those traces that are left without any."""
    ended: list[str] = []
    waiting = list(calls)
    while waiting:
        notes = (await index.stored(log_ids=[], trace_ids=waiting)).notes
        rests = [
            StoredNote(without_calls(found.note, calls[trace_id]), found.version) for trace_id, found in notes.items()
        ]
        done = await index.put_notes(rests)
        ended += [
            rest.note.trace_id for rest, is_put in zip(rests, done, strict=True) if is_put and not rest.note.log_ids
        ]
        waiting = [rest.note.trace_id for rest, is_put in zip(rests, done, strict=True) if not is_put]
    return ended


async def _forget_words(trace_ids: Sequence[str], index: SearchIndex) -> None:
    waiting = trace_ids
    while waiting:
        notes = (await index.stored(log_ids=[], trace_ids=waiting)).notes.values()
        changed = [
            StoredNote(rest, found.version) for found in notes if (rest := without_words(found.note)) != found.note
        ]
        done = await index.put_notes(changed) if changed else []
        waiting = [rest.note.trace_id for rest, is_put in zip(changed, done, strict=True) if not is_put]


def _about(log: LogRecord) -> dict[str, Any]:
    """The search for what was said about this log, the oldest first."""
    return {
        "query": {"terms": {"about": feedback.names_of(log)}},
        "sort": [{"ts": "asc"}, {"id": "asc"}],
        "size": feedback.MOST_SHOWN,
        "_source": {"includes": ["record"]},
    }


def _records(answer: Mapping[str, Any]) -> tuple[Feedback, ...]:
    return tuple(msgspec.convert(hit["_source"]["record"], Feedback) for hit in answer["hits"]["hits"])
