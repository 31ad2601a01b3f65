"""An index in memory that keeps the promises of `streams.ports.LogIndex`, and breaks down on request."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tunemill.schemas.outcome import Outcome, Written
from tunemill.schemas.records import TaggedLog


class Refused(Exception):
    """The engine does not let us in."""


class MemoryIndex:
    """Logs by id. A log that is there is left as it is."""

    def __init__(self) -> None:
        self.logs: dict[str, TaggedLog] = {}
        self.deleted: list[str] = []
        self.writes = 0
        self.rejects: set[str] = set()  # ids that it answers with a mapping error
        self.refuses = False  # whether it refuses every write
        self.delay_s = 0.0
        self.writing = asyncio.Event()  # set once a write has begun
        self.after_write: Callable[[], Awaitable[None]] | None = None  # runs when the logs are in, before write returns

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        self.writing.set()
        await asyncio.sleep(self.delay_s)
        if self.refuses:
            raise Refused("no entry")
        self.writes += 1
        written = [self._write_one(log) for log in logs]
        if self.after_write is not None:
            await self.after_write()
        return written

    async def delete(self, log_ids: Sequence[str]) -> None:
        self.deleted += log_ids
        for log_id in log_ids:
            self.logs.pop(log_id, None)

    def _write_one(self, log: TaggedLog) -> Written:
        log_id = log.log.log_id
        if log_id in self.rejects:
            return Written(log_id, Outcome.REJECTED, "mapping", "a field has another type than the index expects")
        if log_id in self.logs:
            return Written(log_id, Outcome.DUPLICATE)
        self.logs[log_id] = log
        return Written(log_id, Outcome.INDEXED)
