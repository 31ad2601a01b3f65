"""What is known about a trace beside its calls: what it says about all of them, and which they are."""

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
