"""The rows of a published version, read back from its files and checked against its manifest."""

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow.parquet as pq

from tunemill.curator_api.errors import DamagedFile
from tunemill.curator_api.rows import RowMessage
from tunemill.curator_api.store import Files
from tunemill.schemas.manifest import OldManifest as DatasetManifest
from tunemill.schemas.manifest import OldPart as Part
from tunemill.schemas.manifest import manifest_digest


class StoredRow(msgspec.Struct, frozen=True):
    """A row as it lies in a part."""

    row_id: str
    messages: tuple[RowMessage, ...]
    tools: str | None


def read_rows(files: Files, place: str, digest: str, *, split: str | None) -> Iterator[StoredRow]:
    """The rows of a version in order, of one split or of all.

    Args:
        place: the dataset's folder, relative to the files URL.

    Raises:
        DamagedFile: the manifest or a part was changed.
    """
    for part in read_manifest(files, place, digest).parts:
        if split is None or part.split == split:
            yield from _part_rows(files, place, part)


def read_manifest(files: Files, place: str, digest: str) -> DatasetManifest:
    """The manifest of a version.

    Raises:
        DamagedFile: it was changed.
    """
    path = f"{place}/manifests/{digest}.json"
    content = files.read(path)
    if manifest_digest(content) != digest:
        raise DamagedFile(f"{path} was changed: restore it from a backup")
    return msgspec.json.decode(content, type=DatasetManifest)


def read_provenance(files: Files, place: str, path: str) -> dict[str, str]:
    """The row_id of each row_key in a version."""
    table = pq.read_table(io.BytesIO(files.read(f"{place}/{path}")), columns=["row_key", "row_id"])
    return {row["row_key"]: row["row_id"] for row in table.to_pylist()}


def _part_rows(files: Files, place: str, part: Part) -> Iterator[StoredRow]:
    content = files.read(f"{place}/{part.path}")
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise DamagedFile(f"{place}/{part.path} was changed: restore it from a backup")
    for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches(batch_size=1_000):
        for row in batch.to_pylist():
            yield StoredRow(row["row_id"], tuple(_message(message) for message in row["messages"]), row["tools"])


def _message(columns: dict[str, Any]) -> RowMessage:
    return msgspec.convert({**columns, "tool_calls": columns["tool_calls"] or ()}, RowMessage)
