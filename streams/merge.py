"""Parts of one call -> the call. Pure: the same parts give the same log, in whatever order and however often they come.

What a log says is taken apart into slots: a field, a name inside `usage`, `params` or `metadata`, or one of the two upper levels
of `extra`. In each slot the part of the highest rank holds; a trace's note ranks below every part. The log remembers in
`extra.joined` which rank holds which slot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tunemill.schemas.records import LogRecord, Message, Usage
from tunemill.schemas.trace import TraceNote
from tunemill.streams.formats.shape import Piece

JOINED = "joined"  # under this name `extra` holds what a later part needs to know about the earlier ones
MAX_LOG_IDS = 1000  # of one trace; a note that comes after more calls does not reach back to the later of them
MAX_NOTE_BYTES = 64 * 2**10  # of what is said about one trace: it is kept with each of its calls

_WHOLE = 1_000_000  # the rank of a log that came in one: a part of it that comes, too, only fills what it left open
_NOTE = -1
_DERIVED = -2  # worked out from other slots, and again with each part

_USAGE = ("input_tokens", "output_tokens")
_OBJECTS = ("params", "metadata", "extra")
_PLAIN = tuple(
    name
    for name in LogRecord.__struct_fields__
    if name not in {*_OBJECTS, "log_id", "ts_ms", "messages", "output", "usage", "status", "tags"}
)
_DEFAULTS = {  # a part that holds one of these has not said so
    entry.name: entry.default for entry in msgspec.structs.fields(LogRecord) if isinstance(entry.default, str)
}
_NOTED = ("user_id", "session_id", "app")

_Slot = tuple[str, ...]  # a field, and the names inside it
_Placed = dict[tuple[int, bytes], Message]  # messages that come one by one, by their place and their JSON


class _Joined(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a log remembers of its parts."""

    rank: int = _WHOLE  # the highest
    ranks: dict[str, int] = {}  # of the slots that are held by a part of another rank
    message_ns: list[int] = []
    choices: list[int] = []
    end_ms: float | None = None


@dataclass(slots=True, kw_only=True)
class _Told:
    """What one part says, or all parts so far."""

    rank: int
    slots: dict[_Slot, tuple[int, Any]]  # the rank of the part that holds it, and its value
    messages: _Placed = field(default_factory=dict)
    output: _Placed = field(default_factory=dict)
    ts_ms: int
    end_ms: float | None = None
    is_error: bool = False
    tags: frozenset[str] = field(default_factory=frozenset)


def join(log: LogRecord | None, pieces: Sequence[Piece]) -> tuple[LogRecord, list[bool]]:
    """The log with what these parts say, in their order, and of each part whether it said anything new.

    Args:
        log: what there is of it; None: the first part begins it.
    """
    told = _told_by_piece(pieces[0]) if log is None else _told_by_log(log)
    is_new = [True] if log is None else []
    is_new += [_hear(told, _told_by_piece(piece)) for piece in pieces[len(is_new) :]]
    if log is not None and not any(is_new):
        return log, is_new
    return _as_log(log.log_id if log else pieces[0].log.log_id, told), is_new


def begun(piece: Piece) -> LogRecord:
    """The log as its first part tells it."""
    return join(None, [piece])[0]


def merge(log: LogRecord, piece: Piece) -> LogRecord:
    """The log with what one more part says; `log` itself when that is nothing new."""
    return join(log, [piece])[0]


def with_note(log: LogRecord, note: TraceNote) -> LogRecord:
    """The log with what its trace says about all calls; what the log's own parts say goes first."""
    said: dict[_Slot, Any] = {(name,): getattr(note, name) for name in _NOTED}
    said |= {("metadata", key): value for key, value in note.metadata.items()}
    slots = {slot: (_NOTE, value) for slot, value in said.items() if value is not None}
    told = _told_by_log(log)
    is_new = _hear(told, _Told(rank=_NOTE, slots=slots, ts_ms=log.ts_ms, tags=frozenset(note.tags)))
    return _as_log(log.log_id, told) if is_new else log


def holds(log: LogRecord, said: LogRecord) -> bool:
    """Whether the log says all that another does, as one that grew from it would, whatever else it says.

    Not when: what says no time of its own has that of its message, and may come in several.
    """
    known = _said(log)
    return (
        all(known.get(slot) == value for slot, value in _said(said).items())
        and said.messages in ((), log.messages)
        and said.output in ((), log.output)
        and said.status in ("ok", log.status)
        and {*said.tags} <= {*log.tags}
    )


def merge_notes(note: TraceNote, more: TraceNote) -> TraceNote:
    """Both notes in one; where they differ the later word holds. What there is no room for is left out: tags and metadata first."""
    log_ids = tuple(dict.fromkeys((*note.log_ids, *more.log_ids)))[:MAX_LOG_IDS]
    for said in (more, msgspec.structs.replace(more, tags=(), metadata={})):
        both = TraceNote(
            trace_id=note.trace_id,
            **{name: _either(getattr(said, name), getattr(note, name)) for name in _NOTED},
            tags=tuple(sorted({*note.tags, *said.tags})),
            metadata={**note.metadata, **said.metadata},
        )
        if len(msgspec.json.encode(both)) <= MAX_NOTE_BYTES:
            return msgspec.structs.replace(both, log_ids=log_ids)
    return msgspec.structs.replace(note, log_ids=log_ids)


def holds_note(note: TraceNote, said: TraceNote) -> bool:
    """Whether all that was said has a place in the note, or a later word in its place."""
    is_named = all(getattr(note, name) is not None for name in _NOTED if getattr(said, name) is not None)
    return is_named and note.metadata.keys() >= said.metadata.keys() and {*note.tags} >= {*said.tags}


def _hear(known: _Told, new: _Told) -> bool:
    """Add one part to what is known; whether it said anything new. Of two parts of one rank the later word holds."""
    is_new = _hear_slots(known.slots, new.slots)
    for name in ("messages", "output"):
        placed: _Placed = getattr(known, name)
        if (name,) in known.slots:  # a whole list goes before messages that come one by one, and is all that is kept
            placed.clear()
            continue
        fresh = {at: message for at, message in getattr(new, name).items() if at not in placed}
        placed |= fresh
        is_new |= bool(fresh)
    ends = [end for end in (known.end_ms, new.end_ms) if end is not None]
    rest = (
        max(known.rank, new.rank),
        min(known.ts_ms, new.ts_ms),
        max(ends, default=None),
        known.is_error or new.is_error,
        known.tags | new.tags,
    )
    is_new |= rest != (known.rank, known.ts_ms, known.end_ms, known.is_error, known.tags)
    known.rank, known.ts_ms, known.end_ms, known.is_error, known.tags = rest
    return is_new


def _hear_slots(known: dict[_Slot, tuple[int, Any]], new: Mapping[_Slot, tuple[int, Any]]) -> bool:
    is_new = False
    around = {slot[:-1] for slot in (*known, *new) if len(slot) > 2}
    for slot, held in new.items():
        before = known.get(slot)
        if slot in around or held == before:  # what is inside goes before a value that holds no names
            continue
        if before is None or held[0] >= before[0]:
            known[slot] = held
            is_new = True
    for slot in around:
        known.pop(slot, None)
    return is_new


def _told_by_piece(piece: Piece) -> _Told:
    joined = _Joined(piece.rank, {}, list(piece.message_ns), list(piece.choices), piece.end_ms)
    return _told(piece.log, joined)


def _told_by_log(log: LogRecord) -> _Told:
    found = log.extra.get(JOINED) if isinstance(log.extra, dict) else None
    try:
        joined = msgspec.convert(found, _Joined)
    except msgspec.ValidationError:  # none, or of somebody else's making
        joined = _Joined()
    return _told(log, joined)


def _told(log: LogRecord, joined: _Joined) -> _Told:
    said = _said(log)
    messages, output = _placed(log.messages, joined.message_ns), _placed(log.output, joined.choices)
    if log.messages and not messages:
        said["messages",] = log.messages
    if log.output and not output:
        said["output",] = log.output
    ranks = {_path(slot): rank for slot, rank in joined.ranks.items()}
    ranked = {slot: (ranks.get(slot, joined.rank), value) for slot, value in said.items()}
    return _Told(
        rank=joined.rank,
        slots={slot: held for slot, held in ranked.items() if held[0] != _DERIVED},
        messages=messages,
        output=output,
        ts_ms=log.ts_ms,
        end_ms=joined.end_ms,
        is_error=log.status == "error",
        tags=frozenset(log.tags),
    )


def _said(log: LogRecord) -> dict[_Slot, Any]:
    """The value of each slot that holds one, less the messages."""
    said: dict[_Slot, Any] = {(name,): value for name in _PLAIN if (value := getattr(log, name)) != _DEFAULTS.get(name)}
    said |= {("usage", name): getattr(log.usage, name) for name in _USAGE}
    for name in _OBJECTS:
        found = getattr(log, name)
        for key, value in (found if isinstance(found, dict) else {name: found}).items():
            if name != "extra" or not isinstance(value, dict):
                said[name, key] = value
            elif key != JOINED:
                said |= {(name, key, inner): item for inner, item in value.items()}
    return {slot: value for slot, value in said.items() if value is not None}


def _text(slot: _Slot) -> str:
    """A slot as a JSON pointer spells it (RFC 6901)."""
    return "/".join(name.replace("~", "~0").replace("/", "~1") for name in slot)


def _path(text: str) -> _Slot:
    return tuple(name.replace("~1", "/").replace("~0", "~") for name in text.split("/"))


def _placed(messages: tuple[Message, ...], places: Sequence[int]) -> _Placed:
    """The messages by their places; nothing where they came as a whole list."""
    if len(places) != len(messages):
        return {}
    return {(at, msgspec.json.encode(message)): message for at, message in zip(places, messages, strict=True)}


def _as_log(log_id: str, told: _Told) -> LogRecord:
    slots = dict(told.slots)
    if ("latency_ms",) not in slots and told.end_ms is not None and told.end_ms >= told.ts_ms:
        slots["latency_ms",] = (_DERIVED, told.end_ms - told.ts_ms)
    fields = _fields(slots)
    messages, output = sorted(told.messages), sorted(told.output)
    joined = _Joined(
        rank=told.rank,
        ranks={_text(slot): rank for slot, (rank, _) in sorted(slots.items()) if rank != told.rank},
        message_ns=[place for place, _ in messages],
        choices=[place for place, _ in output],
        end_ms=told.end_ms,
    )
    remembered = msgspec.to_builtins(joined)
    whole = {
        "messages": tuple(told.messages[at] for at in messages),
        "output": tuple(told.output[at] for at in output),
        **fields,
        "usage": Usage(**fields.get("usage", {})),
        "extra": fields.get("extra", {}) | ({JOINED: remembered} if remembered else {}) or None,
    }
    status = "error" if told.is_error else "ok"
    return LogRecord(log_id=log_id, ts_ms=told.ts_ms, status=status, tags=tuple(sorted(told.tags)), **whole)


def _fields(slots: Mapping[_Slot, tuple[int, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for slot, (_, value) in slots.items():
        inside = fields
        for name in slot[:-1]:
            inside = inside.setdefault(name, {})
        inside[slot[-1]] = value
    return fields


def _either(first: Any, second: Any) -> Any:
    return second if first is None else first
