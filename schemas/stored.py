"""What an index holds, with the version by which it is replaced only if nobody else changed it meanwhile."""

from typing import Any

import msgspec

from tunemill.schemas.records import TaggedLog
from tunemill.schemas.trace import TraceNote


class StoredLog(msgspec.Struct, frozen=True):
    """A log as it was read, or another state of it that is to take that one's place."""

    tagged: TaggedLog
    version: Any  # of the state that was read; only the index knows what it means


class StoredNote(msgspec.Struct, frozen=True):
    """A trace's note as it was read, or another state of it that is to take that one's place."""

    note: TraceNote
    version: Any = None  # None: there was none
