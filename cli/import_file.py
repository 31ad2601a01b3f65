"""A file of rows -> its lines, streamed: JSON lines (also gzip), a JSON array, or Parquet. None of it is read here."""

import io
import json
import re
import zlib
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from tunemill.curator_api import parquet_rows

MAX_LINE_BYTES = 4 * 2**20
MAX_RATIO = 100  # of what gzip may hold to how large it is, beyond ANY_RATIO_BYTES: as the server holds it
ANY_RATIO_BYTES = 32 * 2**20
_STEP_BYTES = 64 * 2**10
_SPACE, _LINE_ENDS = re.compile(r"[ \t\r\n]*"), re.compile(r"[\r\n]+")  # JSON has line ends between values alone
_GZIP = b"\x1f\x8b"
_PACKED = (b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")


class Unreadable(Exception):
    """The file is not what its first bytes promise, or ends too early. The message names the remedy and holds no text of rows."""


class Line(NamedTuple):
    """One line, array item or Parquet row."""

    number: int  # counted from 1
    value: bytes  # without a line end
    fault: str | None = None  # why the value is not there


def lines_in(file: io.BufferedReader) -> Iterator[Line]:
    """The lines of a file, in order; what kind of file it is, its first bytes tell. Blank lines are left out.

    Raises:
        Unreadable: while it is read.
    """
    begin = file.peek(4)[:4]
    if begin == parquet_rows.MAGIC:
        return _parquet(file)
    if begin.startswith(_PACKED):
        raise Unreadable("it is packed in a way that is not read here: unpack it, or pack it with gzip")
    if begin.startswith(_GZIP):
        file = io.BufferedReader(_Gzip(file), _STEP_BYTES)
    is_array = file.peek(4).removeprefix(BOM_UTF8).lstrip().startswith(b"[")
    return _items(file) if is_array else _lines(file)


def _parquet(file: io.BufferedReader) -> Iterator[Line]:
    try:
        for number, row in enumerate(parquet_rows.values(file), 1):
            value = msgspec.json.encode({name: held for name, held in row.items() if held is not None})
            yield _line(number, value)
    except parquet_rows.NotParquet as error:
        raise Unreadable(str(error)) from error


def _lines(file: io.BufferedReader) -> Iterator[Line]:
    number = 0
    while begin := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        line = begin.removeprefix(BOM_UTF8) if number == 1 else begin
        while len(begin) > MAX_LINE_BYTES and not begin.endswith(b"\n"):  # the rest of a long line is passed over
            begin = file.readline(MAX_LINE_BYTES + 1)
        if line.strip():
            yield _line(number, line.strip())


def _items(file: io.BufferedReader) -> Iterator[Line]:
    """The items of an array, one at a time: each is taken out of the text as soon as it is whole."""
    text = _Text(file)
    text.skip("[")
    number = 0
    while not text.skip("]"):
        if number and not text.skip(","):
            raise Unreadable(f"after item {number} of the array there is no comma")
        number += 1
        yield _line(number, _LINE_ENDS.sub(" ", text.item(number)).encode())


class _Text:
    """The text of a file, as far as it is needed."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._decode = getincrementaldecoder("utf-8-sig")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False

    def skip(self, mark: str) -> bool:
        """Whether this mark comes next, white space aside; then it is passed over."""
        self._pass_space()
        is_next = self._text.startswith(mark, self._at)
        self._at += len(mark) if is_next else 0
        return is_next

    def item(self, number: int) -> str:
        """The next item as it is written."""
        self._pass_space()
        while True:
            try:
                end = self._scan(self._text, self._at)[1]
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > MAX_LINE_BYTES or not self._more():
                    raise Unreadable(
                        f"item {number} of the array is no JSON, is longer than {MAX_LINE_BYTES} bytes, or is cut off"
                    ) from error
                continue
            if end < len(self._text) or not self._more():  # a number may go on in what is not read yet
                begin, self._at = self._at, end
                return self._text[begin:end]

    def _pass_space(self) -> None:
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self._at < len(self._text):
                return
            if not self._more():
                raise Unreadable("the array does not end: the file may be cut off")

    def _more(self) -> bool:
        if self._ended:
            return False
        rest = self._text[self._at :]
        some = self._file.read(max(_STEP_BYTES, len(rest)))  # as much again: a long item is tried a few times only
        self._ended = not some
        try:
            self._text, self._at = rest + self._decode(some, self._ended), 0
        except UnicodeDecodeError as error:
            raise Unreadable(
                "the array is not in UTF-8: write one object a line, so that a bad line can be named"
            ) from error
        return True


class _Gzip(io.RawIOBase):
    """What is packed in a gzip file, which may have several members; more than its size can account for is refused."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._pending = b""
        self._came = self._gave = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        out = self._next(len(view))
        view[: len(out)] = out
        return len(out)

    def _next(self, most: int) -> bytes:
        while True:
            some = self._pending or self._file.read(_STEP_BYTES)
            self._came += 0 if self._pending else len(some)
            if not some:
                if not self._member.eof and self._came:
                    raise Unreadable("the gzip file is cut off")
                return b""
            if self._member.eof:
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                out = self._member.decompress(some, most)
            except zlib.error as error:
                raise Unreadable("the gzip file is damaged") from error
            self._pending = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._gave += len(out)
            if self._gave > max(ANY_RATIO_BYTES, MAX_RATIO * self._came):
                raise Unreadable(f"the gzip file holds over {MAX_RATIO} times its size: unpack it and look at it first")
            if out:
                return out


def _line(number: int, value: bytes) -> Line:
    if len(value) > MAX_LINE_BYTES:
        return Line(number, b"", f"longer than {MAX_LINE_BYTES} bytes")
    return Line(number, value)
