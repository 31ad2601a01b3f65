"""Messages on their way into the index: while some parts of them are written the next one is read; acknowledged in order.

Reading needs the processor, and happens one part at a time; writing waits for the index. What is in hand has a limit, and whoever
brings more waits. Only the finished messages before the first unfinished one of a partition are acknowledged, one commit at a time.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Message
from tunemill.streams.batch import Hop, account_for, read_batch
from tunemill.streams.errors import RegistryAway
from tunemill.streams.ledger import AckLedger, Partition
from tunemill.telemetry import metrics

HAND_BYTES = 32 * 2**20  # of messages; those of the parts begun are there decoded, too, and take several times as much
HAND_MESSAGES = 50_000  # an empty one takes memory, too
PART_BYTES = 4 * 2**20
PART_MESSAGES = 2000
PARTS_BEGUN = 4  # one is read while three are written
LINGER_S = 0.05  # how long a part that is not full waits for more
AGAIN_S = 1.0  # after an outage of the bus or the schema registry

Commit = Callable[[Mapping[Partition, int]], Awaitable[None]]

log = structlog.get_logger()


class Flow:
    """What one process has in hand. Offsets of a partition must be taken in order."""

    def __init__(self, hop: Hop, commit: Commit) -> None:
        """Begin with nothing in hand.

        Args:
            commit: remembers, per (topic, partition), the next offset to read.
        """
        self._hop = hop
        self._commit = commit
        self._ledger = AckLedger()
        self._waiting: deque[Message] = deque()  # taken, in no part yet
        self._waiting_bytes = 0
        self._waiting_since = 0.0  # when the first of them was taken, on the loop's clock
        self._in_hand_bytes = 0
        self._in_hand_messages = 0
        self._begun = 0  # parts
        self._changed = asyncio.Condition()
        self._reading = asyncio.Lock()
        self._committing = asyncio.Lock()
        self._has_finished = asyncio.Event()
        self._times_settled = 0
        self._is_closed = False
        self.moves = 0  # parts that were finished, and times that an engine said again that it is away

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in hand."""
        return not self._waiting and not self._begun

    async def take(self, messages: Sequence[Message]) -> None:
        """Take charge of these messages, as soon as less than the limit is in hand.

        If the flow settles meanwhile, they are not taken: they are to be read again from where was committed.
        """
        settled = self._times_settled
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room or self._times_settled != settled)
            if self._times_settled != settled or self._is_closed:
                return
            self._ledger.take(messages)
            if not self._waiting:
                self._waiting_since = asyncio.get_running_loop().time()
            self._waiting.extend(messages)
            size = _size(messages)
            self._waiting_bytes += size
            self._weigh(size, len(messages))
            self._changed.notify_all()

    async def run(self) -> None:
        """Work on what is taken until this is cancelled.

        Raises:
            Exception: whatever a part could not go on after. It is not acknowledged, and nothing behind it.
        """
        failed: Exception | None = None
        earlier = asyncio.Event()
        earlier.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._acknowledge())
                while True:
                    part, done = await self._next_part(), asyncio.Event()
                    group.create_task(self._work(part, after=earlier, done=done))
                    earlier = done
        except ExceptionGroup as errors:
            failed = errors.exceptions[0]
        if failed is not None:
            raise failed

    async def settle(self) -> None:
        """Begin nothing more of what is in hand; wait for what is begun, acknowledge it, and forget the rest.

        The rest is to be read again from where was committed; so is what was begun, if this is cancelled.
        """
        async with self._changed:
            self._times_settled += 1
            self._weigh(-self._waiting_bytes, -len(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: not self._begun)
                await self._commit_finished()
            finally:
                self._ledger.forget()

    async def close(self) -> None:
        """Settle, and take nothing more."""
        self._is_closed = True
        await self.settle()

    async def _next_part(self) -> Sequence[Message]:
        """The messages that waited longest: as many as a part takes, or those that came within the linger."""
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: self._waiting and self._begun < PARTS_BEGUN)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._waiting_since + LINGER_S):
                        await self._changed.wait_for(self._fills_a_part)
                if self._waiting:  # else it settled meanwhile
                    return self._cut()

    def _fills_a_part(self) -> bool:
        return self._waiting_bytes >= PART_BYTES or len(self._waiting) >= PART_MESSAGES

    def _cut(self) -> Sequence[Message]:
        part: list[Message] = []
        size = 0
        while self._waiting and len(part) < PART_MESSAGES:
            size += len(self._waiting[0].value)
            if part and size > PART_BYTES:
                break
            part.append(self._waiting.popleft())
        self._waiting_bytes -= _size(part)
        self._begin(1)
        return part

    async def _work(self, part: Sequence[Message], *, after: asyncio.Event, done: asyncio.Event) -> None:
        """One part, until all its logs are accounted for; an outage of the bus or the schema registry is waited for."""
        while True:
            try:
                async with self._reading:
                    batch = await read_batch(part, self._hop)
                await account_for(batch, self._hop, after=after)
                break
            except (BusUnavailable, RegistryAway) as error:
                self.moves += 1
                log.warning("part_waits", error=type(error).__name__, messages=len(part))
                await asyncio.sleep(AGAIN_S)
        done.set()
        async with self._changed:
            self.moves += 1
            self._ledger.finish(part)
            self._has_finished.set()
            self._weigh(-_size(part), -len(part))
            self._begin(-1)
            self._changed.notify_all()

    async def _acknowledge(self) -> None:
        while True:
            await self._has_finished.wait()
            self._has_finished.clear()
            await self._commit_finished()

    async def _commit_finished(self) -> None:
        async with self._committing:
            if released := self._ledger.release():
                await self._commit(released)

    @property
    def _has_room(self) -> bool:
        return self._in_hand_bytes < HAND_BYTES and self._in_hand_messages < HAND_MESSAGES

    def _weigh(self, more_bytes: int, more_messages: int) -> None:
        self._in_hand_bytes += more_bytes
        self._in_hand_messages += more_messages
        metrics.BYTES_IN_HAND.set(self._in_hand_bytes)

    def _begin(self, more_parts: int) -> None:
        self._begun += more_parts
        metrics.PARTS_BEGUN.set(self._begun)


@asynccontextmanager
async def flowing(hop: Hop, commit: Commit) -> AsyncIterator[Flow]:
    """A flow that works while the body runs, and is closed at its end.

    Raises:
        Exception: whatever a part could not go on after; it ends the body.
    """
    failed: Exception | None = None
    flow = Flow(hop, commit)
    try:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(flow.run())
            yield flow
            await flow.close()
            work.cancel()
    except ExceptionGroup as errors:
        failed = errors.exceptions[0]
    if failed is not None:
        raise failed


def _size(messages: Iterable[Message]) -> int:
    return sum([len(message.value) for message in messages])
