"""What one record of a message tells of, for whoever takes records out of a topic."""

import msgspec

from tunemill.schemas.records import LogRecord
from tunemill.schemas.trace import TraceNote

# Stands where a record was taken out of a message, so that the others keep their places: every reader takes it for an event of a
# tracing SDK about itself, which is no call.
TAKEN_OUT = b'{"id":"taken-out","type":"sdk-log","timestamp":"1970-01-01T00:00:00Z","body":{}}'


class Told(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record, and which log it is or is about; all None: it is none of these, or cannot be read."""

    record: bytes  # JSON on one line where it can be, else as it came
    log_id: str | None = None
    response_id: str | None = None  # of feedback: the answer that it is about
    trace_id: str | None = None
    is_log: bool = False  # or a part of one; else it was said about one
    people: tuple[str, ...] = ()  # user, session and metadata.subject


def people_of(said: LogRecord | TraceNote) -> tuple[str, ...]:
    """Whom it names: user, session and metadata.subject."""
    return tuple(filter(None, (said.user_id, said.session_id, said.metadata.get("subject"))))
