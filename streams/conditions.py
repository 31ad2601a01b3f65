"""Which logs meet those conditions of a rule that look for no pattern. Pure."""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from tunemill.schemas.records import LogRecord, Message
from tunemill.streams.rule import Condition, Has, Measure
from tunemill.streams.text import Texts

Logs = Sequence[tuple[LogRecord, Texts]]
# Of each log, whether it meets a condition. All at once: a call for each would cost more than the look at it.
Test = Callable[[Logs], Iterable[bool]]


def test_of(condition: Condition) -> Test:
    """How logs are held to a condition that looks for no pattern."""
    if condition.has is not None:
        return _HAS[condition.has]
    if condition.field is not None:
        measure, (low, high) = _MEASURES[condition.field], condition.bounds
        return lambda logs: [size is not None and low < size < high for size in measure(logs)]
    name, given = condition.values or ("", ())
    value, allowed = attrgetter(name), frozenset(given)
    return lambda logs: [value(log) in allowed for log, _ in logs]


def _has_tools(logs: Logs) -> list[bool]:
    return [bool(log.tools) for log, _ in logs]


def _has_output(logs: Logs) -> list[bool]:
    return [any(map(_says_something, log.output)) for log, _ in logs]


def _says_something(message: Message) -> bool:
    return bool(message.tool_calls or (message.content and not message.content.isspace()))


def _has_tool_calls(logs: Logs) -> list[bool]:
    return [any(map(_TOOL_CALLS, log.output)) for log, _ in logs]


def _has_tool_results(logs: Logs) -> list[bool]:
    return ["tool" in map(_ROLE, log.messages) for log, _ in logs]


def _has_refusal(logs: Logs) -> list[bool]:
    return [any(map(_REFUSAL, log.output)) for log, _ in logs]


def _has_media(logs: Logs) -> list[bool]:
    return [any(map(_is_media, filter(None, map(_PARTS, (*log.messages, *log.output))))) for log, _ in logs]


def _is_media(parts: Any) -> bool:
    """Whether one of these content parts is an image, audio, a file or the like."""
    listed = parts if isinstance(parts, list | tuple) else ()
    return any(isinstance(part, dict) and part.get("type") not in ("text", "refusal", None) for part in listed)


_ROLE, _PARTS, _REFUSAL, _TOOL_CALLS = map(attrgetter, ("role", "parts", "refusal", "tool_calls"))
_HAS: dict[Has, Test] = {
    "tool_calls": _has_tool_calls,
    "tool_results": _has_tool_results,
    "tools": _has_tools,
    "media": _has_media,
    "refusal": _has_refusal,
    "output": _has_output,
}
_MEASURES: dict[Measure, Callable[[Logs], Iterable[float | None]]] = {
    "latency_ms": lambda logs: [log.latency_ms for log, _ in logs],
    "cost_usd": lambda logs: [log.cost_usd for log, _ in logs],
    "input_tokens": lambda logs: [log.usage.input_tokens for log, _ in logs],
    "output_tokens": lambda logs: [log.usage.output_tokens for log, _ in logs],
    "messages": lambda logs: [len(log.messages) for log, _ in logs],
    "turns": lambda logs: [[message.role for message in log.messages].count("user") for log, _ in logs],
    "chars": lambda logs: [sum(map(len, texts.parts.values())) for _, texts in logs],
}
