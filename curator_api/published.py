"""A published version, read back from its files and checked against its manifest."""

from collections.abc import Iterable, Iterator

import msgspec

from tunemill.curator_api.errors import DamagedFile, Unprocessable
from tunemill.curator_api.parts import Content, StoredRow, contents_from, rows_from
from tunemill.curator_api.publish_files import Entry, sha256
from tunemill.curator_api.rows import Row
from tunemill.curator_api.store import Files
from tunemill.curator_api.version_store import Version
from tunemill.schemas.manifest import FORMAT, DatasetManifest, SourcesManifest, manifest_digest


class _Format(msgspec.Struct):
    format: str


def read_manifest(files: Files, place: str, digest: str) -> DatasetManifest:
    """The manifest of a version.

    Args:
        place: the dataset's folder, relative to the files URL.

    Raises:
        DamagedFile: it was changed.
        Unprocessable: it is of a format that is not read any more.
    """
    path = f"{place}/manifests/{digest}.json"
    content = files.read(path)
    if manifest_digest(content) != digest:
        raise DamagedFile(f"{path} was changed: restore it from a backup")
    written = msgspec.json.decode(content, type=_Format).format
    if written != FORMAT:
        raise Unprocessable(f"the version is of the format {written}, and {FORMAT} is read: publish again")
    return msgspec.json.decode(content, type=DatasetManifest)


def read_sources(files: Files, place: str, version: Version) -> SourcesManifest:
    """What names the sources of a version.

    Raises:
        DamagedFile: it was changed.
    """
    name = version.sources_url.rsplit("/", 1)[-1]
    path = f"{place}/sources/{name}"
    content = checked(files.read(path), name.removesuffix(".json"), path)
    return msgspec.json.decode(content, type=SourcesManifest)


def entries_of(manifest: DatasetManifest, sources: SourcesManifest) -> list[Entry]:
    """A version's buckets."""
    return [Entry(part, beside) for part, beside in zip(manifest.parts, sources.sources, strict=True)]


def read_rows(files: Files, place: str, digest: str, *, split: str | None) -> Iterator[Content]:
    """What the rows of a version say, in order, of one split or of all.

    Raises:
        DamagedFile: the manifest or a part was changed.
        Unprocessable: the version is of a format that is not read any more.
    """
    parts = [part for part in read_manifest(files, place, digest).parts if split is None or part.split == split]
    contents = files.read_many([f"{place}/{part.path}" for part in parts])
    for part, content in zip(parts, contents, strict=True):
        yield from contents_from(checked(content, part.sha256, f"{place}/{part.path}"))


def stored_rows(files: Files, place: str, version: Version, *, split: str | None = None) -> Iterator[StoredRow]:
    """The rows of a version with where each came from, in order, of one split or of all.

    Raises:
        DamagedFile: a file was changed.
        Unprocessable: the version is of a format that is not read any more.
    """
    manifest, sources = read_manifest(files, place, version.digest), read_sources(files, place, version)
    wanted = [entry for entry in entries_of(manifest, sources) if split is None or entry.part.split == split]
    for rows in read_buckets(files, place, wanted):
        yield from rows


def rows_of(files: Files, place: str, version: Version) -> Iterator[Row]:
    """The rows of a version, one for each of its row_keys: what two logs say comes twice, so that either may be taken out.

    Raises:
        DamagedFile: a file was changed.
        Unprocessable: the version is of a format that is not read any more.
    """
    for stored in stored_rows(files, place, version):
        for key in stored.row_keys:
            yield of_key(stored.row, key)


def of_key(row: Row, key: str) -> Row:
    """A row as one of its keys says it."""
    if key in row.log_ids:
        return msgspec.structs.replace(row, row_key=key, log_id=key, log_ids=(key,))
    return msgspec.structs.replace(row, row_key=key)


def read_buckets(files: Files, place: str, entries: Iterable[Entry]) -> Iterator[list[StoredRow]]:
    """The rows of each of these buckets, in their order.

    Raises:
        DamagedFile: a file is not what its name says.
    """
    wanted = list(entries)
    contents = files.read_many(
        [f"{place}/{path}" for entry in wanted for path in (entry.part.path, entry.sources_path)]
    )
    for entry in wanted:
        part = checked(next(contents), entry.part.sha256, f"{place}/{entry.part.path}")
        beside = checked(next(contents), entry.sources, f"{place}/{entry.sources_path}")
        yield rows_from(part, beside, entry.part.split)


def checked(content: bytes, named: str, path: str) -> bytes:
    """The content, if it is what its name says.

    Raises:
        DamagedFile: it is not.
    """
    if sha256(content) != named:
        raise DamagedFile(f"{path} was changed: restore it from a backup")
    return content
