"""The four engines, opened together and closed together; and made ready once."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import typer
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tunemill.bus.errors import BusError
from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus
from tunemill.cli.output import complain
from tunemill.cli.settings import Engines
from tunemill.indexer.errors import SearchIndexError
from tunemill.indexer.open import open_index
from tunemill.indexer.search import SearchIndex
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.topics import TOPICS
from tunemill.streams.errors import RulesInvalid

T = TypeVar("T")


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


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a service; what it cannot start without ends it with one sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except* (BusError, SearchIndexError) as group:
        complain(f"{first_of(group)}. `tunemill doctor` looks at every engine.")
        raise typer.Exit(1) from group
    except* RulesInvalid as group:
        complain(
            f"the rules in force are not understood here: {first_of(group)}\n"
            "Start the version that put them in force, or `tunemill api` alone, and apply others."
        )
        raise typer.Exit(1) from group
    except* DBAPIError as group:
        # The driver's own text: SQLAlchemy's would add the statement and its values.
        complain(
            f"the registry: {str(first_of(group).__cause__).splitlines()[0]}. `tunemill doctor` looks at every engine."
        )
        raise typer.Exit(1) from group


def first_of(error: BaseException) -> BaseException:
    """The first error inside groups of them."""
    return first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
