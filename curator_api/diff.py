"""What changed between two versions of a dataset, by where the rows came from and by what they say. Pure."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec


class Change(msgspec.Struct, frozen=True):
    """One difference. A changed row has the same source and says something else."""

    change: str  # added | removed | changed
    row_key: str
    before: str | None  # row_id
    after: str | None  # row_id


def diff(before: Mapping[str, str], after: Mapping[str, str]) -> Sequence[Change]:
    """The differences, ordered by row_key.

    Args:
        before: the row_id of each row_key of one version; a row that several sources say stands under each of them.
        after: the same of the other.
    """
    old, new = set(before.values()), set(after.values())
    changed = [
        _changed(key, before, after) for key in before if key in after and _differs(key, before, after, old, new)
    ]
    accounted = {change.before for change in changed} | {change.after for change in changed}
    added = _only(after, old | accounted)
    removed = _only(before, new | accounted)
    changes = [
        *changed,
        *(Change("added", key, None, row_id) for row_id, key in added.items()),
        *(Change("removed", key, row_id, None) for row_id, key in removed.items()),
    ]
    return sorted(changes, key=lambda change: (change.row_key, change.change))


def _differs(
    key: str, before: Mapping[str, str], after: Mapping[str, str], old: AbstractSet[str], new: AbstractSet[str]
) -> bool:
    """Whether this source's row went and another came in its place: not so where either is said by another source, too."""
    return before[key] not in new and after[key] not in old


def _changed(key: str, before: Mapping[str, str], after: Mapping[str, str]) -> Change:
    return Change("changed", key, before[key], after[key])


def _only(rows: Mapping[str, str], known: AbstractSet[str | None]) -> dict[str, str]:
    """The first row_key of each row_id that is not known."""
    found: dict[str, str] = {}
    for key in sorted(rows):
        if rows[key] not in known:
            found.setdefault(rows[key], key)
    return found
