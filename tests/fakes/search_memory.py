"""The search index in memory: fits `indexer.search.SearchIndex`, reads the whole query language, and goes away on request."""

import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import msgspec

from tunemill.indexer.ast import And, Between, Everything, Is, Not, Or, Query, StartsWith, WordPrefix, Words
from tunemill.indexer.cursor import Place, decode, next_cursor
from tunemill.indexer.document import Document, to_document
from tunemill.indexer.errors import CursorInvalid, IndexUnavailable
from tunemill.indexer.feedback import FeedbackDocument, StoredFeedback, names_of, refusal
from tunemill.indexer.feedback import to_document as to_feedback_document
from tunemill.indexer.fields import PARTS
from tunemill.indexer.histogram import widest_ms, width_ms
from tunemill.indexer.search import (
    FACETS,
    SIMILAR_PARTS,
    SIMILAR_SHARE,
    Change,
    Dumped,
    FacetCount,
    Forget,
    Fragment,
    Histogram,
    Hit,
    IndexSize,
    Progress,
    Rebuilt,
    SearchPage,
    SearchRequest,
    Shelf,
)
from tunemill.schemas.about import names, traces_in
from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import Feedback, LogRecord, TaggedLog
from tunemill.schemas.stored import Stored, StoredLog, StoredNote
from tunemill.schemas.told import people_of
from tunemill.schemas.trace import TraceNote, without_calls, without_words

_WORD = re.compile(r"\w+")


class MemorySearch:
    """Logs by id; every write is findable at once."""

    def __init__(self, *logs: TaggedLog) -> None:
        self.logs = {log.log.log_id: log for log in logs}
        self.notes: dict[str, TraceNote] = {}
        self.feedback: dict[str, FeedbackDocument] = {}
        self.away = False
        self._points: list[list[TaggedLog]] = []  # the logs that there were when a search began
        self.outdated = False

    async def setup(self) -> None:
        self._answer()

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        self._answer()
        return [self._write_one(log) for log in logs]

    async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
        self._answer()
        return Stored(
            {log_id: StoredLog(self.logs[log_id], self.logs[log_id]) for log_id in log_ids if log_id in self.logs},
            {name: StoredNote(self.notes[name], self.notes[name]) for name in trace_ids if name in self.notes},
        )

    async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
        self._answer()
        written: list[Written | None] = []
        for stored in changed:
            log_id = stored.tagged.log.log_id
            is_same = self.logs.get(log_id) == stored.version
            written.append(Written(log_id, Outcome.MERGED) if is_same else None)
            self.logs |= {log_id: stored.tagged} if is_same else {}
        return written

    async def put_notes(self, changed: Sequence[StoredNote]) -> Sequence[bool]:
        self._answer()
        return [self._put_note(stored) for stored in changed]

    async def add_feedback(self, items: Sequence[Feedback]) -> Sequence[Written]:
        self._answer()
        ends = [refusal(item) or Written(item.feedback_id, Outcome.INDEXED) for item in items]
        now_ms = time.time_ns() // 1_000_000
        taken = [to_feedback_document(item, stored_ms=now_ms) for item in items if refusal(item) is None]
        self.feedback |= {document.id: document for document in taken}
        return ends

    async def feedback_of(self, log: LogRecord) -> tuple[Feedback, ...]:
        self._answer()
        found = [document.record for document in self.feedback.values() if document.about in names_of(log)]
        return tuple(sorted(found, key=lambda item: (item.ts_ms, item.feedback_id)))

    async def feedback_of_each(self, logs: Sequence[LogRecord]) -> Sequence[tuple[Feedback, ...]]:
        return [await self.feedback_of(log) for log in logs]

    async def due_feedback(self, *, now_ms: int, limit: int) -> Sequence[StoredFeedback]:
        self._answer()
        due = sorted((one for one in self.feedback.values() if one.due <= now_ms), key=lambda one: one.due)
        return [StoredFeedback(one, one) for one in due[:limit]]

    async def put_off(self, changed: Sequence[StoredFeedback]) -> None:
        self._answer()
        self.feedback |= {
            one.document.id: one.document for one in changed if self.feedback.get(one.document.id) is one.version
        }

    async def delete(self, log_ids: Sequence[str]) -> None:
        self._answer()
        for log_id in log_ids:
            gone = self.logs.pop(log_id, None)
            response_id, trace_id = (gone.log.response_id, gone.log.trace_id) if gone else (None, None)
            note = without_calls(self.notes[trace_id], [log_id]) if trace_id in self.notes else None
            self.notes |= {note.trace_id: note} if note else {}
            said = names(log_id, response_id, trace_id if note and not note.log_ids else None)
            self.feedback = {name: one for name, one in self.feedback.items() if one.about not in said}

    async def forget_said(self, about: Sequence[str]) -> None:
        self._answer()
        gone = [trace_id for trace_id in traces_in(about) if trace_id in self.notes]
        self.notes |= {trace_id: without_words(self.notes[trace_id]) for trace_id in gone}
        self.feedback = {name: one for name, one in self.feedback.items() if one.about not in about}

    async def traces_of(self, person: str) -> Sequence[str]:
        self._answer()
        return [note.trace_id for note in self.notes.values() if person in people_of(note)]

    async def get(self, log_id: str) -> TaggedLog | None:
        self._answer()
        return self.logs.get(log_id)

    async def search(self, request: SearchRequest) -> SearchPage:
        self._answer()
        place = decode(request)
        point = self._point(request, place)
        matching = [log for log in self._points[point] if _matches(request.query, to_document(log))]
        found, start = _ordered(matching, request), place.seen if place else 0
        end = start + request.limit
        return SearchPage(
            total=len(found),
            hits=tuple(_hit(log, request) for log in found[start:end] if log.log.log_id in self.logs),
            facets={name: _counts(name, found) for name in FACETS} if request.counts else {},
            histogram=self._histogram(request.query, found) if request.counts else None,
            cursor=next_cursor(request, place, request.limit, (None, 0, ""), str(point))
            if request.limit and end < len(found)
            else None,
            point=str(point),
        )

    async def similar(self, text: str, *, limit: int) -> Sequence[Hit]:
        self._answer()
        wanted = set(_words(text))
        shared = [(len(wanted & _said(log)) / max(1, len(wanted)), log) for log in self._found(Everything())]
        found = sorted(shared, key=lambda pair: pair[0], reverse=True)[:limit]
        return [Hit(log, share, ()) for share, log in found if share >= SIMILAR_SHARE / 100]

    async def scan(self, query: Query, *, limit: int | None) -> AsyncIterator[TaggedLog]:
        self._answer()
        for log in self._found(query)[:limit]:
            yield log

    async def dump(self, query: Query) -> AsyncIterator[Sequence[Dumped]]:
        self._answer()
        if found := self._found(query):
            yield [Dumped(log.log.log_id, msgspec.json.encode(log)) for log in found]

    async def refresh(self) -> None:
        self._answer()

    async def rebuild(self, change: Change, *, progress: Progress) -> Rebuilt:
        self._answer()
        before = self.logs
        self.logs = {log.log.log_id: log for log in await change(list(before.values()))}
        await progress(len(before))
        self.outdated = False
        changed = sum(log != before[log_id] for log_id, log in self.logs.items())
        return Rebuilt(len(self.logs), changed, len(before) - len(self.logs))

    async def expunge(self) -> None:
        self._answer()

    async def is_outdated(self) -> bool:
        self._answer()
        return self.outdated

    async def size(self) -> IndexSize:
        self._answer()
        return IndexSize(len(self.logs), sum(len(msgspec.json.encode(log)) for log in self.logs.values()))

    async def shelves(self) -> Sequence[Shelf]:
        self._answer()
        return ()

    async def roll_over(self) -> bool:
        self._answer()
        return False

    async def drop_shelf(self, name: str, *, before: Forget) -> int:
        self._answer()
        return 0

    async def ping(self) -> None:
        self._answer()

    async def close(self) -> None:
        return None

    def _answer(self) -> None:
        if self.away:
            raise IndexUnavailable("the index is away")

    def _write_one(self, log: TaggedLog) -> Written:
        known = log.log.log_id in self.logs
        self.logs.setdefault(log.log.log_id, log)
        return Written(log.log.log_id, Outcome.DUPLICATE if known else Outcome.INDEXED)

    def _put_note(self, stored: StoredNote) -> bool:
        is_same = self.notes.get(stored.note.trace_id) == stored.version
        self.notes |= {stored.note.trace_id: stored.note} if is_same else {}
        return is_same

    def _point(self, request: SearchRequest, place: Place | None) -> int:
        """Which moment a page is of."""
        if place and place.point.isdecimal() and int(place.point) < len(self._points):
            return int(place.point)
        if place and not request.by_time:
            raise CursorInvalid("the point in time is over")
        self._points.append(list(self.logs.values()))
        return len(self._points) - 1

    def _histogram(self, query: Query, found: Sequence[TaggedLog]) -> Histogram:
        every, times = [[log.log.ts_ms for log in logs] for logs in (self.logs.values(), found)]
        span = (min(every), max(every)) if every else None
        bucket_ms = width_ms((min(times), max(times))) if times else widest_ms(query, span)
        counts = Counter(at // bucket_ms * bucket_ms for at in times)
        return Histogram(bucket_ms, tuple(sorted(counts.items())))

    def _found(self, query: Query) -> list[TaggedLog]:
        ordered = sorted(self.logs.values(), key=lambda log: (log.log.ts_ms, log.log.log_id))
        return [log for log in ordered if _matches(query, to_document(log))]


def _ordered(found: Sequence[TaggedLog], request: SearchRequest) -> list[TaggedLog]:
    """By the sort; all that match by words are equally relevant."""
    newest = sorted(found, key=lambda log: (log.log.ts_ms, log.log.log_id), reverse=True)
    if request.by_score:
        return newest
    field, descending = request.order
    keys = {log.log.log_id: getattr(to_document(log), field) for log in newest}
    have = [log for log in newest if keys[log.log.log_id] is not None]
    have.sort(key=lambda log: keys[log.log.log_id] * (-1 if descending else 1))
    return have + [log for log in newest if keys[log.log.log_id] is None]


def _said(log: TaggedLog) -> set[str]:
    document = to_document(log)
    return {word for name in SIMILAR_PARTS for text in getattr(document, name) for word in _words(text)}


def _matches(query: Query, document: Document) -> bool:
    match query:
        case Everything():
            return True
        case Words(text, part):
            return any(_side_by_side(_words(text), _words(content)) for content in _texts(document, part))
        case WordPrefix(text, part):
            return any(word.startswith(text.lower()) for content in _texts(document, part) for word in _words(content))
        case Is(field, value):
            return value in _values(field, document)
        case StartsWith(field, prefix):
            return any(value.startswith(prefix) for value in _values(field, document))
        case Between():
            return _between(query, getattr(document, query.field))
        case Not(item):
            return not _matches(item, document)
        case And(items):
            return all(_matches(item, document) for item in items)
        case Or(items):
            return any(_matches(item, document) for item in items)
    raise AssertionError(query)


def _texts(document: Document, part: str | None) -> list[str]:
    return [text for name in ((part,) if part else PARTS) for text in getattr(document, name)]


def _between(query: Between, value: float | None) -> bool:
    if value is None:
        return False
    above = query.low is None or value > query.low or (query.low_included and value == query.low)
    below = query.high is None or value < query.high or (query.high_included and value == query.high)
    return above and below


def _values(field: str, document: Document) -> Sequence[str]:
    key = field.removeprefix("metadata.")
    found = getattr(document, field) if key == field else document.metadata.get(key)
    if isinstance(found, tuple):
        return found
    return () if found is None else (found,)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _side_by_side(wanted: list[str], words: list[str]) -> bool:
    return bool(wanted) and any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))


def _counts(name: str, logs: Sequence[TaggedLog]) -> tuple[FacetCount, ...]:
    counts = Counter(value for log in logs for value in _values(name, to_document(log)))
    return tuple(
        FacetCount(value, count) for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _hit(log: TaggedLog, request: SearchRequest) -> Hit:
    highlights: tuple[Fragment, ...] = ()
    if isinstance(request.query, Words):
        shown = _texts(to_document(log), request.query.part)
        texts = [text for text in shown if request.query.text.lower() in text.lower()]
        highlights = tuple(_fragment(text, request.query.text) for text in texts)
    return Hit(log, 1.0 if request.by_score else None, highlights)


def _fragment(text: str, word: str) -> Fragment:
    at = text.lower().index(word.lower())
    end = at + len(word)
    pieces = ((text[:at], False), (text[at:end], True), (text[end:], False))
    return tuple(piece for piece in pieces if piece[0])
