"""The better answers that feedback gave. Pure."""

from collections.abc import Sequence

from tunemill.schemas.records import Feedback, TaggedLog


def is_corrected(tagged: TaggedLog) -> bool:
    """Whether some feedback on this log holds a better answer."""
    return any(said.corrected for said in tagged.feedback)


def newest(said: Sequence[Feedback]) -> str | None:
    """The newest better answer.

    Args:
        said: about one log, the oldest first.
    """
    return next((one.correction for one in reversed(said) if one.correction and one.correction.strip()), None)
