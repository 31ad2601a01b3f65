"""What every endpoint works with: the opened engines and the settings, handed to the application when it is made."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from tunemill.bus.port import Bus
from tunemill.curator_api.body_work import BodyWork
from tunemill.curator_api.dead_letters import DeadLetters
from tunemill.curator_api.intake import Examine
from tunemill.curator_api.redrive import RecordsIn
from tunemill.curator_api.scrub import ToldIn
from tunemill.curator_api.settings import Settings
from tunemill.curator_api.store import Files
from tunemill.curator_api.tagging import Tagging
from tunemill.indexer.search import SearchIndex


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
    records_in: RecordsIn
    told_in: ToldIn
    dead_letters: DeadLetters
    body_work: BodyWork = field(default_factory=BodyWork)
    redriving: asyncio.Lock = field(default_factory=asyncio.Lock)  # a second click finds them sent

    @property
    def project(self) -> str:
        """The one project that this process serves."""
        return self.settings.project


def _curator(request: Request) -> Curator:
    curator: Curator = request.app.state.curator
    return curator


Here = Annotated[Curator, Depends(_curator)]
