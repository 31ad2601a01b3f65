"""Which logs must be forgotten, and what was said beside them: the erasure ledger, read from its topic by every process for itself.

An engine forgets its deletions after a while (Elasticsearch after a minute), so it cannot keep a replay from bringing an
erased log back. This ledger can. Its event may come after whoever erased the log had deleted it, in vain, from an index that
did not hold it yet, or was away. So each reader deletes, too: every erasure that it reads, and, because a crash may have come
between, all of them at each start. Beside logs it names answers and traces of which no log is left: what is said about them, in
feedback or in a trace's note, does not come back either.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from tunemill.bus.port import Bus, Message, Outgoing, Subscription
from tunemill.schemas import wire
from tunemill.schemas.about import is_beside, names
from tunemill.schemas.records import Erasure, Feedback
from tunemill.schemas.topics import ERASURES, REJECTED
from tunemill.schemas.trace import TraceNote
from tunemill.streams.dead_letter import dead_letter
from tunemill.streams.ports import LogIndex
from tunemill.telemetry import metrics

_POLL_MESSAGES = 1000
_POLL_S = 1.0

log = structlog.get_logger()


class ErasedLogs:
    """The ids of all logs that were erased, and the names of answers and traces, up to where the topic was last read."""

    def __init__(self, bus: Bus, subscription: Subscription, index: LogIndex) -> None:
        self._bus = bus
        self._subscription = subscription
        self._index = index
        self._reading = asyncio.Lock()
        self._looks = 0  # how many looks have begun
        self._seen = 0  # the last look that came to its end
        self._names: set[str] = set()  # ids of logs, and answers and traces as `schemas.about` spells them
        self._in_hand: Sequence[Message] = ()  # polled, and not yet done with: the subscription has left them behind
        self.is_loaded = False  # whether the topic was read to its end at least once

    def __contains__(self, log_id: str) -> bool:
        return log_id in self._names

    def forgets(self, said: Feedback | TraceNote) -> bool:
        """Whether this is about an erased log, or an answer or a trace of which no log is left."""
        if isinstance(said, Feedback) and said.log_id:
            return said.log_id in self._names
        return not self._names.isdisjoint(beside(said))

    async def catch_up(self) -> None:
        """Read every erasure that was published before this call, and delete those logs from the index.

        Callers that wait at the same time share one look: the next that begins.
        """
        asked = self._looks
        async with self._reading:
            if self._seen > asked:
                return
            self._looks += 1
            look = self._looks
            await self._read_to_end()
            self._seen = look
            self.is_loaded = True

    async def _read_to_end(self) -> None:
        while self._in_hand or await self._subscription.lag() > 0:
            if not self._in_hand:
                self._in_hand = await self._subscription.poll(max_messages=_POLL_MESSAGES, timeout_s=_POLL_S)
            read, unreadable = _read(self._in_hand)
            self._names.update(read)  # before the deletion: what is written after it finds them here
            about = [name for name in read if is_beside(name)]
            if log_ids := [name for name in read if not is_beside(name)]:
                await self._index.delete(log_ids)
            if about:
                await self._index.forget_said(about)
            for message, error in unreadable:
                await self._report(message, error)
            self._in_hand = ()

    async def _report(self, message: Message, error: wire.WireError) -> None:
        """An erasure that nobody can read is a promise at risk: a person must see it."""
        log.error("erasure_unreadable", partition=message.partition, offset=message.offset, code=error.code)
        letter = dead_letter(
            message, 0, message.value, stage="decode", code=error.code, reason=str(error), now_ms=message.ts_ms
        )
        await self._bus.publish(REJECTED, [Outgoing(wire.encode(letter), key=letter.rejected_id)])
        metrics.REJECTED.labels("decode", error.code).inc()


def beside(said: Feedback | TraceNote) -> tuple[str, ...]:
    """The answer and the trace that this is about, as the ledger names them."""
    return names(None, said.response_id if isinstance(said, Feedback) else None, said.trace_id)


def _read(messages: Sequence[Message]) -> tuple[list[str], list[tuple[Message, wire.WireError]]]:
    """The names in the ledger, and what nobody can read; a tombstone of compaction is neither."""
    read: list[str] = []
    unreadable: list[tuple[Message, wire.WireError]] = []
    for message in messages:
        try:
            if message.value:
                read.append(wire.decode(message.value, Erasure).log_id)
        except wire.WireError as error:
            unreadable.append((message, error))
    return read, unreadable


@asynccontextmanager
async def follow_erasures(bus: Bus, index: LogIndex) -> AsyncIterator[ErasedLogs]:
    """The ledger, still empty: `catch_up` loads it."""
    async with bus.subscribe([ERASURES], group=None) as subscription:
        yield ErasedLogs(bus, subscription, index)
