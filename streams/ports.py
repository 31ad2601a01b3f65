"""What the stream needs of an index; `indexer` fits it, and a test's fake does."""

from collections.abc import Sequence
from typing import Protocol

from tunemill.schemas.outcome import Written
from tunemill.schemas.records import Feedback, TaggedLog
from tunemill.schemas.stored import Stored, StoredLog, StoredNote


class LogIndex(Protocol):
    """A place where tagged logs become searchable. Each method waits for an engine that is away, for as long as it takes.

    Raises:
        IndexRefused: from each method: the engine does not let us in (401, 403). Nothing may be acknowledged; a person must act.
    """

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        """Store each log unless it is there, and say what became of each, in order.

        Returns only when every log is accounted for: what the engine is too busy for is sent again, with back-off. A log that
        is there already is left as it is, for a replay never overwrites an edit: it is a duplicate, or, where the content that
        was stored under its id is another one, rejected as an `id_conflict`.
        """

    async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
        """These logs and the notes of these traces as they were written last, searchable or not yet, in one round trip."""

    async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
        """Store another state of each log, in order: merged or rejected; None: it is no longer the state that was read, or gone."""

    async def put_notes(self, changed: Sequence[StoredNote]) -> Sequence[bool]:
        """Store another state of each note; False: it is no longer the state that was read."""

    async def add_feedback(self, items: Sequence[Feedback]) -> Sequence[Written]:
        """Store each, in order: indexed or rejected. Of two with one feedback_id the later one holds; each id comes once here."""

    async def delete(self, log_ids: Sequence[str]) -> None:
        """Make these logs unfindable; ids that are not there are no error."""

    async def forget_said(self, about: Sequence[str]) -> None:
        """Forget the feedback about these answers and traces, and the notes of the traces; names as `schemas.about` spells them.

        Feedback that names its log stays: it goes with that.
        """
