"""Who owns which folder of spooled logs: each producer writes to one of its own, and takes over those whose process has ended.

An owner holds a lock on a file in its folder for as long as it lives; the kernel lets go of it however the process ends.
"""

import contextlib
import os
from pathlib import Path
from typing import Self

from tunemill.schemas.ids import new_id
from tunemill.sdk.errors import warn
from tunemill.sdk.segment import open_private

_LOCK = "lock"
_SEGMENT = ".ndjson"
_PREFIX = "spool-"  # nothing else in the operator's folder is ours to touch


class OwnedFolder:
    """A folder that this producer alone reads and writes."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, parent: Path) -> Self:
        """A new one. It gets its name once it is locked, lest another process takes it for abandoned.

        Raises:
            OSError: it cannot be made.
        """
        name = _PREFIX + new_id()
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unnamed = parent / f".{name}"
        unnamed.mkdir(mode=0o700)
        lock = open_private(unnamed / _LOCK, os.O_CREAT | os.O_EXCL)
        try:
            _lock(lock)
            unnamed.rename(parent / name)
        except OSError:
            cls(unnamed, lock).release()
            raise
        return cls(parent / name, lock)

    def segment(self, number: int) -> Path:
        """The name of a file of logs; the lower number is the older one."""
        return self.path / f"{number:012d}{_SEGMENT}"

    def segments(self) -> list[Path]:
        """The files of logs, oldest first."""
        return sorted(self.path.glob(f"*{_SEGMENT}"))

    def release(self) -> None:
        """Let go of it; without logs inside the folder goes, too."""
        with contextlib.suppress(OSError):  # what is left is an empty folder that nobody minds
            if not self.segments():
                for unfinished in self.path.glob("*.unfinished"):
                    unfinished.unlink()
                (self.path / _LOCK).unlink()
                self.path.rmdir()
        os.close(self._lock)

    def leave_to_parent(self) -> None:
        """After a fork: the lock stays the parent's."""
        os.close(self._lock)


def abandoned(parent: Path) -> list[OwnedFolder]:
    """The folders whose process has ended, oldest first; they are this producer's from now on."""
    found: list[OwnedFolder] = []
    for path in sorted(parent.glob(f"{_PREFIX}*")):
        try:
            lock = _locked(path)
        except OSError as error:
            warn("a folder of spooled logs cannot be taken over (%s)", type(error).__name__)
            continue
        if lock is not None:
            found.append(OwnedFolder(path, lock))
    return found


def _locked(folder: Path) -> int | None:
    """The lock's file, or None if another producer holds it or has just removed it."""
    try:
        file = open_private(folder / _LOCK, 0)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        _lock(file)
        if (folder / _LOCK).stat().st_ino == os.fstat(file).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None


def _lock(file: int) -> None:
    """Hold it, for as long as the file is open.

    Raises:
        BlockingIOError: somebody else does.
        OSError: there are no locks here.
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError("this system has no file locks") from error
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
