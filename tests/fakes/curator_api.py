"""A running API over the embedded bus, a registry in a file and an index in memory, and logs to put in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fakes.search_memory import MemorySearch
from sqlalchemy import Engine
from starlette.types import ASGIApp

from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus
from tunemill.curator_api.app import create_app
from tunemill.curator_api.intake import Examine
from tunemill.curator_api.keys import accept_key, new_key
from tunemill.curator_api.redrive import RecordsIn
from tunemill.curator_api.settings import Settings
from tunemill.curator_api.tagging import Tagging
from tunemill.indexer.search import SearchIndex
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.ids import digest
from tunemill.schemas.packing import split
from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog
from tunemill.schemas.topics import TOPICS
from tunemill.streams.mask_message import mask_message
from tunemill.streams.tagging import StreamTagging
from tunemill.streams.told import told_in


def tagged(log_id: str, question: str = "What is 2+2?", answer: str | None = "4", **more: Any) -> TaggedLog:
    """A log that may be trained on, unless `more` says otherwise; `tags` are a rule's."""
    tags = more.pop("tags", ("topic:math",))
    tag_status = more.pop("tag_status", "ok")
    language = more.pop("language", "en")
    fields: dict[str, Any] = {
        "ts_ms": 1_700_000_000_000,
        "messages": (Message(role="user", content=question),),
        "output": () if answer is None else (Message(role="assistant", content=answer),),
        "consent": "train",
        **more,
    }
    record = LogRecord(log_id=log_id, **fields)
    return TaggedLog(
        log=record,
        content_digest=digest(record),
        tags=tuple(Tag(tag, "rule@1") for tag in tags),
        tag_status=tag_status,
        language=language,
    )


@dataclass(frozen=True)
class Running:
    """An API, a client with its key, and the engines behind it."""

    app: ASGIApp
    client: httpx.AsyncClient
    bus: Bus
    index: SearchIndex
    registry: Engine
    files: Path
    key: str


@asynccontextmanager
async def running_api(
    folder: Path,
    *logs: TaggedLog,
    settings: Settings | None = None,
    bus: Bus | None = None,
    index: SearchIndex | None = None,
    registry_url: str | None = None,
    files_url: str | None = None,
    client_host: str = "127.0.0.1",
    examine: Examine = lambda _item: None,
    records_in: RecordsIn = split,
    tagging: Tagging | None = None,
) -> AsyncIterator[Running]:
    """The API on engines in this folder, holding these logs; `examine` and `records_in` stand for the stream's own."""
    settings = settings or Settings()
    bus = bus or open_bus(f"sqlite:{folder / 'bus.db'}")
    index = index or MemorySearch()
    await bus.create_topics(TOPICS)
    await index.setup()
    await index.write(logs)
    registry = open_registry(registry_url or f"sqlite:///{folder / 'registry.db'}")
    migrate(registry)
    key = new_key()
    accept_key(registry, settings.project, key)
    app = create_app(
        bus=bus,
        index=index,
        registry=registry,
        files_url=files_url or str(folder / "files"),
        settings=settings,
        examine=examine,
        mask=mask_message,
        records_in=records_in,
        told_in=told_in,
        tagging=tagging or StreamTagging(),
    )
    transport = httpx.ASGITransport(app, client=(client_host, 1))
    headers = {"authorization": f"Bearer {key}"} if settings.require_key else {}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client,
    ):
        yield Running(app, client, bus, index, registry, folder / "files", key)
    registry.dispose()
    await index.close()
    await bus.close()
