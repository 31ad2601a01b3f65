"""The files and folders of this machine that a recipe names; whoever orders a run writes what they like there.

An operator bounds that by `TUNEMILL_RECIPE_FOLDERS`: what lies elsewhere is as if it were not there, whatever links lead to it.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from tunemill.trainer.errors import InvalidRun

FOLDERS = "TUNEMILL_RECIPE_FOLDERS"
LARGEST_BYTES = 2**30  # a file is read whole, and its rows as objects take several times as much


def named(path: str) -> Path | None:
    """Where it is; None where nothing is, or nothing could be: too long, a null character, the home of a user that there is not."""
    try:
        place = Path(path).expanduser()
        allowed = _folders()
        if allowed is not None and not any(place.resolve().is_relative_to(folder.resolve()) for folder in allowed):
            return None
        return place if place.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def read_named(path: str, *, what: str, remedy: str) -> bytes:
    """The content of a regular file; a device has no end.

    Args:
        what: how the message calls it.

    Raises:
        InvalidRun: it cannot be read, or is too large.
    """
    with _opened(path, what, remedy) as file:
        return file.read()


def named_sha256(path: str, *, what: str, remedy: str) -> str:
    """SHA-256 of what `read_named` gives, read piece by piece.

    Raises:
        InvalidRun: it cannot be read, or is too large.
    """
    with _opened(path, what, remedy) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(path: str, what: str, remedy: str) -> Iterator[BufferedReader]:
    place = named(path)
    try:
        if place is not None and place.is_file():
            with place.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > LARGEST_BYTES:
                    raise InvalidRun(
                        f"the {what} {path} has {size:,} bytes, more than the {LARGEST_BYTES:,} that are read",
                        "name a smaller file",
                    )
                yield file
                return
    except OSError:
        pass
    raise InvalidRun(f"the {what} {path} cannot be read{where_to_look()}", remedy)


def where_to_look() -> str:
    """For the message that something is not there: below which folders it would have been seen."""
    folders = _folders()
    if folders is None:
        return ""
    return f"; recipes name what lies below {' or '.join(map(str, folders)) or 'no folder'} ({FOLDERS})"


def _folders() -> list[Path] | None:
    """Those that the operator tells; None: anywhere. A setting that names none, as `:`, allows none."""
    told = os.environ.get(FOLDERS)
    return [Path(folder) for folder in told.split(os.pathsep) if folder] if told else None
