"""What every endpoint works with: the opened engines and the settings, handed to the application when it is made."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from tunemill.bus.port import Bus, Outgoing
from tunemill.curator_api.body_work import BodyWork
from tunemill.curator_api.dead_letters import DeadLetters
from tunemill.curator_api.intake import Examine
from tunemill.curator_api.redrive import RecordsIn
from tunemill.curator_api.scrub import ToldIn
from tunemill.curator_api.settings import Settings
from tunemill.curator_api.store import Files
from tunemill.curator_api.tagging import Tagging
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.topics import Topic

Mask = Callable[[bytes], bytes]  # the stream's: a message of logs or feedback, without secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Curator:
    """The four engines, opened, and how to behave. Whoever opened them closes them."""

    bus: Bus
    index: SearchIndex
    registry: Engine
    files: Files
    settings: Settings
    examine: Examine
    tagging: Tagging
    mask: Mask
    records_in: RecordsIn
    told_in: ToldIn
    dead_letters: DeadLetters
    body_work: BodyWork = field(default_factory=BodyWork)
    redriving: asyncio.Lock = field(default_factory=asyncio.Lock)  # a second click finds them sent

    @property
    def project(self) -> str:
        """The one project that this process serves."""
        return self.settings.project

    async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
        """Hand on what somebody sent, without secrets; durable when this returns."""
        size = sum(len(message.value) for message in messages)
        masked = await self.body_work.run(size, lambda: [replace(one, value=self.mask(one.value)) for one in messages])
        await self.bus.publish(topic, masked)


def _curator(request: Request) -> Curator:
    curator: Curator = request.app.state.curator
    return curator


Here = Annotated[Curator, Depends(_curator)]
