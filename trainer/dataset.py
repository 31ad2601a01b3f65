"""A published dataset version, opened and verified: a file whose SHA-256 is not the published one is refused.

Rows come out as OpenAI chat rows, or as a prompt with a chosen and a rejected answer, with the fields that are null left out.
"""

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import fsspec
import msgspec
import pyarrow.parquet as pq

from tunemill.schemas.manifest import FORMAT, DatasetManifest, Part, manifest_digest
from tunemill.trainer.errors import DatasetNotFound, DigestMismatch, InvalidRun

AT_ONCE = 16  # files that are read at the same time: a version has thousands, and a bucket answers in its own time

Row = dict[str, Any]  # {"row_id", "messages", "tools"}, or {"row_id", "prompt", "chosen", "rejected", "tools"}
Shape = Literal["chat", "preference"]
SHAPES: dict[str, Shape] = {"sft": "chat", "dpo": "preference"}  # by a recipe's objective
_MESSAGES = {"chat": ("messages",), "preference": ("prompt", "chosen", "rejected")}


class _Format(msgspec.Struct):
    format: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a version, each split in the order of its row ids."""

    train: list[Row]
    test: list[Row]


def open_dataset(manifest_url: str, digest: str, *, shape: Shape = "chat") -> Dataset:
    """Read and verify a version of that shape.

    Raises:
        DatasetNotFound: the manifest or a part is not there.
        DigestMismatch: a file is not what was published.
        InvalidRun: the manifest is of a format that this trainer does not know, or of another shape.
    """
    content = _read(manifest_url)
    if manifest_digest(content) != digest:
        raise DigestMismatch(
            f"the manifest at {manifest_url} does not have the digest {digest}", "publish the version again"
        )
    manifest = _manifest(content, shape)
    folder = manifest_url.rsplit("/manifests/", 1)[0]
    rows: dict[str, list[Row]] = {"train": [], "test": []}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        contents = pool.map(_read, [f"{folder}/{part.path}" for part in manifest.parts])
        for part, content in zip(manifest.parts, contents, strict=True):
            rows.setdefault(part.split, []).extend(_part_rows(part, content, shape))
    for split in rows.values():
        split.sort(key=lambda row: str(row["row_id"]))  # the result depends on the content, not on how parts were cut
    return Dataset(train=rows["train"], test=rows["test"])


def _read(url: str) -> bytes:
    try:
        with fsspec.open(url, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError as error:
        raise DatasetNotFound(
            f"{url} is not there", "check that the trainer sees the same files URL as the API"
        ) from error


def _manifest(content: bytes, shape: Shape) -> DatasetManifest:
    try:
        written = msgspec.json.decode(content, type=_Format).format
        if written != FORMAT:
            raise InvalidRun(
                f"the manifest has the format {written!r}, known is {FORMAT!r}", "publish the version again"
            )
        manifest = msgspec.json.decode(content, type=DatasetManifest)
    except msgspec.DecodeError as error:
        raise InvalidRun("the manifest cannot be read", "publish the version again") from error
    if manifest.shape != shape:
        raise InvalidRun(
            f"the version has rows of the shape {manifest.shape!r}, and this recipe trains on {shape} rows",
            f"train on a version whose rows have the shape {shape}; objective sft takes chat rows, dpo preference rows",
        )
    return manifest


def _part_rows(part: Part, content: bytes, shape: Shape) -> list[Row]:
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise DigestMismatch(
            f"{part.path} is not the file that was published", "restore it, or publish the version again"
        )
    return [_row(row, shape) for row in pq.ParquetFile(io.BytesIO(content)).read(use_threads=False).to_pylist()]


def _row(stored: Row, shape: Shape) -> Row:
    said = {column: [chat_message(json.loads(message)) for message in stored[column]] for column in _MESSAGES[shape]}
    tools = json.loads(stored["tools"]) if stored.get("tools") else None
    return {"row_id": stored["row_id"], **said, "tools": tools}


def chat_message(stored: dict[str, Any]) -> dict[str, Any]:
    """An OpenAI message as chat templates expect it: text for null, and arguments as a value."""
    message = {"role": stored["role"], "content": stored.get("content") or ""}
    if stored.get("tool_calls"):
        message["tool_calls"] = [_tool_call(call) for call in stored["tool_calls"]]
    return message | {key: stored[key] for key in ("tool_call_id", "name") if stored.get(key)}


def _tool_call(stored: dict[str, Any]) -> dict[str, Any]:
    """In the shape that chat templates expect: arguments as a value, or as text where the model wrote broken JSON."""
    arguments = stored["function"]["arguments"]
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    call = {"type": "function", "function": {"name": stored["function"]["name"], "arguments": arguments}}
    return call | ({"id": stored["id"]} if stored.get("id") else {})
