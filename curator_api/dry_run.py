"""What rules would do to logs that are stored, without doing it."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from tunemill.curator_api.tagging import Tagger
from tunemill.indexer.query import Query
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.records import TaggedLog

EXAMPLES = 5  # log ids of each kind, the oldest logs'
_CHUNK = 200  # logs tagged in one go beside the event loop


class Effect(msgspec.Struct):
    """Some logs, and the first of them."""

    count: int = 0
    log_ids: list[str] = []

    def add(self, log_id: str) -> None:
        """One more."""
        self.count += 1
        if len(self.log_ids) < EXAMPLES:
            self.log_ids.append(log_id)


class TagEffect(msgspec.Struct):
    """What becomes of one tag."""

    tag: str
    added: Effect = msgspec.field(default_factory=Effect)
    removed: Effect = msgspec.field(default_factory=Effect)
    kept: Effect = msgspec.field(default_factory=Effect)


class DryRun(msgspec.Struct):
    """What becomes of the tags of the logs that were looked at."""

    looked_at: int = 0
    changed: int = 0
    by_tag: dict[str, TagEffect] = {}

    @property
    def tags(self) -> list[TagEffect]:
        """Those that change most come first."""
        return sorted(self.by_tag.values(), key=lambda effect: (-effect.added.count - effect.removed.count, effect.tag))


async def dry_run(index: SearchIndex, tagger: Tagger, query: Query, *, limit: int) -> DryRun:
    """What the rules would do to the logs that match, at most `limit` of them, the oldest first."""
    found = DryRun()
    chunk: list[TaggedLog] = []
    async for tagged in index.scan(query, limit=limit):
        chunk.append(tagged)
        if len(chunk) == _CHUNK:
            await asyncio.to_thread(_look, found, tagger, chunk)
            chunk = []
    await asyncio.to_thread(_look, found, tagger, chunk)
    return found


def _look(found: DryRun, tagger: Tagger, logs: Iterable[TaggedLog]) -> None:
    for before in logs:
        after = tagger.retag(before)
        found.looked_at += 1
        found.changed += set(before.tags) != set(after.tags)
        _count(found, before.log.log_id, _names(before), _names(after))


def _count(found: DryRun, log_id: str, before: Sequence[str], after: Sequence[str]) -> None:
    for name in {*before, *after}:
        effect = found.by_tag.setdefault(name, TagEffect(name))
        kind = effect.kept if name in before and name in after else effect.added if name in after else effect.removed
        kind.add(log_id)


def _names(tagged: TaggedLog) -> tuple[str, ...]:
    return tuple(sorted(entry.tag for entry in tagged.tags))
