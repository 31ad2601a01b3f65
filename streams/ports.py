"""What the stream needs of an index; `indexer` fits it, and a test's fake does."""

from collections.abc import Sequence
from typing import Protocol

from tunemill.schemas.outcome import Written
from tunemill.schemas.records import TaggedLog


class LogIndex(Protocol):
    """A place where tagged logs become searchable."""

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        """Store each log unless it is there, and say what became of each, in order.

        Returns only when every log is accounted for: what the engine is too busy for is sent again, with back-off, for as
        long as it takes. A log that is there already, with any content, is left as it is: a replay never overwrites an edit.

        Raises:
            IndexRefused: the engine does not let us in (401, 403). Nothing may be acknowledged; a person must act.
        """

    async def delete(self, log_ids: Sequence[str]) -> None:
        """Make these logs unfindable; ids that are not there are no error."""
