"""What a policy keeps no longer: logs by their age, shelves whole, the oldest logs where all take too much. Pure.

A shelf holds the logs that came in some stretch of time, and goes whole once its newest log is too old. So its oldest ones stay
longer than the policy says, by as much as that stretch: an eighth of the age. What would stay longer than that came late, and goes
by itself.
"""

from collections.abc import Sequence
from math import ceil

from tunemill.curator_api.retention_store import Policy
from tunemill.indexer.ast import Between, Query
from tunemill.indexer.search import IndexSize, Shelf

DAY_MS = 86_400_000
SHELVES = 8  # that hold what is kept; more make searches dearer
LATE_MS = 2 * DAY_MS  # that runs of the retention may be behind
ON_THEIR_WAY_MS = 600_000  # so long logs may still come into a shelf after another was begun


def too_old(policy: Policy, now_ms: int) -> Query:
    """The logs that are older than the policy's age; without an age the query is about nothing that could be dropped."""
    return Between("ts", None, _cutoff_ms(policy, now_ms), high_included=False)


def left_over(shelves: Sequence[Shelf], policy: Policy, now_ms: int) -> Query:
    """Of the logs that are too old those that wait for no shelf."""
    waits_ms = width_ms(policy) + LATE_MS if shelves and width_ms(policy) else 0
    return too_old(policy, now_ms - waits_ms)


def excess(size: IndexSize, max_bytes: int | None) -> int:
    """How many logs an index has too many, if all are as large as they are on average."""
    if max_bytes is None or size.bytes <= max_bytes:
        return 0
    return ceil(size.logs * (size.bytes - max_bytes) / size.bytes)


def width_ms(policy: Policy) -> int:
    """How long new logs go into one shelf; 0: without end, because they are kept for so short a time that an eighth is no day."""
    days = policy.max_age_days
    return ceil(days / SHELVES) * DAY_MS if days is not None and days >= SHELVES else 0


def wants_another(shelves: Sequence[Shelf], policy: Policy, now_ms: int) -> bool:
    """Whether the shelf that is being filled is full. One that nobody writes to never is."""
    if not shelves or not shelves[-1].logs:
        return False
    filling = shelves[-1]
    is_old = 0 < width_ms(policy) <= now_ms - filling.begun_ms
    return is_old or (policy.max_bytes is not None and filling.bytes >= _share(policy.max_bytes))


def next_to_drop(shelves: Sequence[Shelf], policy: Policy, now_ms: int) -> Shelf | None:
    """A shelf that goes whole: its newest log is too old, or all take too much and it has the oldest ones.

    One that is far larger than what is too much stays, because it was filled before there was such a policy.
    """
    if not shelves or shelves[-1].begun_ms > now_ms - ON_THEIR_WAY_MS:
        return None
    filled = [shelf for shelf in shelves if shelf.is_filled]
    cutoff_ms = _cutoff_ms(policy, now_ms)
    for shelf in filled:
        if shelf.newest_ms is None or shelf.newest_ms < cutoff_ms:
            return shelf
    if not filled or policy.max_bytes is None:
        return None
    too_much = sum(shelf.bytes for shelf in shelves) - policy.max_bytes
    may_go = too_much > 0 and filled[0].bytes <= max(too_much, 2 * _share(policy.max_bytes))
    return filled[0] if may_go else None


def _cutoff_ms(policy: Policy, now_ms: int) -> int:
    days = policy.max_age_days
    return 0 if days is None else max(0, now_ms - days * DAY_MS)


def _share(max_bytes: int) -> int:
    return max_bytes // SHELVES
