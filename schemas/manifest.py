"""The dataset manifest: written by curator_api, verified by trainer. Its SHA-256 is the version's identity.

Only content is inside. Name, version number, date and provenance stand beside it, so that equal content has an equal digest.
"""

import hashlib
import re

import msgspec

from tunemill.schemas.ids import canonical_json

FORMAT = "tunemill-dataset/1"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One content-addressed Parquet file, named by the SHA-256 of its bytes."""

    path: str  # relative to the manifest: parts/<sha256>.parquet
    sha256: str
    bytes: int
    rows: int
    split: str  # train | test


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that makes up a dataset version, in one canonical document."""

    format: str
    columns: tuple[str, ...]
    rows: int
    splits: dict[str, int]  # rows per split
    parts: tuple[Part, ...]


def manifest_bytes(manifest: DatasetManifest) -> bytes:
    """The canonical bytes that are stored and hashed."""
    return canonical_json(manifest)


def manifest_digest(content: bytes) -> str:
    """The version's identity: SHA-256 of the stored manifest's bytes."""
    return hashlib.sha256(content).hexdigest()


def valid_name(name: str) -> bool:
    """Whether a dataset may be called so: lower case letters, digits, `-` and `_`, at most 63; never a path."""
    return NAME.fullmatch(name) is not None
