"""The four engines, opened together and closed together; and made ready once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import Engine

from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus
from tunemill.cli.settings import Engines
from tunemill.indexer.open import open_index
from tunemill.indexer.search import SearchIndex
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.topics import TOPICS


@dataclass(frozen=True, slots=True)
class Opened:
    """The engines behind the four addresses."""

    bus: Bus
    index: SearchIndex
    registry: Engine
    files_url: str


@asynccontextmanager
async def open_engines(engines: Engines) -> AsyncIterator[Opened]:
    """Open all four; close them again at the end, whatever happened."""
    bus = open_bus(engines.bus_url)
    index = open_index(engines.index_url)
    registry = open_registry(engines.registry_url)
    try:
        yield Opened(bus, index, registry, engines.files_url)
    finally:
        registry.dispose()
        await index.close()
        await bus.close()


async def prepare(opened: Opened) -> None:
    """Make the topics, the index and the tables exist. Safe to repeat, and safe beside another process doing the same."""
    await opened.bus.create_topics(TOPICS)
    await opened.index.setup()
    migrate(opened.registry)
