"""One file of the spool: logs, a line each with its checksum, so that what a crash or a full disk left of a line is noticed."""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tunemill.sdk.entry import Entry

_CHECKSUM = 9  # eight hexadecimal digits and a space


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds."""

    entries: tuple[Entry, ...]
    broken: int  # lines that are not what was written


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    log_id: str
    session_id: str | None
    line: msgspec.Raw


_DECODER = msgspec.json.Decoder(_Kept)


def framed(entry: Entry) -> bytes:
    """One line of a file."""
    kept = msgspec.json.encode(_Kept(entry.log_id, entry.session_id, msgspec.Raw(entry.line)))
    return b"%08x %b\n" % (zlib.crc32(kept), kept)


def read_segment(path: Path) -> Contents:
    """Every whole line of a file, in order.

    Raises:
        OSError: the file cannot be read.
    """
    lines = path.read_bytes().splitlines()
    entries = tuple([entry for entry in map(_unframed, lines) if entry is not None])
    return Contents(entries, len(lines) - len(entries))


def write_segment(path: Path, entries: Sequence[Entry]) -> int:
    """A whole file, which appears at once or not at all, in place of one of the same name; its bytes.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_suffix(".unfinished")
    content = b"".join([framed(entry) for entry in entries])
    file = open_private(unfinished, os.O_CREAT | os.O_TRUNC)
    try:
        write_all(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    unfinished.replace(path)
    return len(content)


def open_private(path: Path, how: int) -> int:
    """A file that only its owner may read, open to be written; it holds what people said.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open(path, os.O_WRONLY | os.O_CLOEXEC | how, 0o600)


def write_all(file: int, content: bytes) -> None:
    """Write it all.

    Raises:
        OSError: not all of it could be written.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _unframed(line: bytes) -> Entry | None:
    kept = line[_CHECKSUM:]
    if line[:_CHECKSUM] != b"%08x " % zlib.crc32(kept):
        return None
    try:
        found = _DECODER.decode(kept)
    except msgspec.DecodeError:
        return None
    return Entry(found.log_id, found.session_id, bytes(found.line))
