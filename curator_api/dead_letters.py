"""The dead letters' topic, followed from its start by whoever is asked about it first, and read where a payload is wanted."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack

import structlog

from tunemill.bus.port import Bus, Message, Subscription
from tunemill.curator_api.open_letters import OpenLetters
from tunemill.schemas import wire
from tunemill.schemas.records import RejectedLog
from tunemill.schemas.topics import REJECTED

_POLL_MESSAGES = 200
_POLL_S = 1.0

_log = structlog.get_logger()


class DeadLetters:
    """A project's dead letters. The topic is read once, then what is new of it each time; all of it again to get at older ones."""

    def __init__(self, bus: Bus, project: str) -> None:
        self._bus = bus
        self._project = project
        self._open = OpenLetters()
        self._reading = asyncio.Lock()
        self._subscribed = AsyncExitStack()
        self._subscription: Subscription | None = None

    async def read(self) -> OpenLetters:
        """Those that are open now, including everything that was published before this call."""
        async with self._reading:
            try:
                await self._fold()
                if self._open.has_room():
                    await self._closed()
                    self._open = OpenLetters(again=self._open)
                    await self._fold()
            except BaseException:  # what was polled may not be folded in: the next reader begins again
                self._open = OpenLetters()
                await self._closed()
                raise
        return self._open

    async def payloads(self, places: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """The bytes that the letters at these places keep; of those that the topic has let go of there are none."""
        found = await self._bus.read(REJECTED, places)
        letters = await asyncio.to_thread(_decoded, list(found.values()))
        return {place: letter.payload for place, letter in letters}

    async def forget(self) -> None:
        """Forget what was read: letters were taken out of the topic, and the next reader begins again."""
        async with self._reading:
            self._open = OpenLetters()
            await self._closed()

    async def close(self) -> None:
        """Let go of the topic."""
        async with self._reading:
            await self._closed()

    async def _fold(self) -> None:
        subscription = await self._opened()
        while await subscription.lag() > 0:
            messages = await subscription.poll(max_messages=_POLL_MESSAGES, timeout_s=_POLL_S)
            for place, letter in await asyncio.to_thread(_decoded, messages):
                if letter.project == self._project:
                    self._open.take(letter, place)

    async def _opened(self) -> Subscription:
        if self._subscription is None:
            self._subscription = await self._subscribed.enter_async_context(self._bus.subscribe([REJECTED], group=None))
        return self._subscription

    async def _closed(self) -> None:
        self._subscription = None
        await self._subscribed.aclose()


def _decoded(messages: Sequence[Message]) -> list[tuple[tuple[int, int], RejectedLog]]:
    """The letters in these messages, by place. What is none is not ours, and is said."""
    found = []
    for message in messages:
        if message.is_scrubbed:
            continue
        try:
            found.append(((message.partition, message.offset), wire.decode(message.value, RejectedLog)))
        except wire.WireError as error:
            _log.warning("dead_letter_unreadable", partition=message.partition, offset=message.offset, code=error.code)
    return found
