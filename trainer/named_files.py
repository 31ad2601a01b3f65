"""The files and folders of this machine that a recipe names; whoever orders a run writes what they like there."""

from pathlib import Path

from tunemill.trainer.errors import InvalidRun


def named(path: str) -> Path | None:
    """Where it is; None where nothing is, or nothing could be: too long, a null character, the home of a user that there is not."""
    try:
        place = Path(path).expanduser()
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
    raise InvalidRun(f"the {what} {path} cannot be read", remedy)
