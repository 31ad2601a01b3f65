"""What is known about a trace beside its calls: what it says about all of them, and which they are."""

from collections.abc import Collection

import msgspec


class TraceNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Said once for a trace, and true of each of its calls; a call's own word goes first."""

    trace_id: str
    user_id: str | None = None
    session_id: str | None = None
    app: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    log_ids: tuple[str, ...] = ()  # the calls of this trace that came so far


def without_calls(note: TraceNote, log_ids: Collection[str]) -> TraceNote:
    """The note when these calls are forgotten; with the last of them goes everything that was said about them."""
    rest = tuple(known for known in note.log_ids if known not in log_ids)
    return msgspec.structs.replace(note, log_ids=rest) if rest else TraceNote(trace_id=note.trace_id)


def without_words(note: TraceNote) -> TraceNote:
    """The note when what was said about its trace is forgotten; which calls it has stays known."""
    return TraceNote(trace_id=note.trace_id, log_ids=note.log_ids)
