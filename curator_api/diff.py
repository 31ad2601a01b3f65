"""What changed between two versions of a dataset, by where the rows came from and by what they say. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import zip_longest
from typing import Literal, NamedTuple

import msgspec

from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.rows import Messages


class Said(NamedTuple):
    """What a row says, and on which side."""

    row_id: str
    split: str


class Change(msgspec.Struct, frozen=True):
    """One difference. A changed row has the same source and says something else, or stands on the other side."""

    change: Literal["added", "removed", "changed"]
    row_key: str
    before: Said | None
    after: Said | None


def diff(before: Mapping[str, Said], after: Mapping[str, Said]) -> Sequence[Change]:
    """The differences, ordered by row_key.

    Args:
        before: what each row_key of one version says; a row that several sources say stands under each of them.
        after: the same of the other.
    """
    old, new = set(before.values()), set(after.values())
    changed = [
        Change("changed", key, before[key], after[key])
        for key in before
        if key in after and _differs(key, before, after, old, new)
    ]
    accounted = {change.before for change in changed} | {change.after for change in changed}
    added = _only(after, old | accounted)
    removed = _only(before, new | accounted)
    changes = [
        *changed,
        *(Change("added", key, None, said) for said, key in added.items()),
        *(Change("removed", key, said, None) for said, key in removed.items()),
    ]
    return sorted(changes, key=lambda change: (change.row_key, change.change))


def changed_fields(before: StoredRow, after: StoredRow) -> tuple[str, ...]:
    """The fields in which a row differs: `messages[2].content`, `messages[3]` where there is none on one side, `split`."""
    fields = [
        *_messages("messages", before.row.messages, after.row.messages),
        *_messages("rejected", before.row.rejected, after.row.rejected),
    ]
    if before.row.tools != after.row.tools:
        fields.append("tools")
    if before.split != after.split:
        fields.append("split")
    return tuple(fields)


def _messages(name: str, before: Messages, after: Messages) -> Iterator[str]:
    for number, (old, new) in enumerate(zip_longest(before, after)):
        if old is None or new is None:
            yield f"{name}[{number}]"
        else:
            for field in old.__struct_fields__:
                if getattr(old, field) != getattr(new, field):
                    yield f"{name}[{number}].{field}"


def _differs(
    key: str, before: Mapping[str, Said], after: Mapping[str, Said], old: AbstractSet[Said], new: AbstractSet[Said]
) -> bool:
    """Whether this source's row went and another came in its place: not so where either is said by another source, too."""
    return before[key] not in new and after[key] not in old


def _only(rows: Mapping[str, Said], known: AbstractSet[Said | None]) -> dict[Said, str]:
    """The first row_key of each row that is not known."""
    found: dict[Said, str] = {}
    for key in sorted(rows):
        if rows[key] not in known:
            found.setdefault(rows[key], key)
    return found
