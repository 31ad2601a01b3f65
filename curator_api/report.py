"""What a person should know about a dataset version: rows in and out by reason, splits, languages, tags, lengths. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import quantiles

import msgspec

from tunemill.curator_api.parts import length
from tunemill.curator_api.snapshot import SPLITS, Snapshot
from tunemill.privacy.pii import PrivateData

MOST_TAGS = 100  # the most frequent ones; a report is for reading


class Lengths(msgspec.Struct, frozen=True):
    """A distribution, in the unit that the report names."""

    min: int
    median: int
    p90: int
    max: int
    total: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a snapshot, and what is not and why. `matched` = `rows` + the sum of `excluded`."""

    matched: int
    rows: int
    excluded: dict[str, int]
    splits: dict[str, int]
    languages: dict[str, int]
    tags: dict[str, int]
    imported: int
    edited: int
    characters_per_row: Lengths
    messages_per_row: Lengths
    warnings: tuple[str, ...]
    private_data: PrivateData | None = None  # the policy when it was published; None: there was none yet
    masked: dict[str, int] = {}  # rows in which private data was replaced, by its kind


def report(snapshot: Snapshot, private_data: PrivateData = "snapshot") -> Report:
    """The report on a snapshot of at least one row."""
    rows = [frozen.row for frozen in snapshot.rows]
    splits = count_splits(snapshot)
    return Report(
        matched=snapshot.matched,
        rows=len(rows),
        excluded=snapshot.excluded,
        splits=splits,
        languages=_most(row.language or "unknown" for row in rows),
        tags=_most(tag for row in rows for tag in row.tags),
        imported=sum(row.log_id is None for row in rows),
        edited=sum(row.edited for row in rows),
        characters_per_row=_lengths([length(row.messages) for row in rows]),
        messages_per_row=_lengths([len(row.messages) for row in rows]),
        warnings=tuple(f"the {split} split is empty" for split, count in splits.items() if not count),
        private_data=private_data,
        masked=_most(kind for row in rows for kind in row.masked),
    )


def count_splits(snapshot: Snapshot) -> dict[str, int]:
    """Rows per split, 0 for an empty one."""
    counts = Counter(row.split for row in snapshot.rows)
    return {split: counts[split] for split in SPLITS}


def _most(values: Iterable[str]) -> dict[str, int]:
    ranked = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:MOST_TAGS])


def _lengths(values: Sequence[int]) -> Lengths:
    deciles = quantiles(values, n=10, method="inclusive") if len(values) > 1 else [float(values[0])] * 9
    return Lengths(min=min(values), median=round(deciles[4]), p90=round(deciles[8]), max=max(values), total=sum(values))
