"""Parts of one call -> the call. Pure: the same parts give the same log, in whatever order and however often they come."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tunemill.schemas.records import LogRecord, Message, Usage
from tunemill.schemas.trace import TraceNote
from tunemill.streams.formats.shape import Piece

JOINED = "joined"  # under this name `extra` remembers what a later part needs to know about the earlier ones
_FILLED = frozenset(LogRecord.__struct_fields__) - {
    *("log_id", "ts_ms", "messages", "output", "project", "source", "operation", "status", "error"),
    *("params", "usage", "tags", "metadata", "extra"),
}  # fields of which one part's word is enough


def begun(piece: Piece) -> LogRecord:
    """The log as its first part tells it."""
    joined: dict[str, Any] = {"rank": piece.rank}
    if piece.message_ns:
        joined["message_ns"] = list(piece.message_ns)
    if piece.choices:
        joined["choices"] = list(piece.choices)
    log = piece.log
    return msgspec.structs.replace(log, tags=tuple(sorted({*log.tags})), extra=_extra({}, log.extra) | {JOINED: joined})


def merge(log: LogRecord, piece: Piece) -> LogRecord:
    """The log with what one more part says; equal to `log` when that is nothing new."""
    state, part = _state(log), piece.log
    known_rank = int(state.get("rank", 0))
    part_holds = piece.rank >= known_rank
    low, high = (log, part) if part_holds else (part, log)
    messages, message_ns = _listed(
        (log.messages, state.get("message_ns", ())), (part.messages, piece.message_ns), part_holds=part_holds
    )
    output, choices = _listed(
        (log.output, state.get("choices", ())), (part.output, piece.choices), part_holds=part_holds
    )
    joined = {"rank": max(known_rank, piece.rank), "message_ns": message_ns, "choices": choices}
    return msgspec.structs.replace(
        log,
        **{name: _either(getattr(high, name), getattr(low, name)) for name in _FILLED},
        ts_ms=min(log.ts_ms, part.ts_ms),
        messages=messages,
        output=output,
        operation=high.operation,
        status="error" if "error" in (log.status, part.status) else "ok",
        error=high.error or low.error,
        params=_union(low.params, high.params),
        usage=Usage(
            input_tokens=_either(high.usage.input_tokens, low.usage.input_tokens),
            output_tokens=_either(high.usage.output_tokens, low.usage.output_tokens),
        ),
        tags=tuple(sorted({*log.tags, *part.tags})),
        metadata={**low.metadata, **high.metadata},
        extra=_extra(_own(low.extra), _own(high.extra)) | {JOINED: {name: at for name, at in joined.items() if at}},
    )


def with_note(log: LogRecord, note: TraceNote) -> LogRecord:
    """The log with what its trace says about all calls; what the log says itself goes first."""
    return msgspec.structs.replace(
        log,
        user_id=_either(log.user_id, note.user_id),
        session_id=_either(log.session_id, note.session_id),
        app=_either(log.app, note.app),
        tags=tuple(sorted({*log.tags, *note.tags})) if note.tags else log.tags,
        metadata={**note.metadata, **log.metadata},
    )


def merge_notes(note: TraceNote, more: TraceNote) -> TraceNote:
    """Both notes in one; where they differ the later word holds."""
    return TraceNote(
        trace_id=note.trace_id,
        user_id=_either(more.user_id, note.user_id),
        session_id=_either(more.session_id, note.session_id),
        app=_either(more.app, note.app),
        tags=tuple(sorted({*note.tags, *more.tags})),
        metadata={**note.metadata, **more.metadata},
        log_ids=tuple(dict.fromkeys((*note.log_ids, *more.log_ids))),
    )


_Placed = tuple[tuple[Message, ...], Sequence[int]]  # messages, and the place of each where they come one by one


def _listed(known: _Placed, new: _Placed, *, part_holds: bool) -> tuple[tuple[Message, ...], list[int]]:
    """Messages that come one by one are put in the order of their places; a whole list goes before those, and replaces another."""
    (known_messages, known_places), (new_messages, new_places) = known, new
    if not new_messages or (known_messages and not known_places and new_places):
        return known_messages, list(known_places)
    if not known_messages or (known_places and not new_places):
        return new_messages, list(new_places)
    if not new_places:
        return new_messages if part_holds else known_messages, []
    placed = list(zip(known_places, known_messages, strict=True))
    placed += [entry for entry in zip(new_places, new_messages, strict=True) if entry not in placed]
    placed.sort(key=lambda entry: (entry[0], msgspec.json.encode(entry[1])))
    return tuple(message for _, message in placed), [place for place, _ in placed]


def _state(log: LogRecord) -> Mapping[str, Any]:
    found = log.extra.get(JOINED) if isinstance(log.extra, dict) else None
    return found if isinstance(found, dict) else {}


def _own(extra: Any) -> Any:
    return {name: item for name, item in extra.items() if name != JOINED} if isinstance(extra, dict) else extra


def _extra(low: Any, high: Any) -> dict[str, Any]:
    return {**_as_object(low), **_as_object(high)}


def _as_object(extra: Any) -> dict[str, Any]:
    if extra is None:
        return {}
    return extra if isinstance(extra, dict) else {"extra": extra}


def _union(low: Any, high: Any) -> Any:
    if isinstance(low, dict) and isinstance(high, dict):
        return {**low, **high}
    return _either(high, low)


def _either(first: Any, second: Any) -> Any:
    return second if first is None else first
