"""The HTTP API, wired: endpoints, pages, health, and beside them the relay and the jobs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from sqlalchemy import Engine, text

from tunemill.bus.port import Bus
from tunemill.curator_api import (
    aliases,
    backfills,
    datasets,
    draft_rows,
    erase,
    erasures,
    export,
    exports,
    feedback,
    imports,
    ingest,
    jobs,
    langfuse_api,
    learned_tags,
    licence_api,
    logs,
    media,
    media_bytes,
    models,
    otlp_api,
    preview,
    problems,
    rejected,
    retention,
    retention_job,
    rules,
    runs,
    saved,
    search,
    similar,
    training_api,
    versions,
    webhook_store,
    webhooks,
)
from tunemill.curator_api.access import admit
from tunemill.curator_api.curator import Curator, Mask
from tunemill.curator_api.dead_letters import DeadLetters
from tunemill.curator_api.edits import apply_until
from tunemill.curator_api.guard import Guard
from tunemill.curator_api.intake import Examine
from tunemill.curator_api.job_runner import work_until
from tunemill.curator_api.job_work import Jobs
from tunemill.curator_api.page_answers import Answers
from tunemill.curator_api.pages import pages_router
from tunemill.curator_api.redrive import RecordsIn
from tunemill.curator_api.relay import relay_until
from tunemill.curator_api.scrub import ToldIn
from tunemill.curator_api.settings import Settings
from tunemill.curator_api.store import Files
from tunemill.curator_api.tagging import Tagging
from tunemill.curator_api.training_due import fire_until
from tunemill.curator_api.webhook_delivery import deliver_until
from tunemill.indexer.feedback_join import join_until
from tunemill.indexer.search import SearchIndex
from tunemill.telemetry import health

LAST_STEP_S = 10.0  # for the relay and the jobs when the server stops; what they leave is done at the next start
_log = structlog.get_logger()
_LANGFUSE = (langfuse_api, media, media_bytes)
_TAGS = (rules, backfills, learned_tags)
_PARTS = (
    ingest,
    otlp_api,
    *_LANGFUSE,
    feedback,
    logs,
    search,
    similar,
    export,
    saved,
    rejected,
    jobs,
    retention,
    erasures,
    *_TAGS,
    preview,
    draft_rows,
    imports,
    versions,
    aliases,
    exports,
    datasets,
    licence_api,
    models,
    training_api,
    runs,
    webhooks,
)  # the first whose path fits answers
_DESCRIPTION = (
    "Search, tag and erase LLM logs; gather them into drafts; publish immutable dataset versions; follow training runs."
)


def create_app(
    *,
    bus: Bus,
    index: SearchIndex,
    registry: Engine,
    files_url: str,
    settings: Settings,
    examine: Examine,
    mask: Mask,
    records_in: RecordsIn,
    told_in: ToldIn,
    tagging: Tagging,
) -> FastAPI:
    """The application over engines that are open, set up and migrated; whoever opened them closes them after it stopped.

    Args:
        examine: the stream's own decoding of one item, so that a sender hears at once what will be rejected.
        mask: the stream's own masking of a message, for a bus may keep it for long.
        records_in: the stream's own taking apart of a message, so that one record of many can be sent again.
        told_in: likewise with which log each record is, or is about, so that one of many can be taken out.
        tagging: the stream's own rules, so that history is tagged as live records are.
    """
    app = FastAPI(
        title="tunemill",
        version=version("tunemill"),
        description=_DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere, which our policy forbids
        redoc_url=None,
        lifespan=_lifespan,
        responses=problems.responses(*problems.EVERYWHERE),
    )
    curator = Curator(
        bus=bus,
        index=index,
        registry=registry,
        files=Files(files_url),
        settings=settings,
        examine=examine,
        mask=mask,
        records_in=records_in,
        told_in=told_in,
        tagging=tagging,
        dead_letters=DeadLetters(bus, settings.project),
    )
    app.state.curator = curator
    app.add_middleware(Guard, settings=settings, admit=partial(admit, curator), body_work=curator.body_work)
    problems.install(app)
    for part in _PARTS:
        app.include_router(part.router)
    app.router.routes.extend(health.routes(_checks(curator), warnings=partial(_warnings, curator)))
    app.include_router(pages_router(Answers(curator)))
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    curator: Curator = app.state.curator
    stop = asyncio.Event()
    for what, says in (await _warnings(curator)).items():
        _log.warning("look_at", what=what, says=says)
    history = Jobs(
        index=curator.index, registry=curator.registry, tagging=curator.tagging, project=curator.settings.project
    )
    beside = {
        asyncio.create_task(relay_until(stop, curator.registry, curator.bus)),
        asyncio.create_task(fire_until(stop, curator.registry)),
        asyncio.create_task(join_until(stop, curator.index)),
        asyncio.create_task(apply_until(stop, curator)),
        asyncio.create_task(work_until(stop, history)),
        asyncio.create_task(retention_job.start_until(stop, curator)),
        asyncio.create_task(erase.work_until(stop, curator)),
        asyncio.create_task(deliver_until(stop, curator.registry, curator.settings.webhook_hosts)),
    }
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait(beside, timeout=LAST_STEP_S)  # not cut off: they may be writing to the registry
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        await curator.dead_letters.close()


def _checks(curator: Curator) -> Mapping[str, health.Check]:
    async def registry() -> None:
        await asyncio.to_thread(_select_one, curator.registry)

    return {"bus": curator.bus.ping, "index": curator.index.ping, "registry": registry}


async def _warnings(curator: Curator) -> dict[str, str]:
    """What should be looked at though everything answers; nothing where something does not by now."""
    found: dict[str, str] = {}
    with contextlib.suppress(Exception):
        if (why := await asyncio.to_thread(retention_job.failure, curator.registry, curator.project)) is not None:
            found["retention"] = f"failed: {why}"
        if lost := await asyncio.to_thread(webhook_store.given_up, curator.registry, curator.project):
            found["webhooks"] = f"{lost} events were never taken: see `tunemill webhooks list`"
        if await curator.index.is_outdated():
            found["index"] = "it was made by another version, and searches miss some logs: run `tunemill reindex`"
    return found


def _select_one(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
