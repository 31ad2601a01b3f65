"""What an index holds, with the version by which it is replaced only if nobody else changed it meanwhile."""

from collections.abc import Mapping
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


class Stored(msgspec.Struct, frozen=True):
    """What was found of some logs and traces; what is not there is left out."""

    logs: Mapping[str, StoredLog]  # by log_id
    notes: Mapping[str, StoredNote]  # by trace_id
