"""Files that are written once and never changed: a local folder, or any fsspec URL."""

import os
from pathlib import Path
from typing import Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tunemill.curator_api.errors import DamagedFile, Unavailable
from tunemill.schemas.ids import new_id


class AlreadyDifferent(Exception):
    """A file of this name holds other bytes; it stays as it is."""


class Files:
    """The folder that the files URL names."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def put(self, path: str, content: bytes) -> str:
        """Write a file unless it is there, durably, and give its full URL. A reader sees all of it or none.

        Args:
            path: relative, of names that are ours: never a caller's text.

        Raises:
            AlreadyDifferent: the name is taken by other bytes.
            Unavailable: the files cannot be written now.
        """
        full = self._full(path)
        try:
            if not self._created(full, content) and self._fs.cat_file(full) != content:
                raise AlreadyDifferent(path)
        except OSError as error:
            raise Unavailable(
                f"the dataset's files cannot be written ({type(error).__name__}): check TUNEMILL_FILES_URL"
            ) from error
        return self.url(path)

    def url(self, path: str) -> str:
        """The full URL of a file: for a local one, its absolute path."""
        full = self._full(path)
        return full if isinstance(self._fs, LocalFileSystem) else cast(str, self._fs.unstrip_protocol(full))

    def read(self, path: str) -> bytes:
        """All of a file.

        Raises:
            DamagedFile: it is not there.
            Unavailable: the files cannot be read now.
        """
        try:
            return cast(bytes, self._fs.cat_file(self._full(path)))
        except FileNotFoundError as error:
            raise DamagedFile(f"{path} is missing: restore it from a backup") from error
        except OSError as error:
            raise Unavailable(
                f"the dataset's files cannot be read ({type(error).__name__}): check TUNEMILL_FILES_URL"
            ) from error

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def _created(self, full: str, content: bytes) -> bool:
        """Whether the file is ours; False: somebody else made it, before us or at the same time."""
        if self._fs.exists(full):
            return False
        try:
            if isinstance(self._fs, LocalFileSystem):
                _create_local(Path(full), content)
            else:
                create: dict[str, Any] = {"mode": "create"}  # a conditional put: two writers cannot both succeed
                self._fs.pipe_file(full, content, **create)
        except FileExistsError:
            return False
        return True


def _create_local(path: Path, content: bytes) -> None:
    """1. write beside it; 2. sync the file; 3. take the name, if nobody has; 4. sync the folder.

    Raises:
        FileExistsError: somebody took the name meanwhile; their file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{new_id()}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)  # a rename would replace what is there
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
