"""Files that are written once and never changed: a local folder, or any fsspec URL."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tunemill.curator_api.errors import CuratorError, DamagedFile, Unavailable
from tunemill.schemas.ids import new_id

AT_ONCE = 16  # files under way at the same time: what a bucket, or a disk's syncs, still gain from


class AlreadyDifferent(Exception):
    """A file of this name holds other bytes; it stays as it is."""


class Files:
    """The folder that the files URL names."""

    def __init__(self, url: str) -> None:
        # What another process wrote must be seen, so that nothing may be remembered of what is there.
        self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)

    def put(self, path: str, content: bytes) -> str:
        """Write a file unless it is there, durably, and give its full URL. A reader sees all of it or none.

        Args:
            path: relative, of names that are ours: never a caller's text.

        Raises:
            AlreadyDifferent: the name is taken by other bytes.
            Unavailable: the files cannot be written now.
        """
        full = self._full(path)
        with _answering("written"):
            if not self._created(full, content) and self._fs.cat_file(full) != content:
                raise AlreadyDifferent(path)
        return self.url(path)

    def put_many(self, contents: Mapping[str, bytes]) -> int:
        """Write those of the files that are not there yet, as `put` does, many at a time.

        Args:
            contents: by path, each named by the digest of its content: one that is there is held to its size alone.

        Returns:
            The bytes that were really written.

        Raises:
            AlreadyDifferent: a name is taken by a file of another size.
            Unavailable: the files cannot be written now.
        """
        with _answering("written"), ThreadPoolExecutor(AT_ONCE) as pool:
            if isinstance(self._fs, LocalFileSystem):
                created = _create_many({Path(self._full(path)): content for path, content in contents.items()}, pool)
            else:
                created = list(pool.map(self._created, map(self._full, contents), contents.values()))
            there = [path for path, ours in zip(contents, created, strict=True) if not ours]
            sizes = pool.map(self._fs.size, map(self._full, there))
            for path, size in zip(there, sizes, strict=True):
                if size != len(contents[path]):
                    raise AlreadyDifferent(path)
        return sum(len(content) for content, ours in zip(contents.values(), created, strict=True) if ours)

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
        with _answering("read"):
            try:
                return cast(bytes, self._fs.cat_file(self._full(path)))
            except FileNotFoundError as error:
                raise DamagedFile(f"{path} is missing: restore it from a backup") from error

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes]:
        """All of each file, in their order; a few of them are read ahead.

        Raises:
            DamagedFile: one is not there.
            Unavailable: the files cannot be read now.
        """
        if isinstance(self._fs, LocalFileSystem):
            yield from map(self.read, paths)
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(paths), AT_ONCE):
                yield from pool.map(self.read, paths[start : start + AT_ONCE])

    def replace(self, path: str, content: bytes) -> None:
        """Write a file over the one that is there: what stands in no version, and is nobody's but ours.

        Raises:
            Unavailable: the files cannot be written now.
        """
        full = self._full(path)
        with _answering("written"):
            if isinstance(self._fs, LocalFileSystem):
                _replace_local(Path(full), content)
            else:
                self._fs.pipe_file(full, content)

    def list(self, folder: str) -> Sequence[str]:
        """The paths of all files in a folder and those below it, also of such as a killed process left half written."""
        with _answering("read"):
            try:
                found = self._fs.find(self._full(folder))
            except FileNotFoundError:
                return []
        root = self._full("")
        return sorted(str(path).removeprefix(root) for path in found)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files for good. One that is not there is no error."""
        with _answering("deleted"), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._delete, map(self._full, paths)))

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
        except OSError:  # S3 answers 409 to who puts a name at the same moment as another
            if isinstance(self._fs, LocalFileSystem) or not self._fs.exists(full):
                raise
            return False
        return True

    def _delete(self, full: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(full)


@contextmanager
def _answering(done: str) -> Iterator[None]:
    """What the files' server, or the disk, says no to is no fault of ours or of a caller's. Each client has errors of its own."""
    try:
        yield
    except (CuratorError, AlreadyDifferent):
        raise
    except Exception as error:
        why = f"the dataset's files cannot be {done} ({type(error).__name__}): check TUNEMILL_FILES_URL"
        raise Unavailable(why) from error


def _create_local(path: Path, content: bytes) -> None:
    """Create one file.

    Raises:
        FileExistsError: somebody took the name meanwhile; their file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _took_name(path, content, new_id()):
        raise FileExistsError(path)
    _sync_folder(path.parent)


def _create_many(contents: Mapping[Path, bytes], pool: ThreadPoolExecutor) -> list[bool]:
    """Create those that are not there; the folders are synced once, at the end. Which of them are ours."""
    folders = {path.parent for path in contents}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    items, mark = list(contents.items()), new_id()
    size = max(1, -(-len(items) // AT_ONCE))  # a thread takes many: to hand over one by one costs as much as to write
    some = [items[start : start + size] for start in range(0, len(items), size)]
    created = [one for found in pool.map(partial(_took_names, mark=mark), some) for one in found]
    for folder in folders:
        _sync_folder(folder)
    return created


def _replace_local(path: Path, content: bytes) -> None:
    _written_beside(path, content, new_id()).replace(path)
    _sync_folder(path.parent)


def _took_names(files: Sequence[tuple[Path, bytes]], *, mark: str) -> list[bool]:
    return [_took_name(path, content, mark) for path, content in files]


def _took_name(path: Path, content: bytes, mark: str) -> bool:
    """1. write beside it; 2. sync the file; 3. take the name, if nobody has: False, if somebody has."""
    if path.exists():
        return False
    beside = _written_beside(path, content, mark)
    try:
        os.link(beside, path)  # a rename would replace what is there
    except FileExistsError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True


def _written_beside(path: Path, content: bytes, mark: str) -> Path:
    """A synced file of this content beside a path; none is left where it cannot be written.

    Args:
        mark: a ULID, in its name.
    """
    beside = path.with_name(f".{path.name}.{mark}.tmp")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # a third of what `open` takes
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    return beside


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
