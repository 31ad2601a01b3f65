"""A version's rows -> a folder that `datasets.load_dataset` opens: Parquet files by split, a card, and last a manifest.

The folder has its name when all of it is there. Interrupted, the same command goes on after the last whole file.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from tunemill.curator_api.card import card
from tunemill.curator_api.hub_folder import shard_name
from tunemill.curator_api.parquet_rows import table_of
from tunemill.curator_api.recipe import Recipe
from tunemill.schemas.ids import canonical_json

SHARD_BYTES = 256 * 2**20  # about: a file ends after the rows that reach it
_ROWS_AT_ONCE = 1_000
_TEXT_AT_ONCE = 16 * 2**20
_MANIFEST = "manifest.json"
_SHARD = re.compile(r"(train|test)-(\d{5})(-of-\d{5})?\.parquet")

Content = Callable[[str, int], Iterator[bytes]]  # the lines of a split in OpenAI's format, after so many


class InTheWay(Exception):
    """Something else has the folder's name."""


def write_folder(out: Path, version: Mapping[str, Any], content: Content) -> dict[str, Any]:
    """Write the folder and give its manifest.

    Args:
        version: as the API tells it.

    Raises:
        InTheWay: there is something of that name, and it is not this export.
        OSError: it cannot be written.
    """
    if out.exists() and any(out.iterdir()):
        if (there := _manifest_in(out)) and there["digest"] == version["digest"]:
            return there
        raise InTheWay(f"{out} is there and holds something else: name another folder")
    begun = out.with_name(f"{out.name}.{version['digest'][:16]}.partial")
    (begun / "data").mkdir(parents=True, exist_ok=True)
    files: dict[str, list[str]] = {}
    for split, rows in version["splits"].items():
        _write_shards(begun / "data", split, version["shape"], partial(content, split))
        files[split] = _named(begun, split)
        if (found := sum(pq.read_metadata(begun / name).num_rows for name in files[split])) != rows:
            raise OSError(f"{found} rows of the {split} split came, of {rows}")
    text = card(
        name=version["name"],
        digest=version["digest"],
        shape=version["shape"],
        splits=version["splits"],
        report=version["report"],
        recipe=msgspec.to_builtins(msgspec.convert(version["draft"], Recipe)),  # without what holds unless told
        files=files,
    )
    (begun / "README.md").write_text(text, encoding="utf-8")
    manifest = _manifest(begun, version, files)
    (begun / _MANIFEST).write_bytes(canonical_json(manifest))
    begun.replace(out)
    return manifest


def _write_shards(folder: Path, split: str, shape: str, content: Callable[[int], Iterator[bytes]]) -> None:
    whole = _shards(folder, split)
    done = sum(pq.read_metadata(shard).num_rows for shard in whole)
    batches = _batches(_lines(content(done)))
    number = len(whole)
    batch = next(batches, None)
    while batch is not None:
        shard = folder / f"{split}-{number:05d}.parquet"
        unfinished = shard.with_suffix(".unfinished")
        with unfinished.open("wb") as file, pq.ParquetWriter(file, table_of([], shape).schema, **_OPTIONS) as writer:
            while batch is not None and file.tell() < SHARD_BYTES:
                writer.write_table(table_of(batch, shape))
                batch = next(batches, None)
        unfinished.replace(shard)
        number += 1


_OPTIONS: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "store_schema": False,
    "write_statistics": False,
}  # all that changes bytes: the same rows give the same files


def _lines(content: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for some in content:
        *whole, rest = (rest + some).split(b"\n")
        yield from whole
    if rest:
        raise OSError("the last line came in half")


def _batches(lines: Iterable[bytes]) -> Iterator[list[Any]]:
    """Some lines at once, as values: so many that the same file is cut alike wherever it is begun."""
    batch: list[Any] = []
    size = 0
    for line in lines:
        batch.append(msgspec.json.decode(line))
        size += len(line)
        if len(batch) == _ROWS_AT_ONCE or size >= _TEXT_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _shards(folder: Path, split: str) -> list[Path]:
    found = ((path, _SHARD.fullmatch(path.name)) for path in folder.iterdir())
    return sorted(path for path, name in found if name and name[1] == split)


def _named(folder: Path, split: str) -> list[str]:
    """The files of a split under their last names, which say how many there are."""
    shards = _shards(folder / "data", split)
    names = [shard_name(split, number, len(shards)) for number in range(len(shards))]
    for shard, name in zip(shards, names, strict=True):
        shard.replace(folder / name)
    return names


def _manifest(folder: Path, version: Mapping[str, Any], files: Mapping[str, list[str]]) -> dict[str, Any]:
    return {
        "dataset": version["name"],
        "version": version["version"],
        "digest": version["digest"],
        "rows": version["rows"],
        "splits": version["splits"],
        "files": [_described(folder, name, split) for split, names in files.items() for name in names],
    }


def _described(folder: Path, name: str, split: str) -> dict[str, Any]:
    path = folder / name
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    rows = pq.read_metadata(path).num_rows
    return {"path": name, "split": split, "rows": rows, "bytes": path.stat().st_size, "sha256": sha256}


def _manifest_in(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = msgspec.json.decode((folder / _MANIFEST).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return found
