"""The rows of a draft, frozen: duplicates collapsed, split, in one order. Pure."""

import msgspec

from tunemill.curator_api.rows import Row

SPLITS = ("train", "test")


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a snapshot."""

    row_id: str
    split: str  # one of SPLITS
    row: Row
    row_keys: tuple[str, ...]  # every source that says the same, sorted: the row's own first of all


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A draft's content at one point in time, ordered by row_id."""

    rows: tuple[Frozen, ...]
    matched: int  # logs and imported rows that were looked at
    excluded: dict[str, int]  # by Reason
