"""The dataset manifest: written by curator_api, verified by trainer. Its SHA-256 is the version's identity.

Only content is inside. Name, version number, date and sources stand beside it, so that equal content has an equal digest.
"""

import hashlib
import re
from typing import Any

import msgspec

from tunemill.schemas.ids import canonical_json

FORMAT = "tunemill-dataset/2"
SOURCES_FORMAT = "tunemill-sources/2"
SOURCES_END = ".jsonl.zst"  # how the names of files that `schemas.origin` reads end
SPLITS = ("train", "test")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one bucket: a content-addressed Parquet file, named by the SHA-256 of its bytes."""

    sha256: str
    bytes: int
    rows: int
    split: str  # one of SPLITS
    bucket: int  # the first bits of its rows' places, as many as the manifest says for the split

    @property
    def path(self) -> str:
        """Relative to the dataset's folder."""
        return f"parts/{self.sha256}.parquet"


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that makes up a dataset version, in one canonical document."""

    format: str = FORMAT
    shape: str  # chat | preference
    columns: tuple[str, ...]
    rows: int
    splits: dict[str, int]  # rows by split
    bits: dict[str, int]  # by split: into how many buckets it is cut, as a power of two
    balance: dict[str, Any]  # caps and weights, as the recipe declares them
    parts: tuple[Part, ...]  # ordered by split, the training rows first, then by bucket


class SourcesManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows of a version came from: the file beside each part. It is not part of the version's identity."""

    format: str = SOURCES_FORMAT
    digest: str  # of the version
    keys: str  # SHA-256 of the file that says in which bucket the rows of a log lie
    sources: tuple[str, ...]  # SHA-256 of each part's sources file, in the order of the manifest's parts

    @property
    def keys_path(self) -> str:
        """Relative to the dataset's folder."""
        return f"sources/{self.keys}.keys"


def sources_file(digest: str) -> str:
    """Where the sources beside a part lie, relative to the dataset's folder."""
    return f"sources/{digest}{SOURCES_END}"


def manifest_bytes(manifest: DatasetManifest | SourcesManifest) -> bytes:
    """The canonical bytes that are stored and hashed."""
    return canonical_json(manifest)


def manifest_digest(content: bytes) -> str:
    """The version's identity: SHA-256 of the stored manifest's bytes."""
    return hashlib.sha256(content).hexdigest()


def valid_name(name: str) -> bool:
    """Whether a dataset may be called so: lower case letters, digits, `-` and `_`, at most 63; never a path."""
    return NAME.fullmatch(name) is not None
