"""An index in memory that keeps the promises of `streams.ports.LogIndex`, and breaks down on request."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tunemill.schemas.about import names, traces_in
from tunemill.schemas.outcome import Outcome, Written, id_conflict
from tunemill.schemas.records import Feedback, TaggedLog
from tunemill.schemas.stored import Stored, StoredLog, StoredNote
from tunemill.schemas.trace import TraceNote, without_words

T = TypeVar("T")


class Refused(Exception):
    """The engine does not let us in."""


class MemoryIndex:
    """Logs, notes and feedback by id. A log that is there is left as it is; versions are the states themselves."""

    def __init__(self) -> None:
        self.logs: dict[str, TaggedLog] = {}
        self.notes: dict[str, TraceNote] = {}
        self.feedback: dict[str, Feedback] = {}
        self.deleted: list[str] = []
        self.calls: list[str] = []  # the methods in the order of their calls
        self.rejects: set[str] = set()  # ids that it answers with a mapping error
        self.refuses = False  # whether it refuses every write
        self.delay_s = 0.0
        self.writing = asyncio.Event()  # set once a write has begun
        self.after_write: Callable[[], Awaitable[None]] | None = None  # runs when the logs are in, before write returns
        self.between: Callable[[str], Awaitable[None]] | None = None  # runs before each method, with its name
        self.behind: Callable[[str], Awaitable[None]] | None = None  # likewise, when the method's work is done

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        await self._called("write")
        self.writing.set()
        await asyncio.sleep(self.delay_s)
        if self.refuses:
            raise Refused("no entry")
        written = [self._write_one(log) for log in logs]
        if self.after_write is not None:
            await self.after_write()
        return await self._done("write", written)

    async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
        await self._called("stored")
        return Stored(
            {log_id: StoredLog(self.logs[log_id], self.logs[log_id]) for log_id in log_ids if log_id in self.logs},
            {name: StoredNote(self.notes[name], self.notes[name]) for name in trace_ids if name in self.notes},
        )

    async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
        await self._called("replace")
        return await self._done("replace", [self._replace_one(stored) for stored in changed])

    async def put_notes(self, changed: Sequence[StoredNote]) -> Sequence[bool]:
        await self._called("put_notes")
        return await self._done("put_notes", [self._put_one(stored) for stored in changed])

    async def add_feedback(self, items: Sequence[Feedback]) -> Sequence[Written]:
        await self._called("add_feedback")
        written = [
            Written(item.feedback_id, Outcome.REJECTED, "bad_id", "the index does not take the id")
            if item.feedback_id in self.rejects
            else Written(item.feedback_id, Outcome.INDEXED)
            for item in items
        ]
        self.feedback |= {item.feedback_id: item for item in items if item.feedback_id not in self.rejects}
        return written

    async def delete(self, log_ids: Sequence[str]) -> None:
        await self._called("delete")
        self.deleted += log_ids
        for log_id in log_ids:
            self.logs.pop(log_id, None)

    async def forget_said(self, about: Sequence[str]) -> None:
        await self._called("forget_said")
        gone = [trace_id for trace_id in traces_in(about) if trace_id in self.notes]
        self.notes |= {trace_id: without_words(self.notes[trace_id]) for trace_id in gone}
        said = {name: names(one.log_id, one.response_id, one.trace_id)[0] for name, one in self.feedback.items()}
        self.feedback = {name: one for name, one in self.feedback.items() if said[name] not in about}

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.between is not None:
            await self.between(name)

    async def _done(self, name: str, result: T) -> T:
        if self.behind is not None:
            await self.behind(name)
        return result

    def _write_one(self, log: TaggedLog) -> Written:
        log_id = log.log.log_id
        if log_id in self.rejects:
            return _rejected(log_id)
        if log_id in self.logs:
            is_same = self.logs[log_id].content_digest == log.content_digest
            return Written(log_id, Outcome.DUPLICATE) if is_same else id_conflict(log_id)
        self.logs[log_id] = log
        return Written(log_id, Outcome.INDEXED)

    def _replace_one(self, stored: StoredLog) -> Written | None:
        log_id = stored.tagged.log.log_id
        if self.logs.get(log_id) != stored.version:
            return None
        if log_id in self.rejects:
            return _rejected(log_id)
        self.logs[log_id] = stored.tagged
        return Written(log_id, Outcome.MERGED)

    def _put_one(self, stored: StoredNote) -> bool:
        trace_id = stored.note.trace_id
        if self.notes.get(trace_id) != stored.version:
            return False
        self.notes[trace_id] = stored.note
        return True


def _rejected(log_id: str) -> Written:
    return Written(log_id, Outcome.REJECTED, "mapping", "a field has another type than the index expects")
