"""A version's rows -> one file of JSON lines, which has its name when it is whole; interrupted, it goes on where it was."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_STEP_BYTES = 2**20

Content = Callable[[int], Iterator[bytes]]  # the export after so many lines


def write_lines(out: Path, begun: str, content: Content) -> int:
    """Write the file and say how many lines it has.

    Args:
        begun: names what is exported: what was begun of something else is not gone on with.

    Raises:
        OSError: it cannot be written.
    """
    partial = out.with_name(f"{out.name}.{begun}.partial")
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        lines = _whole_lines(file)
        for some in content(lines):
            file.write(some)
            lines += some.count(b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(out)
    return lines


def _whole_lines(file: BinaryIO) -> int:
    """Cut off what comes after the last line end; how many lines there are."""
    lines = end = at = 0
    while some := file.read(_STEP_BYTES):
        if (last := some.rfind(b"\n")) >= 0:
            lines += some.count(b"\n")
            end = at + last + 1
        at += len(some)
    file.truncate(end)
    file.seek(end)
    return lines
