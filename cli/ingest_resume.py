"""How far a file was sent to a place, so that the same command goes on there after it was interrupted."""

import hashlib
import os
from pathlib import Path

from tunemill.schemas.ids import canonical_json


class Place:
    """The place reached in one file for one target. A file that was changed since is another file; standard input has no place."""

    def __init__(self, file: str, target: str) -> None:
        self._path: Path | None = None
        if file != "-":
            found = Path(file).resolve()
            stat = found.stat()
            name = canonical_json([str(found), stat.st_size, stat.st_mtime_ns, target])
            self._path = _folder() / hashlib.sha256(name).hexdigest()[:32]

    def read(self) -> int:
        """The number of the last record that was sent; 0 at the beginning."""
        try:
            return int(self._path.read_text()) if self._path is not None else 0
        except (OSError, ValueError):
            return 0

    def write(self, number: int) -> None:
        """Remember, so that a crash leaves the old place or the new one."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(f".{os.getpid()}")
            fresh.write_text(str(number))
            fresh.replace(self._path)

    def forget(self) -> None:
        """The file is sent: the next time it is sent from its beginning."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _folder() -> Path:
    """Where programs keep their state (https://specifications.freedesktop.org/basedir-spec/)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tunemill" / "ingest"
