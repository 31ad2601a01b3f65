"""What a wire shape is: how it is recognised and how it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tunemill.schemas.records import Feedback, LogRecord
from tunemill.schemas.trace import TraceNote
from tunemill.streams.errors import Undecodable

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a call that its source tells in several: parts with one `log_id` are joined, in whatever order they come."""

    log: LogRecord  # what this part says; its messages may be empty
    rank: int = 1  # of two parts that say a field differently the one of higher rank holds
    message_ns: tuple[int, ...] = ()  # the time of each of `log.messages`, where each comes in a part of its own
    choices: tuple[int, ...] = ()  # the number of each of `log.output`, where each comes in a part of its own
    end_ms: float | None = None  # when the call ended, where its begin may be told in another part
    note: TraceNote | None = None  # what the part says about every call of its trace


@dataclass(frozen=True, slots=True)
class NotACall:
    """Something that is told beside calls and is none: a span of a database, an embedding, a trace that says nothing."""

    kind: str  # from a bounded list: it labels a counter


Reading = LogRecord | Piece | TraceNote | Feedback | NotACall


@dataclass(frozen=True, slots=True)
class Arrival:
    """What we know of a record without reading it; stands in for what its producer left out."""

    log_id: str  # a digest of its bytes
    ts_ms: int  # when its message was published


@dataclass(frozen=True, slots=True)
class Shape:
    """One accepted shape. `matches` looks at field names only; `read` raises `Undecodable`."""

    name: str
    matches: Callable[[Mapping[str, Any]], bool]
    read: Callable[[JsonObject, Arrival], Reading]
    about: str = ""  # one line for a person


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a log that any shape may carry beside its messages, under the names of `LogRecord`."""

    log_id: str | None = None
    ts_ms: int | None = None
    project: str | None = None
    app: str | None = None
    provider: str | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    trace_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    consent: str | None = None


ENVELOPE_FIELDS = frozenset(Envelope.__struct_fields__)


def read_envelope(value: Mapping[str, Any]) -> Envelope:
    """The envelope fields of a record.

    Raises:
        Undecodable: one has another type than it should.
    """
    given = {name: value[name] for name in ENVELOPE_FIELDS if value.get(name) is not None}
    try:
        return msgspec.convert(given, Envelope)
    except msgspec.ValidationError as error:
        raise Undecodable("invalid", str(error)) from error


def as_fields(envelope: Envelope, arrival: Arrival) -> JsonObject:
    """The envelope as arguments of `LogRecord`, less what was not given; id and time come from the arrival if need be."""
    fields = {name: value for name, value in msgspec.structs.asdict(envelope).items() if value is not None}
    fields["log_id"] = envelope.log_id or arrival.log_id
    fields["ts_ms"] = arrival.ts_ms if envelope.ts_ms is None else envelope.ts_ms
    return fields


def read_metadata(value: Any) -> dict[str, str]:
    """Key-value pairs of text; a value that is not text is kept as its JSON.

    Raises:
        Undecodable: it is not an object.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Undecodable("invalid", "metadata is not an object")
    return {key: item if isinstance(item, str) else msgspec.json.encode(item).decode() for key, item in value.items()}


def left_over(value: Mapping[str, Any], used: frozenset[str]) -> JsonObject:
    """What no field of the log holds: the other fields, less those that are null or empty."""
    return {key: item for key, item in value.items() if key not in used and item not in (None, [], {}, "")}


def as_extra(pieces: Mapping[str, Any]) -> Any:
    """`extra` from what was left over of each part of the record; None when nothing was."""
    return {name: piece for name, piece in pieces.items() if piece} or None
