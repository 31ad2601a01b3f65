"""Deleted logs taken out of the embedded index's files: a search made anew without their words, and a file without free space.

tantivy's words of a deleted log stay in its segment, and nothing merges segments on request. SQLite overwrites what it deletes,
but not the copies that pages keep of rows that were moved to other pages before.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from tunemill.indexer.bodies import Bodies
from tunemill.indexer.search import Change, Progress, Rebuilt
from tunemill.schemas.records import TaggedLog


class Rebuild(Protocol):
    """Making the search anew while it is used."""

    async def __call__(self, change: Change, *, progress: Progress) -> Rebuilt:
        """Make it anew."""


async def expunge(on_bodies: Callable[[Callable[[Bodies], Any]], Awaitable[Any]], rebuild: Rebuild) -> None:
    """Both, if anything was deleted since the last time.

    Args:
        on_bodies: does something with the writer's connection, between two writes.
    """
    deletions = await on_bodies(Bodies.deletions)
    if deletions:
        await rebuild(_as_they_are, progress=_untold)
        await on_bodies(lambda bodies: bodies.expunge(deletions))


async def _as_they_are(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
    return logs


async def _untold(_logs: int) -> None:
    return None
