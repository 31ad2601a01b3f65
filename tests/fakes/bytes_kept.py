"""Everything that lies in a folder, as bytes to be searched: each file as it is, and what is compressed in it, opened."""

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import zstandard

ZSTD = b"\x28\xb5\x2f\xfd"


def kept(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each file by its name, raw; of databases each row, of Parquet files each column, decompressed."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, content = str(path.relative_to(folder)), path.read_bytes()
        yield name, content
        yield from ((f"{name}: {inside}", value) for inside, value in opened(path, content))


def opened(path: Path, content: bytes) -> Iterator[tuple[str, bytes]]:
    """What a file holds in another form than its bytes."""
    if content.startswith(b"SQLite format 3"):
        yield from _rows(path)
    elif content.startswith(b"PAR1"):
        yield "rows", str(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
    elif content.startswith(ZSTD):
        yield "zstd", zstandard.ZstdDecompressor().stream_reader(content).read()


def _rows(path: Path) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in db.execute(f"SELECT * FROM {table}"):
                for value in row:
                    yield table, _bytes(value)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        return str(value).encode()
    return value + zstandard.ZstdDecompressor().stream_reader(value).read() if value.startswith(ZSTD) else value


def where(folder: Path, word: str) -> list[str]:
    """The places in a folder that hold a word."""
    return sorted({name for name, content in kept(folder) if word.encode() in content})
