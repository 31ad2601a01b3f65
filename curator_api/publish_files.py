"""A version's files, written in an order in which nobody sees half of it: buckets, what names them, the manifest last."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import msgspec

from tunemill.curator_api.errors import DamagedFile
from tunemill.curator_api.parts import Bucket, StoredRow, bits_for, buckets, columns_of, parquet_bytes, sources_bytes
from tunemill.curator_api.store import AlreadyDifferent, Files
from tunemill.curator_api.version_keys import Keys, joined, keys_of, to_bytes
from tunemill.schemas.manifest import (
    SPLITS,
    DatasetManifest,
    Part,
    SourcesManifest,
    manifest_bytes,
    manifest_digest,
    sources_file,
)

_BATCH_ROWS, _BATCH_BYTES = 2_000, 16 * 2**20  # made and written at once
_AT_ONCE = 2  # batches: one is compressed while the disk has another. With the one that is filled, three are in memory
_BUCKETS = 16  # whose keys are made at once

Card = Callable[[DatasetManifest, str], str]  # of a manifest and its digest


class Entry(msgspec.Struct, frozen=True):
    """A bucket whose files are written, or under way."""

    part: Part
    sources: str  # SHA-256 of the file beside it

    @property
    def sources_path(self) -> str:
        """Relative to the dataset's folder."""
        return sources_file(self.sources)


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """Buckets that are written, and which nothing names yet."""

    manifest: DatasetManifest
    sources: tuple[str, ...]  # as in a SourcesManifest: tuple[Entry, ...]
    keys: Keys
    written_bytes: int  # really: files that were there are not written again


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version's files are."""

    digest: str
    manifest_url: str
    sources_url: str
    written_bytes: int
    paths: frozenset[str]  # of all files but the card, relative to the files URL


def folder(project: str, name: str) -> str:
    """Where a dataset's files lie, relative to the files URL. Both names are checked before they come here."""
    return f"datasets/{project}/{name}"


class Writer:
    """Buckets on their way: some are made into files and written while the next are cut."""

    def __init__(self, files: Files, place: str, pool: ThreadPoolExecutor) -> None:
        self._files, self._place, self._pool = files, place, pool
        self._held: list[Bucket] = []
        self._held_rows = self._held_bytes = 0
        self._under_way: deque[Future[tuple[list[Entry], int]]] = deque()
        self._entries: list[Entry] = []
        self.written_bytes = 0

    def add(self, bucket: Bucket) -> None:
        """Write a bucket's two files, soon."""
        self._held.append(bucket)
        self._held_rows += bucket.rows.num_rows
        self._held_bytes += bucket.rows.nbytes
        if self._held_rows >= _BATCH_ROWS or self._held_bytes >= _BATCH_BYTES:
            self._send()

    def finish(self) -> list[Entry]:
        """Come back when all buckets are written, with those that were added since the last time."""
        self._send()
        while self._under_way:
            self._wait()
        entries, self._entries = self._entries, []
        return entries

    def _send(self) -> None:
        if len(self._under_way) == _AT_ONCE:
            self._wait()
        self._under_way.append(self._pool.submit(_put_buckets, self._files, self._place, self._held))
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def _wait(self) -> None:
        entries, written_bytes = self._under_way.popleft().result()
        self._entries += entries
        self.written_bytes += written_bytes


@contextmanager
def writing(files: Files, place: str) -> Iterator[Writer]:
    """A writer of a dataset's buckets."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield Writer(files, place, pool)


def _put_buckets(files: Files, place: str, some: Sequence[Bucket]) -> tuple[list[Entry], int]:
    """Write these buckets' files; the bytes that were really written."""
    parts: dict[str, bytes] = {}
    origins: dict[str, bytes] = {}
    entries = []
    for bucket in some:
        content, sources = parquet_bytes(bucket.rows), sources_bytes(bucket.stored)
        part = Part(
            sha256=sha256(content),
            bytes=len(content),
            rows=bucket.rows.num_rows,
            split=bucket.split,
            bucket=bucket.number,
        )
        entry = Entry(part, sha256(sources))
        parts[f"{place}/{part.path}"] = content
        origins[f"{place}/{entry.sources_path}"] = sources
        entries.append(entry)
    # Sources first: of each part that is there it can be told whose rows it holds, also if the writer is killed.
    return entries, put_many(files, origins) + put_many(files, parts)


def put_many(files: Files, contents: Mapping[str, bytes]) -> int:
    """Write files that are named by their digests; the bytes that were really written.

    Raises:
        DamagedFile: one of these names says something else.
    """
    try:
        return files.put_many(contents) if contents else 0
    except AlreadyDifferent as error:
        raise DamagedFile(f"{error} was changed: remove it and publish again") from error


def write_rows(
    files: Files,
    place: str,
    chunks: Iterable[Sequence[StoredRow]],
    *,
    splits: Mapping[str, int],
    shape: str,
    balance: Mapping[str, Any],
) -> Written:
    """Write all rows of a version.

    Args:
        chunks: the rows in their order, some at a time.
        splits: how many rows of each split there are.
        balance: caps and weights, as they were declared.
    """
    bits = {split: bits_for(splits[split]) for split in SPLITS}
    keys: list[Keys] = []
    with writing(files, place) as writer:
        found = buckets(chunks, bits, shape)
        while some := list(islice(found, _BUCKETS)):
            for bucket in some:
                writer.add(bucket)
            keys.append(keys_of(*((bucket.stored, (bucket.split, bucket.number)) for bucket in some)))
        entries = writer.finish()
    return written(entries, joined(keys), bits=bits, shape=shape, balance=balance, written_bytes=writer.written_bytes)


def written(
    entries: Iterable[Entry],
    keys: Keys,
    *,
    bits: Mapping[str, int],
    shape: str,
    balance: Mapping[str, Any],
    written_bytes: int,
) -> Written:
    """What these buckets make up."""
    ordered = sorted(entries, key=lambda entry: (SPLITS.index(entry.part.split), entry.part.bucket))
    splits = {split: sum(entry.part.rows for entry in ordered if entry.part.split == split) for split in SPLITS}
    manifest = DatasetManifest(
        shape=shape,
        columns=columns_of(shape),
        rows=sum(splits.values()),
        splits=splits,
        bits=dict(bits),
        balance=dict(balance),
        parts=tuple(entry.part for entry in ordered),
    )
    sources = tuple(entry.sources for entry in ordered)
    return Written(manifest=manifest, sources=sources, keys=keys, written_bytes=written_bytes)


def name(files: Files, place: str, rows: Written, card: Card | None = None) -> Named:
    """Write what names the buckets: 1. keys, sources manifest and card; 2. the manifest."""
    manifest = manifest_bytes(rows.manifest)
    digest = manifest_digest(manifest)
    keys = to_bytes(rows.keys)
    sources = SourcesManifest(digest=digest, keys=sha256(keys), sources=rows.sources)
    named = manifest_bytes(sources)
    sources_path = f"{place}/sources/{sha256(named)}.json"
    beside = {f"{place}/{sources.keys_path}": keys, sources_path: named}
    written_bytes = rows.written_bytes + put_many(files, beside)
    if card is not None:
        with suppress(AlreadyDifferent):  # a card of this digest is there, which says as much
            path = f"{place}/{card_path(digest)}"
            written_bytes += files.put_many({path: card(rows.manifest, digest).encode()})
    path = f"{place}/manifests/{digest}.json"
    try:
        manifest_url = files.put(path, manifest)
    except AlreadyDifferent as error:
        raise DamagedFile(f"{path} was changed: remove it and publish again") from error
    return Named(
        digest=digest,
        manifest_url=manifest_url,
        sources_url=files.url(sources_path),
        written_bytes=written_bytes + len(manifest),
        paths=frozenset((path, *beside, *_paths(place, rows))),
    )


def is_whole(files: Files, place: str, named: Named) -> bool:
    """Whether all files of a version are there: an erasure may have taken one that others had written before, and left it unnamed."""
    return named.paths.issubset(files.list(place))


def _paths(place: str, rows: Written) -> Iterator[str]:
    for part, sources in zip(rows.manifest.parts, rows.sources, strict=True):
        yield f"{place}/{part.path}"
        yield f"{place}/{sources_file(sources)}"


def card_path(digest: str) -> str:
    """Where a version's card lies, relative to the dataset's folder."""
    return f"versions/{digest}/README.md"


def sha256(content: bytes) -> str:
    """The name of a file."""
    return hashlib.sha256(content).hexdigest()
