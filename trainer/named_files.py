"""The files and folders of this machine that a recipe names; whoever orders a run writes what they like there.

An operator bounds that by `TUNEMILL_RECIPE_FOLDERS`: what lies elsewhere is as if it were not there, whatever links lead to it.
"""

import os
from pathlib import Path

from tunemill.trainer.errors import InvalidRun

FOLDERS = "TUNEMILL_RECIPE_FOLDERS"


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
        InvalidRun: it cannot be read.
    """
    place = named(path)
    try:
        if place is not None and place.is_file():
            return place.read_bytes()
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
