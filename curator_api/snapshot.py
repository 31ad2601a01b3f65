"""The rows of a draft, frozen: duplicates collapsed, split without tearing a conversation apart, in one order. Pure."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from tunemill.curator_api.private import without_private_data
from tunemill.curator_api.rows import Reason, Row, RowMessage, from_log
from tunemill.privacy.pii import KINDS, PrivateData
from tunemill.schemas.records import TaggedLog

SPLITS = ("train", "test")


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What people did to a draft: rows they rewrote and rows they took out, by row_key; and what was erased everywhere."""

    edits: Mapping[str, tuple[RowMessage, ...]] = {}
    deleted: AbstractSet[str] = frozenset()
    erased: AbstractSet[str] = frozenset()


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


def freeze(
    logs: Iterable[TaggedLog],
    imported: Iterable[Row],
    changes: Changes,
    *,
    default_consent: str,
    private_data: PrivateData = "snapshot",
    seed: int,
    test_share: float,
) -> Snapshot:
    """The snapshot of these logs and imported rows. The same input gives the same snapshot, in whatever order it comes.

    Args:
        private_data: the project's policy; unless it is `never`, private data in the rows is replaced.
    """
    candidates = [_logged(log, changes, default_consent, private_data) for log in logs]
    candidates += [_imported(row, changes, private_data) for row in imported]
    kept = [row for row in candidates if isinstance(row, Row)]
    excluded = Counter(str(reason) for reason in candidates if isinstance(reason, Reason))
    same = _collapse(kept)
    duplicates = len(kept) - len(same)
    if duplicates:
        excluded[Reason.DUPLICATE_CONTENT] = duplicates
    rows = _split(same, seed=seed, test_share=test_share)
    return Snapshot(rows=rows, matched=len(candidates), excluded=dict(sorted(excluded.items())))


def _logged(log: TaggedLog, changes: Changes, default_consent: str, private_data: PrivateData) -> Row | Reason:
    key = log.log.log_id
    if reason := _taken_out(key, changes):
        return reason
    edit = changes.edits.get(key)
    row = from_log(log, default_consent=default_consent, private_data=private_data, edit=edit)
    if isinstance(row, Reason) or private_data == "never":
        return row
    looked_at = {name.removeprefix("pii:") for name in log.removed}  # a person says that it is none
    return without_private_data(row, frozenset(KINDS) - looked_at)


def _imported(row: Row, changes: Changes, private_data: PrivateData) -> Row | Reason:
    if reason := _taken_out(row.row_key, changes):
        return reason
    if edit := changes.edits.get(row.row_key):
        row = msgspec.structs.replace(row, messages=edit, edited=True)
    return row if private_data == "never" else without_private_data(row, frozenset(KINDS))


def _taken_out(row_key: str, changes: Changes) -> Reason | None:
    if row_key in changes.erased:
        return Reason.ERASED
    return Reason.DELETED_BY_PERSON if row_key in changes.deleted else None


def _collapse(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by row_id; those that say the same in the order of their keys, so that the first stands for all."""
    same: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.row_key):
        same.setdefault(row.row_id(), []).append(row)
    return dict(sorted(same.items()))


def _split(same: Mapping[str, Sequence[Row]], *, seed: int, test_share: float) -> tuple[Frozen, ...]:
    conversations = _conversations(same)
    return tuple(
        Frozen(
            row_id=row_id,
            split="test" if _draw(seed, conversations[row_id]) < test_share else "train",
            row=rows[0],
            row_keys=tuple(row.row_key for row in rows),
        )
        for row_id, rows in same.items()
    )


def _draw(seed: int, conversation: str) -> float:
    """A number in [0, 1) from the seed and the conversation alone: a conversation keeps its side in every version."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{conversation}".encode()).digest()[:8]) / 2**64


def _conversations(same: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """The conversation of each row_id. A row that was said in several conversations joins them into one."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    keys = {row_id: sorted({row.conversation for row in rows}) for row_id, rows in same.items()}
    for first, *others in keys.values():
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return {row_id: root(found[0]) for row_id, found in keys.items()}
