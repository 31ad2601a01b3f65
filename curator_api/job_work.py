"""What a job works with, and how it goes through the logs of a query: a page at a time, from the place it reached before."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Engine

from tunemill.curator_api.job_store import Job
from tunemill.curator_api.tagging import Tagging
from tunemill.indexer.ast import And, Between, Query
from tunemill.indexer.dates import LATEST_MS
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.records import TaggedLog

PAGE = 500  # logs; a few MiB

_START = (-1, "")  # before the first log


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """What doing them takes."""

    index: SearchIndex
    registry: Engine
    tagging: Tagging
    project: str


Work = Callable[[Jobs, Job, asyncio.Event], Awaitable[None]]


class Kind(NamedTuple):
    """How one kind of job is done: until its end, or until told to stop. Both can begin again wherever they were left."""

    work: Work
    undo: Work | None  # None: it cannot be taken back
    undone: Callable[[Engine, Job], int] = lambda _registry, _job: 0  # how many of its changes are taken back by now


class NotTaken(Exception):
    """The index does not take a log back that it gave. The message is for a person."""


async def pages(
    on: Jobs, query: Query, job: Job, *, pass_by: Callable[[TaggedLog], None] | None = None
) -> AsyncIterator[list[TaggedLog]]:
    """The logs that match, the oldest first, from the place on that the job reached before.

    Args:
        pass_by: is told of all those before that place, which are read again for it.
    """
    reached = (int(job.place[0]), str(job.place[1])) if job.place else _START
    page: list[TaggedLog] = []
    async for tagged in on.index.scan(query if pass_by else _from(query, reached[0]), limit=None):
        if place_of(tagged) > reached:
            page.append(tagged)
        elif pass_by is not None:
            pass_by(tagged)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def query_of(job: Job) -> Query:
    """The logs that a job is about. Its text is longer than a person's may be where it names saved searches no more."""
    return parse(job.query, longest=len(job.query))


def place_of(tagged: TaggedLog) -> tuple[int, str]:
    """Where a log stands in the order of scans."""
    return min(max(tagged.log.ts_ms, 0), LATEST_MS), tagged.log.log_id


async def told_within(stop: asyncio.Event, seconds: float) -> bool:
    """Whether we are told to stop before so many seconds are over."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), max(0.0, seconds))
    return stop.is_set()


def _from(query: Query, ts_ms: int) -> Query:
    return query if ts_ms < 0 else And((query, Between("ts", ts_ms, None)))
