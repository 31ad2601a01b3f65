"""What became of one log, or of one part of a log: the five ends of the flow, as every counter and report names them.

`received = indexed + merged + duplicate + rejected + erased` holds at rest.
"""

from enum import StrEnum

import msgspec


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
