"""The embedded search index: logs in SQLite, searched through tantivy, in one folder of one process."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar

import msgspec
import tantivy

from tunemill.indexer import feedback, local_expunge
from tunemill.indexer.bodies import CHUNK, Bodies
from tunemill.indexer.cursor import decode
from tunemill.indexer.document import Document, refusal, to_document
from tunemill.indexer.errors import CursorInvalid, IndexUnavailable, SearchIndexError, SearchTooSlow
from tunemill.indexer.feedback import StoredFeedback
from tunemill.indexer.local_points import Counts, Point, Points
from tunemill.indexer.local_query import to_tantivy
from tunemill.indexer.local_rebuild import MOST_LATE_PAGES, PAGE, LocalRebuild
from tunemill.indexer.local_search import counts, hits
from tunemill.indexer.local_similar import similar
from tunemill.indexer.projection import Projection
from tunemill.indexer.query import Query
from tunemill.indexer.search import (
    SEARCH_TIMEOUT_S,
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

READERS = 4  # threads: a slow search delays no other
NUMBERED = 50_000  # logs that match, whose numbers are asked for at once

T = TypeVar("T")
Matching = Callable[[int], list[int]]  # the next numbers of logs that match, above one; none: there are no more


class LocalIndex:
    """One project's logs in a folder. Writing has a thread, reading a few; the event loop never waits for the disk."""

    def __init__(self, folder: Path, *, project: str) -> None:
        self._folder = folder / f"logs-{project}"
        self._opening = asyncio.Lock()
        self._engine: _Engine | None = None
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="index-write")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="index-read")

    async def setup(self) -> None:
        """Make the folder and its files, and bring the search up to date after a crash."""
        await self._opened()

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        """Store each log unless it is there; all are on the disk and searchable when this returns."""
        return await self._write(lambda engine: engine.write(logs))

    async def delete(self, log_ids: Sequence[str]) -> None:
        """Make these logs unfindable at once, and overwrite them in the file."""
        await self._write(lambda engine: engine.delete(log_ids))

    async def forget_said(self, about: Sequence[str]) -> None:
        """Forget what was said about these answers and traces."""
        await self._write(lambda engine: engine.writer.forget_said(about))

    async def traces_of(self, person: str) -> Sequence[str]:
        """The traces whose notes name this user, session or metadata.subject."""
        return await self._read(lambda reader: reader.traces_of(person))

    async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
        """These logs, and the notes of these traces."""
        return await self._read(lambda reader: Stored(reader.stored(log_ids), reader.notes(trace_ids)))

    async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
        """Store another state of each log that still is as it was read; searchable when this returns."""
        return await self._write(lambda engine: engine.replace(changed))

    async def put_notes(self, changed: Sequence[StoredNote]) -> Sequence[bool]:
        """Store another state of each note that still is as it was read."""
        return await self._write(lambda engine: engine.writer.put_notes(changed))

    async def add_feedback(self, items: Sequence[Feedback]) -> Sequence[Written]:
        """Store each; of two with one feedback_id the later one holds."""
        ends = {item.feedback_id: feedback.refusal(item) for item in items}
        now_ms = time.time_ns() // 1_000_000
        documents = [feedback.to_document(item, stored_ms=now_ms) for item in items if ends[item.feedback_id] is None]
        await self._write(lambda engine: engine.writer.add_feedback(documents))
        return [ends[item.feedback_id] or Written(item.feedback_id, Outcome.INDEXED) for item in items]

    async def feedback_of(self, log: LogRecord) -> tuple[Feedback, ...]:
        """What was said about this log, the oldest first."""
        return await self._read(lambda reader: reader.feedback_of(log))

    async def feedback_of_each(self, logs: Sequence[LogRecord]) -> Sequence[tuple[Feedback, ...]]:
        """What was said about each of these logs, the oldest first."""
        return await self._read(lambda reader: [reader.feedback_of(log) for log in logs])

    async def due_feedback(self, *, now_ms: int, limit: int) -> Sequence[StoredFeedback]:
        """Feedback that is due by now, the longest due first."""
        return await self._read(lambda reader: reader.due_feedback(now_ms, limit))

    async def put_off(self, changed: Sequence[StoredFeedback]) -> None:
        """Keep another time for each feedback that still is as it was read."""
        await self._write(lambda engine: engine.writer.put_off(changed))

    async def get(self, log_id: str) -> TaggedLog | None:
        """The log with this id."""
        return await self._read(lambda reader: reader.get(log_id))

    async def search(self, request: SearchRequest) -> SearchPage:
        """One page of the logs that match."""
        place = decode(request)
        engine = await self._opened()
        point = engine.point(place.point if place else None, request)
        page = self._read(lambda reader: hits(point, reader, request, place))
        async with _time_limit():
            (shown, cursor), counted = await asyncio.gather(page, self._counted(engine, point, request))
        if cursor is not None or request.by_score:  # a search for some of the words may follow
            engine.points.keep(point)
        return SearchPage(counted.total, shown, counted.facets, counted.histogram, cursor, point.name)

    async def similar(self, text: str, *, limit: int) -> Sequence[Hit]:
        """The logs whose prompts and answers share most of the words that are telling in this text."""
        engine = await self._opened()
        point = engine.points.now
        async with _time_limit():
            return await self._read(lambda reader: similar(point, reader, text, limit))

    async def scan(self, query: Query, *, limit: int | None) -> AsyncIterator[TaggedLog]:
        """All logs that match at one point in time, ordered by (ts_ms, log_id)."""
        frozen, matching = await self._write(lambda engine: engine.freeze(query))
        using = Lock()
        try:
            seqs = await self._on(self._reading, partial(_alone, using, lambda: frozen.in_order(_all(matching))))
            for start in range(0, len(seqs) if limit is None else min(limit, len(seqs)), CHUNK):
                chunk = seqs[start : start + CHUNK][: None if limit is None else limit - start]
                bodies = await self._on(self._reading, partial(_alone, using, partial(frozen.bodies, chunk)))
                for seq in chunk:
                    yield bodies[seq]
        finally:
            await self._on(self._reading, partial(_alone, using, frozen.close))

    async def dump(self, query: Query) -> AsyncIterator[Sequence[Dumped]]:
        """All logs that match at one point in time, in no order."""
        frozen, matching = await self._write(lambda engine: engine.freeze(query))
        using = Lock()
        try:
            after = -1
            while seqs := await self._on(self._reading, partial(matching, after)):
                for start in range(0, len(seqs), CHUNK):
                    dumped = partial(frozen.dumped, seqs[start : start + CHUNK])
                    yield await self._on(self._reading, partial(_alone, using, dumped))
                after = seqs[-1]
        finally:
            await self._on(self._reading, partial(_alone, using, frozen.close))

    async def rebuild(self, change: Change, *, progress: Progress) -> Rebuilt:
        """Change the logs that are to be changed, and make the search anew from all."""
        done = Rebuilt()
        last = await self._write(_Engine.begin_rebuild)
        try:
            reached, late = 0, 0
            while page := await self._write(partial(_Engine.stored_after, seq=reached)):
                kept = await change([stored.tagged for stored in page.values()])
                changed, left_out = await self._write(partial(_Engine.rebuild_some, page=page, kept=kept))
                done = Rebuilt(done.logs + len(kept), done.changed + changed, done.left_out + left_out)
                reached = max(page)
                late += reached > last
                await progress(len(page))
                if len(page) < PAGE or late == MOST_LATE_PAGES:
                    break
            await self._write(_Engine.finish_rebuild)
        finally:
            await self._write(_Engine.end_rebuild)
        return done

    async def expunge(self) -> None:
        """Make the search and the file anew without what was deleted."""
        await local_expunge.expunge(lambda step: self._write(lambda engine: step(engine.writer)), self.rebuild)

    async def is_outdated(self) -> bool:
        """Never: a search of another layout is made anew when it is opened."""
        return False

    async def size(self) -> IndexSize:
        """How many logs there are, and what the file holds."""
        return await self._read(lambda reader: IndexSize(reader.count(), reader.used_bytes()))

    async def refresh(self) -> None:
        """Nothing to do: what is written is findable at once."""
        await self._opened()

    async def shelves(self) -> Sequence[Shelf]:
        """None: all logs lie in one file."""
        return ()

    async def roll_over(self) -> bool:
        """There is only one place."""
        return False

    async def drop_shelf(self, name: str, *, before: Forget) -> int:
        """There is none."""
        return 0

    async def ping(self) -> None:
        """Return if the files can be read."""
        await self._read(lambda reader: reader.count())

    async def close(self) -> None:
        """Close the files, after what is under way."""
        await asyncio.to_thread(self._reading.shutdown)  # after what is under way
        if self._engine is not None:
            await self._on(self._writing, self._engine.close)
            self._engine = None
        self._writing.shutdown()

    async def _opened(self) -> "_Engine":
        async with self._opening:
            if self._engine is None:
                self._engine = await self._on(self._writing, partial(_Engine, self._folder))
            return self._engine

    async def _write(self, step: "Callable[[_Engine], T]") -> T:
        engine = await self._opened()
        return await self._on(self._writing, partial(step, engine))

    async def _read(self, step: Callable[[Bodies], T]) -> T:
        engine = await self._opened()
        return await self._on(self._reading, partial(engine.read, step))

    async def _counted(self, engine: "_Engine", point: Point, request: SearchRequest) -> Counts:
        search = (request.query, request.counts)
        if (known := point.counted.get(search)) is not None:
            return known
        counted = await self._on(self._reading, partial(counts, point, request))
        point.remember(search, counted)
        return counted

    async def _on(self, threads: ThreadPoolExecutor, step: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, step)
        except (sqlite3.OperationalError, OSError) as error:
            raise IndexUnavailable(f"{self._folder} cannot be read or written ({type(error).__name__})") from error


class _Engine:
    """The open files. `writer` and `projection` belong to the writing thread; a reading one takes a connection of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "logs.db"
        self._readers: SimpleQueue[Bodies] = SimpleQueue()
        self.writer = Bodies(self._path)
        try:
            self.projection = Projection(folder / "search", self.writer)
            for _ in range(READERS):
                self._readers.put(Bodies(self._path))
        except BaseException:
            self.writer.close()
            raise
        self.points = Points(self.projection.searcher(), self.projection.schema)
        self._caught_up = True
        self._rebuild: LocalRebuild | None = None

    def write(self, logs: Sequence[TaggedLog]) -> list[Written]:
        """In this order: 1. the truth, with a mark that the search is behind; 2. the search.

        A crash between the two heals at the next start.
        """
        self._heal()
        ends, documents = _documents(logs)
        seqs = self.writer.insert(documents, self._caught_up)
        added = [(seq, document) for seq, (document, _) in zip(seqs, documents, strict=True) if seq is not None]
        self._project(lambda: self.projection.add(added) if added else None)
        there = [document.id for seq, (document, _) in zip(seqs, documents, strict=True) if seq is None]
        digests = self.writer.digests(there) if there else {}
        stored = iter(seqs)
        return [end or _written(log, next(stored), digests) for log, end in zip(logs, ends, strict=True)]

    def delete(self, log_ids: Sequence[str]) -> None:
        """Out of the truth, then out of the search."""
        self._heal()
        self._note(log_ids)
        self.writer.delete(log_ids, self._caught_up)
        self._project(lambda: self.projection.replace([(log_id, 0, None) for log_id in log_ids]))

    def replace(self, changed: Sequence[StoredLog]) -> list[Written | None]:
        """Into the truth, then into the search, each log that still is as it was read."""
        self._heal()
        documents = [to_document(stored.tagged) for stored in changed]
        self._note(document.id for document in documents)
        versions = [stored.version for stored in changed]
        seqs = self.writer.replace(list(zip(documents, versions, strict=True)), self._caught_up)
        new = [(doc.id, seq, doc) for seq, doc in zip(seqs, documents, strict=True) if seq is not None]
        self._project(lambda: self.projection.replace(new) if new else None)
        return [
            None if seq is None else Written(doc.id, Outcome.MERGED) for seq, doc in zip(seqs, documents, strict=True)
        ]

    def read(self, step: Callable[[Bodies], T]) -> T:
        """Do something with a connection that nobody else uses meanwhile."""
        reader = self._readers.get()
        try:
            return step(reader)
        finally:
            self._readers.put(reader)

    def point(self, name: str | None, request: SearchRequest) -> Point:
        """What a page of a search is of: the point that its cursor names, or now.

        Raises:
            CursorInvalid: the point is over, and there the order may have been another than it is now.
        """
        found = self.points.now if name is None else self.points.named(name)
        if found is None and request.by_time:
            return self.points.now
        if found is None:
            raise CursorInvalid("the point in time that this cursor is of is over: search again without it")
        return found

    def freeze(self, query: Query) -> tuple[Bodies, Matching]:
        """A view of this moment, between two writes, and what gives the numbers of the logs that match in it."""
        self._heal()
        schema = self.projection.schema
        matching = partial(_numbers, self.projection.searcher(), schema, to_tantivy(query, schema))
        frozen = Bodies(self._path)
        frozen.freeze()
        return frozen, matching

    def begin_rebuild(self) -> int:
        """Begin a search beside the one in use; the number of the last log that there is."""
        if self._rebuild is not None:
            raise SearchIndexError("the index is being rebuilt already")
        self._rebuild = LocalRebuild(self._path.with_name("search"), self.writer)
        return self.writer.last_seq()

    def stored_after(self, *, seq: int) -> dict[int, StoredLog]:
        """The next logs to be rebuilt, by their numbers."""
        return self.writer.stored_after(seq, PAGE)

    def rebuild_some(self, *, page: Mapping[int, StoredLog], kept: Sequence[TaggedLog]) -> tuple[int, int]:
        """Take these logs in as `kept` has them; how many of them differ from what they were, and how many are left out."""
        before = {stored.tagged.log.log_id: stored for stored in page.values()}
        after = {tagged.log.log_id: tagged for tagged in kept}
        changed = [
            StoredLog(tagged, before[log_id].version)
            for log_id, tagged in after.items()
            if tagged != before[log_id].tagged
        ]
        left_out = [log_id for log_id in before if log_id not in after]
        if changed:
            self.replace(changed)
        if left_out:
            self.delete(left_out)
        if self._rebuild is not None:
            ids = {seq: stored.tagged.log.log_id for seq, stored in page.items()}
            self._rebuild.add({seq: after[log_id] for seq, log_id in ids.items() if log_id in after}, upto=max(page))
        return len(changed), len(left_out)

    def finish_rebuild(self) -> None:
        """Put the new search in the place of the one in use."""
        self._heal()
        if self._rebuild is not None:
            self.projection = self._rebuild.take_place_of(self.projection)
            self.points.move_on(self.projection.searcher())

    def end_rebuild(self) -> None:
        """Forget what a rebuild left half made."""
        rebuild, self._rebuild = self._rebuild, None
        if rebuild is not None:
            rebuild.drop()

    def close(self) -> None:
        """Close everything; nothing is lost if this never runs."""
        if self._caught_up:
            with suppress(sqlite3.OperationalError):
                self.writer.all_caught_up()
        self.projection.close()
        while not self._readers.empty():
            self._readers.get().close()
        self.writer.close()

    def _project(self, step: Callable[[], Any]) -> None:
        """Change the search; if that fails, what it missed is made up for before anything else."""
        self._caught_up = False
        try:
            step()
        except ValueError as error:  # tantivy's, for a full disk or an unreadable file
            raise IndexUnavailable(f"the search in {self._path.parent} cannot be written") from error
        self.points.move_on(self.projection.searcher())
        self._caught_up = True

    def _note(self, log_ids: Iterable[str]) -> None:
        """A rebuild that is under way must look at these again."""
        if self._rebuild is not None:
            self._rebuild.note(log_ids)

    def _heal(self) -> None:
        if self._caught_up:
            return
        self.projection.roll_back()
        self._project(lambda: self.projection.catch_up(self.writer))


@asynccontextmanager
async def _time_limit() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SEARCH_TIMEOUT_S):
            yield
    except TimeoutError as error:
        raise SearchTooSlow(SEARCH_TIMEOUT_S) from error


def _documents(logs: Sequence[TaggedLog]) -> tuple[list[Written | None], list[tuple[Document, bytes]]]:
    """The end of each log that no engine could store, and the documents of all others, with the JSON of their records."""
    ends: list[Written | None] = [refusal(log) for log in logs]
    documents: list[tuple[Document, bytes]] = []
    for at, log in enumerate(logs):
        if ends[at] is None:
            try:
                documents.append((to_document(log), msgspec.json.encode(log)))
            except UnicodeEncodeError:
                ends[at] = Written(log.log.log_id, Outcome.REJECTED, "not_unicode", "half of a surrogate pair")
    return ends, documents


def _alone(using: Lock, step: Callable[[], T]) -> T:
    """Do it after what is under way, which goes on when whoever asked for it is cancelled."""
    with using:
        return step()


def _numbers(searcher: Any, schema: Any, query: Any, after: int) -> list[int]:
    """The lowest numbers above one of logs that match: all at once would take some 200 bytes a log."""
    higher = tantivy.Query.range_query(schema, "seq", tantivy.FieldType.Unsigned, after + 1, None)
    both = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, higher)])
    limit = max(1, min(NUMBERED, searcher.num_docs))
    found = searcher.search(both, limit=limit, count=False, order_by_field="seq", order=tantivy.Order.Asc)
    return [seq for seq, _ in found.hits]


def _all(matching: Matching) -> list[int]:
    """The numbers of all logs that match, the lowest first."""
    found: list[int] = []
    while some := matching(found[-1] if found else -1):
        found += some
    return found


def _written(log: TaggedLog, seq: int | None, digests: Mapping[str, str]) -> Written:
    """What became of a log: it has a number of its own, or what is there under its id is the same or is not."""
    log_id = log.log.log_id
    if seq is None and digests[log_id] != log.content_digest:
        return id_conflict(log_id)
    return Written(log_id, Outcome.DUPLICATE if seq is None else Outcome.INDEXED)
