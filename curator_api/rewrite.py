"""A version's rows with some of them changed or taken out: only the buckets that hold them are read and written."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from tunemill.curator_api.parts import StoredRow, bits_for, bucket_of, one_bucket, order
from tunemill.curator_api.publish_files import Entry, Writer, Written, write_rows, writing, written
from tunemill.curator_api.published import of_key, read_buckets
from tunemill.curator_api.rows import Row
from tunemill.curator_api.slices import OF_CONTENT
from tunemill.curator_api.store import Files
from tunemill.curator_api.version_keys import Keys, Where, find, from_bytes, joined, keys_of, without
from tunemill.schemas.manifest import SPLITS, DatasetManifest, SourcesManifest

Change = Callable[[Row], Row | None] | None  # None: the row leaves
See = Callable[[Sequence[StoredRow], Sequence[StoredRow]], None]  # rows that left, and rows that came


class Rewritten(msgspec.Struct, frozen=True, kw_only=True):
    """The version that was made of another."""

    rows: Written  # what `publish_files.name` makes a version of
    removed: int  # rows that there are fewer
    changed: int  # rows that came in the place of others


def rewrite(
    files: Files,
    place: str,
    manifest: DatasetManifest,
    sources: SourcesManifest,
    changes: Mapping[str, Change],
    *,
    see: See | None = None,
) -> Rewritten:
    """Change rows of a version. Its own files stay as they are.

    Args:
        changes: by row_key, or by log_id where what was made of a log leaves. A row that other row_keys say too stays with
            these. A row whose beginning changes moves to another bucket; its split stays, but where a row of another split says
            what it says by now: then they are one.
        see: is told of the rows of each bucket that left and came, for whoever counts them.

    Raises:
        DamagedFile: a file is not what it was.
    """
    made = _Rewriting(files, place, manifest, sources, see)
    touched: dict[Where, set[str]] = defaultdict(set)
    for key, wheres in find(made.keys, changes).items():
        for where in wheres:
            touched[where].add(key)
    with writing(files, place) as writer:
        moved = made.change(writer, touched, changes)
        made.note(writer.finish())  # what moved may go to a bucket that was just written
        made.take_in(writer, moved)
        made.note(writer.finish())
        moved = made.leave_twins(writer)
        made.note(writer.finish())
        made.take_in(writer, moved)
        made.note(writer.finish())
    rows = made.result(writer.written_bytes)
    if any(bits_for(rows.manifest.splits[split]) != bits for split, bits in manifest.bits.items()):
        rows = _cut_anew(files, place, rows)
    return Rewritten(rows=rows, removed=manifest.rows - rows.manifest.rows, changed=made.changed)


class _Rewriting:
    """The buckets as they stand while some are replaced."""

    def __init__(
        self, files: Files, place: str, manifest: DatasetManifest, sources: SourcesManifest, see: See | None
    ) -> None:
        self._files, self._place, self._manifest, self._see = files, place, manifest, see
        self.keys = from_bytes(files.read(f"{place}/{sources.keys_path}"))
        self._entries = {
            (part.split, part.bucket): Entry(part, beside)
            for part, beside in zip(manifest.parts, sources.sources, strict=True)
        }
        self._new_keys: dict[Where, Keys] = {}
        self._fresh: dict[
            tuple[str, str], StoredRow
        ] = {}  # by split and row_id: what was not said in its bucket before
        self.changed = 0

    def change(
        self, writer: Writer, touched: Mapping[Where, AbstractSet[str]], changes: Mapping[str, Change]
    ) -> dict[Where, list[StoredRow]]:
        """Change the rows of these keys; gives those that belong into another bucket now."""
        moved: dict[Where, list[StoredRow]] = defaultdict(list)
        for where, rows in self._read(sorted(touched)):
            stay: list[StoredRow] = []
            for row in (new for old in rows for new in changed(old, touched[where], changes)):
                home = self._home(row, row.split)
                (stay if home == where else moved[home]).append(row)
            self._replace(writer, where, rows, stay)
        return moved

    def take_in(self, writer: Writer, moved: Mapping[Where, Sequence[StoredRow]]) -> None:
        """Add rows to their buckets."""
        there = dict(self._read(sorted(where for where in moved if where in self._entries)))
        for where in sorted(moved):
            rows = there.get(where, [])
            self._replace(writer, where, rows, [*rows, *moved[where]])

    def leave_twins(self, writer: Writer) -> dict[Where, list[StoredRow]]:
        """Take out rows that came and say what a row of another split says; gives them as rows of that split."""
        others = defaultdict[Where, list[StoredRow]](list)
        for row in self._fresh.values():
            for split in self._manifest.bits.keys() - {row.split}:
                if (where := self._home(row, split)) in self._entries:
                    others[where].append(row)
        leave: dict[Where, dict[str, StoredRow]] = defaultdict(dict)
        for where, rows in self._read(sorted(others)):
            there = {row.row_id: row for row in rows}
            for row in others[where]:
                both_came = (where[0], row.row_id) in self._fresh
                if row.row_id in there and not (
                    both_came and row.split == SPLITS[0]
                ):  # of both the first split's stays
                    leave[self._home(row, row.split)][row.row_id] = there[row.row_id]
        moved: dict[Where, list[StoredRow]] = defaultdict(list)
        for where, rows in self._read(sorted(leave)):
            for row in rows:
                if twin := leave[where].get(row.row_id):
                    moved[self._home(row, twin.split)].append(_beside(row, twin))
            self._replace(writer, where, rows, [row for row in rows if row.row_id not in leave[where]])
        return moved

    def note(self, entries: Iterable[Entry]) -> None:
        """Take in buckets that are written now."""
        self._entries.update(((entry.part.split, entry.part.bucket), entry) for entry in entries)

    def result(self, written_bytes: int) -> Written:
        """What the buckets make up now."""
        others = without(self.keys, self._new_keys)
        return written(
            self._entries.values(),
            joined([others, *self._new_keys.values()]),
            bits=self._manifest.bits,
            shape=self._manifest.shape,
            balance=self._manifest.balance,
            written_bytes=written_bytes,
        )

    def _home(self, row: StoredRow, split: str) -> Where:
        """Where a row lies, or would lie, in a split."""
        return split, bucket_of(row.place, self._manifest.bits[split])

    def _read(self, wheres: Sequence[Where]) -> Iterator[tuple[Where, list[StoredRow]]]:
        entries = [self._entries[where] for where in wheres]
        return zip(wheres, read_buckets(self._files, self._place, entries), strict=True)

    def _replace(self, writer: Writer, where: Where, before: Sequence[StoredRow], rows: Sequence[StoredRow]) -> None:
        after = sorted(_merged(rows), key=order)
        if after == list(before):
            return
        left = [row for row in before if row not in after]
        came = [row for row in after if row not in before]
        known = {row.row_id for row in before}
        self._fresh.update(((row.split, row.row_id), row) for row in came if row.row_id not in known)
        self.changed += len(came)
        if self._see is not None:
            self._see(left, came)
        self._new_keys[where] = keys_of((after, where))
        if after:
            writer.add(one_bucket(after, *where, self._manifest.shape))
        else:
            del self._entries[where]


def changed(row: StoredRow, keys: AbstractSet[str], changes: Mapping[str, Change]) -> Iterator[StoredRow]:
    """What becomes of a row: itself where none of these keys is its own, and otherwise what its keys say from now on."""
    mine = [key for key in row.row_keys if key in keys]
    if any(log_id in keys and changes[log_id] is None for log_id in row.row.log_ids if log_id not in row.row_keys):
        return  # made of several logs, of which one leaves
    if not mine:
        yield row
        return
    if rest := tuple(key for key in row.row_keys if key not in keys):
        yield _said_by(row, rest, gone={key for key in mine if changes[key] is None})
    for key in mine:
        change = changes[key]
        new = change(of_key(row.row, key)) if change else None
        if new is not None:
            place = int.from_bytes(new.place()[:8])
            yield StoredRow(row=new, row_id=new.row_id(), row_keys=(key,), place=place, split=row.split)


def _said_by(row: StoredRow, keys: tuple[str, ...], gone: AbstractSet[str]) -> StoredRow:
    """The row as these of its keys say it; of logs that are gone nothing is kept."""
    logs = tuple(log_id for log_id in row.row.log_ids if log_id in keys or log_id not in row.row_keys)
    one = msgspec.structs.replace(
        row.row, row_key=keys[0], log_id=keys[0] if keys[0] in logs else next(iter(logs), None), log_ids=logs
    )
    if row.row_keys[0] in gone:
        slices = {name: value for name, value in one.slices.items() if name in OF_CONTENT}
        one = msgspec.structs.replace(one, ts_ms=None, app=None, model=None, finish_reason=None, tags=(), slices=slices)
    return msgspec.structs.replace(row, row=one, row_keys=keys)


def _beside(row: StoredRow, twin: StoredRow) -> StoredRow:
    """The row on the side of another that says the same, and of its conversation, which that side is drawn by."""
    conversations = {"conversation": twin.row.conversation, "joined": twin.row.joined}
    return msgspec.structs.replace(row, row=msgspec.structs.replace(row.row, **conversations), split=twin.split)


def _merged(rows: Iterable[StoredRow]) -> Iterator[StoredRow]:
    """Rows that say the same as one, which all their keys stand for."""
    same: dict[str, list[StoredRow]] = defaultdict(list)
    for row in rows:
        same[row.row_id].append(row)
    for found in same.values():
        first = min(found, key=lambda row: row.row_keys)
        if len(found) > 1:
            keys = tuple(sorted({key for row in found for key in row.row_keys}))
            logs = tuple(sorted({log_id for row in found for log_id in row.row.log_ids}))
            first = msgspec.structs.replace(first, row=msgspec.structs.replace(first.row, log_ids=logs), row_keys=keys)
        yield first


def _cut_anew(files: Files, place: str, rows: Written) -> Written:
    """All rows in as many buckets as there are to be for so many of them."""
    entries = [Entry(part, beside) for part, beside in zip(rows.manifest.parts, rows.sources, strict=True)]
    anew = write_rows(
        files,
        place,
        read_buckets(files, place, entries),
        splits=rows.manifest.splits,
        shape=rows.manifest.shape,
        balance=rows.manifest.balance,
    )
    return msgspec.structs.replace(anew, written_bytes=anew.written_bytes + rows.written_bytes)
