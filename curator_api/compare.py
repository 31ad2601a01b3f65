"""Two versions held against each other: only the buckets that differ are read."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from tunemill.curator_api.diff import Change, Said, changed_fields, diff
from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.publish_files import Entry
from tunemill.curator_api.published import checked, entries_of, read_buckets, read_manifest, read_sources
from tunemill.curator_api.store import Files
from tunemill.curator_api.version_store import Version
from tunemill.schemas.origin import read_origins


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference with both rows."""

    change: Change
    before: StoredRow | None
    after: StoredRow | None
    fields: tuple[str, ...]  # in which a changed row differs


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two versions."""

    added: int
    removed: int
    changed: int
    differences: Sequence[Difference]  # the first of them


def compare(files: Files, place: str, before: Version, after: Version, *, limit: int) -> Compared:
    """The differences between two versions of a dataset, the first `limit` of them with their rows.

    Raises:
        DamagedFile: a file was changed.
        Unprocessable: a version is of a format that is not read any more.
    """
    old, new = _entries(files, place, before), _entries(files, place, after)
    same = {_content(entry) for entry in old} & {_content(entry) for entry in new}
    old_said = _said(files, place, (entry for entry in old if _content(entry) not in same))
    new_said = _said(files, place, (entry for entry in new if _content(entry) not in same))
    changes = diff(*({key: said for key, (said, _) in found.items()} for found in (old_said, new_said)))
    counts = Counter(change.change for change in changes)
    shown = changes[:limit]
    old_rows = _rows(files, place, [old_said[one.row_key] for one in shown if one.before])
    new_rows = _rows(files, place, [new_said[one.row_key] for one in shown if one.after])
    return Compared(
        added=counts["added"],
        removed=counts["removed"],
        changed=counts["changed"],
        differences=[_difference(one, old_rows, new_rows) for one in shown],
    )


def _entries(files: Files, place: str, version: Version) -> list[Entry]:
    return entries_of(read_manifest(files, place, version.digest), read_sources(files, place, version))


def _content(entry: Entry) -> tuple[str, str]:
    return entry.part.split, entry.part.sha256


def _said(files: Files, place: str, entries: Iterable[Entry]) -> dict[str, tuple[Said, Entry]]:
    """What each row_key of these buckets says, and in which of them it lies."""
    wanted = list(entries)
    contents = files.read_many([f"{place}/{entry.sources_path}" for entry in wanted])
    found: dict[str, tuple[Said, Entry]] = {}
    for entry, content in zip(wanted, contents, strict=True):
        beside = checked(content, entry.sources, f"{place}/{entry.sources_path}")
        for origin in read_origins(beside):
            said = Said(origin.row_id, entry.part.split)
            found.update((key, (said, entry)) for key in origin.row_keys)
    return found


def _rows(files: Files, place: str, wanted: Sequence[tuple[Said, Entry]]) -> dict[Said, StoredRow]:
    said = {one for one, _ in wanted}
    buckets = read_buckets(files, place, list({_content(entry): entry for _, entry in wanted}.values()))
    return {one: row for rows in buckets for row in rows if (one := Said(row.row_id, row.split)) in said}


def _difference(change: Change, old: dict[Said, StoredRow], new: dict[Said, StoredRow]) -> Difference:
    before = old[change.before] if change.before else None
    after = new[change.after] if change.after else None
    fields = changed_fields(before, after) if before and after else ()
    return Difference(change=change, before=before, after=after, fields=fields)
