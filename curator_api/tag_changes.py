"""What a backfill does to a log's tags, and how that is taken back. Pure."""

from collections.abc import Iterable

import msgspec

from tunemill.schemas.records import Tag, TaggedLog


class TagChange(msgspec.Struct, frozen=True):
    """Tags that came to a log and tags that it lost; one that somebody else sets now is in both."""

    added: tuple[Tag, ...] = ()
    taken: tuple[Tag, ...] = ()


def change(before: TaggedLog, after: TaggedLog) -> TagChange:
    """From one state of a log's tags to another."""
    return TagChange(_without(after.tags, before.tags), _without(before.tags, after.tags))


def then(first: TagChange, second: TagChange) -> TagChange:
    """Both, one after the other: what came and went again was never there."""
    added = (*_without(first.added, second.taken), *_without(second.added, first.taken))
    taken = (*_without(first.taken, second.added), *_without(second.taken, first.added))
    return TagChange(tuple(dict.fromkeys(added)), tuple(dict.fromkeys(taken)))


def undone(tagged: TaggedLog, done: TagChange) -> TaggedLog:
    """The log with what was done taken back, where nobody changed it since; `tagged` itself when nothing is left of it."""
    kept = _without(tagged.tags, done.added)
    held = {tag.tag for tag in kept}.union(tagged.removed)
    back = {tag.tag: tag for tag in reversed(done.taken) if tag.tag not in held}
    if not back and len(kept) == len(tagged.tags):
        return tagged
    return msgspec.structs.replace(tagged, tags=(*kept, *back.values()))


def _without(tags: Iterable[Tag], others: Iterable[Tag]) -> tuple[Tag, ...]:
    left_out = set(others)
    return tuple(tag for tag in tags if tag not in left_out)
