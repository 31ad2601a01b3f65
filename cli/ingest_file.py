"""A file of logs -> its records: JSON lines, plain or packed, one JSON array or object, or the rows of a Parquet file."""

import base64
import datetime
import decimal
import io
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_ROWS = 500  # of a Parquet file, read at once
_LONGEST_ARRAY_BYTES = 2**30  # an array is read whole; a larger file should be lines
_LONGEST_OBJECT_BYTES = 4 * 2**20  # no message holds a larger one


class Record(NamedTuple):
    """One record and where it stands: the number of its line, array item or row, counted from 1."""

    number: int
    value: bytes  # on one line: records are sent as lines


class Unreadable(Exception):
    """The file is not what its first bytes promise, or ends too early. The message names the remedy and holds no log text."""


class Source(NamedTuple):
    """An open file: its records in order, and how many of its bytes were read so far."""

    records: Iterable[Record]
    position: Callable[[], int]


@contextmanager
def opened(file: str) -> Iterator[Source]:
    """The records of a file, or of standard input for `-`. What kind of file it is, its first bytes tell.

    Raises:
        OSError: it cannot be opened.
        Unreadable: while it is read.
    """
    with ExitStack() as stack:
        raw = _standard_input() if file == "-" else stack.enter_context(Path(file).open("rb"))
        begin = raw.peek(4)[:4]
        if begin == _PARQUET:
            if file == "-":
                raise Unreadable("Parquet cannot be read from standard input: name the file")
            yield Source(_rows(raw), raw.tell)
        else:
            size = 0 if file == "-" else Path(file).stat().st_size
            # What unpacks the file closes it when it is through.
            yield Source(_values(_unpacked(raw, begin)), lambda: size if raw.closed or not size else raw.tell())


def _standard_input() -> io.BufferedReader:
    return io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))  # whatever stands in for it, this can be peeked at


def _unpacked(raw: BinaryIO, begin: bytes) -> BinaryIO:
    if begin[:2] != _GZIP and begin != _ZSTD:
        return raw
    packed = pa.PythonFile(cast(io.IOBase, raw), mode="r")
    stream = pa.CompressedInputStream(packed, "gzip" if begin[:2] == _GZIP else "zstd")
    return io.BufferedReader(cast(io.RawIOBase, stream))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    try:
        while line := file.readline():
            yield line
    except OSError as error:
        raise Unreadable(f"the file cannot be read to its end ({error})") from error


def _values(file: BinaryIO) -> Iterator[Record]:
    """One record a line; a file that begins like an array is one, and one object may be spread over the lines of a file."""
    first = file.readline().removeprefix(BOM_UTF8)
    lines: Iterable[bytes] = _lines(file)
    if first.lstrip().startswith(b"["):
        yield from _items(first if _is_value(first) else first + file.read(_LONGEST_ARRAY_BYTES))
        first = b""
    elif first.lstrip().startswith(b"{") and not _is_value(first):
        begin = first + file.read(_LONGEST_OBJECT_BYTES) + file.readline()
        if _is_value(begin):
            yield Record(1, _on_one_line(begin.strip()))
            return
        first, *others = begin.split(b"\n")
        lines = chain(others, lines)
    for number, line in enumerate(chain([first], lines), 1):
        if line.strip():
            yield Record(number, line.strip())


def _on_one_line(value: bytes) -> bytes:
    """JSON has line ends between values alone."""
    return value.replace(b"\n", b" ")


def _items(text: bytes) -> Iterator[Record]:
    try:
        for number, item in enumerate(msgspec.json.decode(text, type=list[msgspec.Raw]), 1):
            yield Record(number, _on_one_line(bytes(item)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(
            "it begins like a JSON array and is none, or one of over 1 GiB: write one record a line"
        ) from error


def _is_value(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _rows(raw: BinaryIO) -> Iterator[Record]:
    """Each row as a JSON object, less its nulls. Text that is a JSON object or array is taken as that."""
    try:
        batches = pq.ParquetFile(raw).iter_batches(batch_size=_ROWS)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                value = {name: _column(item) for name, item in row.items() if item is not None}
                yield Record(number, msgspec.json.encode(value, enc_hook=_json_like))
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        raise Unreadable("it begins like a Parquet file and cannot be read as one: it may be cut off") from error


def _column(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def _json_like(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise NotImplementedError
