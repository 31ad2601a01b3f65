"""A span and a log record of OpenTelemetry as plain values, and what a dialect makes of a span."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Attributes = Mapping[str, Any]  # OTLP's AnyValue as Python's own types; bytes as base64 text


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened during a span."""

    name: str
    time_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    """One operation of a trace. Ids are lower-case hexadecimal, times nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    resource: Attributes  # of the process that made it: service.name and the like
    scope: str  # the instrumentation library's name
    parent_span_id: str | None = None
    events: tuple[SpanEvent, ...] = ()
    is_error: bool = False
    status_message: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What one dialect found in a span."""

    is_call: bool  # whether it tells a call of a model that generates; embeddings, tools, agents and chains are none
    fields: Mapping[str, Any]  # of `LogRecord`, those that it says something about, ready to be passed to it
    used: frozenset[str]  # the names of the attributes that `fields` holds; the others go to `extra`
    note: Mapping[str, Any] = field(default_factory=dict)  # fields of `TraceNote` that hold for the whole trace
    kind: str = "span"  # of what is no call, from a bounded list: embeddings, tool, agent, chain, retrieval, span


@dataclass(frozen=True, slots=True)
class Dialect:
    """One convention of naming a span's attributes. `matches` looks at names only; `read` raises `Undecodable`."""

    name: str
    matches: Callable[[Span], bool]
    read: Callable[[Span], Told]
