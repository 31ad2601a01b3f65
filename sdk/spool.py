"""Logs that wait on disk while the receiver is away: bounded, first in first out, and there for the next process if this one ends.

Not safe to use from two threads at once.
"""

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunemill.sdk.entry import Entry
from tunemill.sdk.errors import SpoolError, warn
from tunemill.sdk.segment import Contents, framed, open_private, read_segment, write_all, write_segment
from tunemill.sdk.spool_folder import OwnedFolder, abandoned

_SEGMENT_BYTES = 2**20  # one round of sending, and what is sent twice after a crash in the middle of it
_MIDDLE = 10**9  # the number between what is put back and what is appended


@dataclass(slots=True)
class Segment:
    """One file, sent and removed as a whole."""

    folder: OwnedFolder
    path: Path
    logs: int
    bytes: int
    entered: int  # how many logs had entered memory up to its last one; 0 if none of them did in this process


@dataclass(frozen=True, slots=True)
class Found:
    """What processes that have ended left behind."""

    logs: int
    broken: int  # lines that a crash left unfinished; they are skipped


class Spool:
    """The segments of this producer and of those whose process has ended.

    Args:
        parent: the operator's folder, which several processes may share.
    """

    def __init__(self, parent: Path, max_bytes: int) -> None:
        self._parent = parent
        self._max_bytes = max_bytes
        self._segments: deque[Segment] = deque()
        self._own: OwnedFolder | None = None
        self._taken_over: list[OwnedFolder] = []
        self._open: int | None = None  # the file of the last segment, while it grows
        self._bytes = 0
        self._lowest = _MIDDLE
        self._highest = _MIDDLE

    def __len__(self) -> int:
        """Segments."""
        return len(self._segments)

    def take_over(self) -> Found:
        """Put what dead processes left ahead of everything; what cannot be read stays where it is."""
        logs = broken = 0
        for folder in abandoned(self._parent):
            self._taken_over.append(folder)
            for path in folder.segments():
                try:
                    contents, size = read_segment(path), path.stat().st_size
                except OSError as error:
                    warn("a file of spooled logs cannot be read (%s)", type(error).__name__)
                    continue
                logs, broken = logs + len(contents.entries), broken + contents.broken
                self._segments.append(Segment(folder, path, len(contents.entries), size, 0))
                self._bytes += size
        return Found(logs, broken)

    @property
    def portion_bytes(self) -> int:
        """What should be appended at a time: a small part of the room there is."""
        return min(_SEGMENT_BYTES, self._max_bytes // 8)

    def append(self, entries: Sequence[Entry], entered: int) -> None:
        """Write behind everything that is there.

        Args:
            entered: how many logs had entered memory up to the last of these.

        Raises:
            SpoolError: none of them is written.
        """
        content = b"".join([framed(entry) for entry in entries])
        self._have_room(len(content))
        try:
            self._write(content, len(entries), entered)
        except OSError as error:
            raise _unwritable(error) from error

    def put_back(self, entries: Sequence[Entry], entered: int) -> None:
        """Write ahead of everything: logs that were taken from memory and could not be sent.

        Raises:
            SpoolError: they cannot be written.
        """
        self._have_room(sum(entry.size for entry in entries))
        try:
            folder = self._folder()
            path = folder.segment(self._lowest - 1)
            size = write_segment(path, entries)
        except OSError as error:
            raise _unwritable(error) from error
        self._lowest -= 1
        self._segments.appendleft(Segment(folder, path, len(entries), size, entered))
        self._bytes += size

    def first(self) -> Segment | None:
        """The oldest segment; nothing is added to it any more."""
        if len(self._segments) == 1:
            self._seal()
        return self._segments[0] if self._segments else None

    def read_first(self) -> Contents:
        """What the first segment holds; nothing, if its file is gone.

        Raises:
            SpoolError: it cannot be read now. It stays where it is, and is no longer ours to send.
        """
        segment = self._segments[0]
        try:
            return read_segment(segment.path)
        except FileNotFoundError:
            return Contents((), segment.logs)
        except OSError as error:
            self._segments.popleft()
            self._bytes -= segment.bytes
            raise SpoolError(f"a file of spooled logs cannot be read ({type(error).__name__})") from error

    def keep(self, entries: Sequence[Entry]) -> None:
        """Of the first segment, keep only these: the others are done. With none, it is removed.

        Raises:
            SpoolError: the file is as it was, and its logs may be sent again by the next process.
        """
        segment = self._segments[0]
        if entries and len(entries) == segment.logs:
            return
        try:
            if entries:
                size = write_segment(segment.path, entries)
                self._bytes += size - segment.bytes
                segment.bytes, segment.logs = size, len(entries)
            else:
                self._segments.popleft()
                self._bytes -= segment.bytes
                segment.path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(error) from error

    def close(self) -> None:
        """Let go of the folders, for whoever opens them next."""
        self._seal()
        for folder in [*self._taken_over, *([self._own] if self._own else [])]:
            folder.release()
        self._own, self._taken_over = None, []

    def leave_to_parent(self) -> None:
        """After a fork: files and locks are the parent's."""
        for folder in [*self._taken_over, *([self._own] if self._own else [])]:
            folder.leave_to_parent()
        if self._open is not None:
            os.close(self._open)

    def _folder(self) -> OwnedFolder:
        if self._own is None:
            self._own = OwnedFolder.create(self._parent)
        return self._own

    def _have_room(self, size: int) -> None:
        if self._bytes + size > self._max_bytes:
            raise SpoolError(f"the spool is full: it may hold {self._max_bytes} bytes")

    def _write(self, content: bytes, logs: int, entered: int) -> None:
        """Append to the last segment, or to a new one; all of it or nothing."""
        if self._open is None or self._segments[-1].bytes + len(content) > _SEGMENT_BYTES:
            self._begin_segment()
        segment, file = self._segments[-1], self._open
        assert file is not None  # noqa: S101 - for the type checker
        try:
            write_all(file, content)
        except OSError:
            with contextlib.suppress(OSError):  # half a line would be noticed, too
                os.ftruncate(file, segment.bytes)
            self._seal()
            if not segment.logs:
                self._segments.pop()
                with contextlib.suppress(OSError):
                    segment.path.unlink()
            raise
        segment.logs += logs
        segment.bytes += len(content)
        segment.entered = entered
        self._bytes += len(content)

    def _begin_segment(self) -> None:
        self._seal()
        folder = self._folder()
        path = folder.segment(self._highest)
        self._open = open_private(path, os.O_CREAT | os.O_EXCL | os.O_APPEND)
        self._highest += 1
        self._segments.append(Segment(folder, path, 0, 0, 0))

    def _seal(self) -> None:
        """End the segment that grows: its bytes are on the disk, and what comes goes to a new one."""
        file, self._open = self._open, None
        if file is not None:
            with contextlib.suppress(OSError):  # the kernel has it; only a power cut would tell the difference
                os.fsync(file)
            os.close(file)


def _unwritable(error: OSError) -> SpoolError:
    return SpoolError(f"the spool cannot be written ({error.strerror or type(error).__name__})")
