"""What became of one log, or of one part of a log: the five ends of the flow, as every counter and report names them.

`received = indexed + merged + duplicate + rejected + erased` holds at rest.
"""

from enum import StrEnum

import msgspec

ID_CONFLICT = "id_conflict"  # the error code of a log whose id is that of a log with other content


class Outcome(StrEnum):
    """The end that one received log, or part of one, came to."""

    INDEXED = "indexed"
    MERGED = "merged"  # a part, joined to a log that was there
    DUPLICATE = "duplicate"  # the same log was there already: a replay
    REJECTED = "rejected"  # in the dead letters
    ERASED = "erased"  # somebody asked for it to be forgotten


class Written(msgspec.Struct, frozen=True, gc=False):
    """What the index did with one log; `error_code` and `reason` are set when it was rejected."""

    log_id: str
    outcome: Outcome
    error_code: str | None = None
    reason: str | None = None


def id_conflict(log_id: str) -> Written:
    """The log was not stored: there is one with its id and other content, which stays as it is."""
    return Written(log_id, Outcome.REJECTED, ID_CONFLICT, "there is a log with this log_id and other content")
