"""Whether a published version is, byte for byte, what it was: every file is hashed anew, and every row's identity."""

from collections.abc import Iterator, Sequence

import msgspec

from tunemill.curator_api.errors import DamagedFile, Unprocessable
from tunemill.curator_api.parts import StoredRow, bits_for, bucket_of, columns_of, order, rows_from
from tunemill.curator_api.publish_files import Entry, sha256
from tunemill.curator_api.published import entries_of, read_manifest, read_sources
from tunemill.curator_api.store import Files
from tunemill.curator_api.version_keys import find, from_bytes
from tunemill.curator_api.version_store import Version
from tunemill.schemas.manifest import DatasetManifest, SourcesManifest

MOST_PROBLEMS = 100  # shown; one that is found is one too many


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and everything that is not as it was."""

    files: int
    bytes: int
    rows: int
    problems: tuple[str, ...]  # the first of them; names of files and counts, never text

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def verify(files: Files, place: str, version: Version) -> Verified:
    """Read all of a version, a bucket at a time.

    Args:
        place: the dataset's folder, relative to the files URL.
    """
    try:
        manifest, sources = read_manifest(files, place, version.digest), read_sources(files, place, version)
    except (DamagedFile, Unprocessable) as error:
        return Verified(files=0, bytes=0, rows=0, problems=(error.detail,))
    checking = _Checking(files, place, version)
    checking.manifests(manifest, sources)
    if not checking.problems:
        checking.keys(sources)
        for entry in entries_of(manifest, sources):
            checking.bucket(entry, manifest)
        checking.totals(manifest)
    return Verified(
        files=checking.files_read,
        bytes=checking.bytes_read,
        rows=checking.rows,
        problems=tuple(checking.problems[:MOST_PROBLEMS]),
    )


class _Checking:
    def __init__(self, files: Files, place: str, version: Version) -> None:
        self._files, self._place, self._version = files, place, version
        self._keys = from_bytes(b"")
        self._splits: dict[str, int] = {}
        self.problems: list[str] = []
        self.files_read, self.bytes_read, self.rows = 2, 0, 0  # two manifests were read to get here

    def manifests(self, manifest: DatasetManifest, sources: SourcesManifest) -> None:
        """Whether they belong together, and to the version."""
        if sources.digest != self._version.digest:
            self.problems.append("the sources manifest is of another version")
        if len(sources.sources) != len(manifest.parts):
            self.problems.append(f"{len(manifest.parts)} parts have {len(sources.sources)} files of sources")
        if (manifest.rows, manifest.splits) != (self._version.rows, self._version.splits):
            self.problems.append("the registry has other counts of rows than the manifest")
        if manifest.columns != columns_of(manifest.shape):
            self.problems.append(f"the columns are not those of the shape {manifest.shape}")

    def keys(self, sources: SourcesManifest) -> None:
        """Read in which bucket each key should lie."""
        content = self._read(f"{self._place}/{sources.keys_path}", sources.keys)
        if content is not None:
            self._keys = from_bytes(content)

    def bucket(self, entry: Entry, manifest: DatasetManifest) -> None:
        """Check a part and its sources."""
        name = entry.part.path
        part = self._read(f"{self._place}/{name}", entry.part.sha256)
        beside = self._read(f"{self._place}/{entry.sources_path}", entry.sources)
        if part is None or beside is None:
            return
        if len(part) != entry.part.bytes:
            self.problems.append(f"{name} has another size than the manifest says")
        try:
            rows = rows_from(part, beside, entry.part.split)
        except (ValueError, KeyError, TypeError, OSError) as error:
            self.problems.append(f"{name} cannot be read ({type(error).__name__})")
            return
        self._splits[entry.part.split] = self._splits.get(entry.part.split, 0) + len(rows)
        self.rows += len(rows)
        self.problems += [f"{name}: {problem}" for problem in self._of_rows(rows, entry, manifest)]

    def totals(self, manifest: DatasetManifest) -> None:
        """Whether all rows together are as many as were published."""
        found = {split: self._splits.get(split, 0) for split in manifest.splits}
        if not self.problems and (self.rows, found) != (manifest.rows, manifest.splits):
            self.problems.append("there are other counts of rows than the manifest has")
        for split, rows in manifest.splits.items():
            if manifest.bits.get(split) != bits_for(rows):
                self.problems.append(f"the {split} split is cut into another number of buckets than its rows ask for")

    def _read(self, path: str, named: str) -> bytes | None:
        try:
            content = self._files.read(path)
        except DamagedFile as error:
            self.problems.append(error.detail)
            return None
        self.files_read += 1
        self.bytes_read += len(content)
        if sha256(content) != named:
            self.problems.append(f"{path} was changed: restore it from a backup")
            return None
        return content

    def _of_rows(self, rows: Sequence[StoredRow], entry: Entry, manifest: DatasetManifest) -> Iterator[str]:
        where = (entry.part.split, entry.part.bucket)
        if len(rows) != entry.part.rows:
            yield f"{len(rows)} rows, and the manifest says {entry.part.rows}"
        if any(row.row_id != row.row.row_id() for row in rows):
            yield "a row does not say what its row_id promises"
        if [order(row) for row in rows] != sorted({order(row) for row in rows}):
            yield "the rows are not in their order"
        if any(bucket_of(row.place, manifest.bits[row.split]) != entry.part.bucket for row in rows):
            yield "a row lies in another bucket than its beginning says"
        texts = [text for row in rows for text in (*row.row_keys, *row.row.log_ids)]
        found = find(self._keys, texts)
        if any(where not in found.get(text, ()) for text in texts):
            yield "a key of its rows does not lead to it"
