# ruff: noqa: SIM110  every test runs for every log, and a generator costs more than what it looks at
"""How a log is held to those conditions of a rule that look for no pattern. Pure."""

from collections.abc import Callable
from typing import Any

from tunemill.schemas.records import LogRecord
from tunemill.streams.rule import Condition, Has, Measure
from tunemill.streams.text import Texts

Test = Callable[[LogRecord, Texts], bool]


def test_of(condition: Condition) -> Test:
    """How a log is held to a condition that looks for no pattern."""
    if condition.has is not None:
        return _HAS[condition.has]
    if condition.field is not None:
        measure, (low, high) = _MEASURES[condition.field], condition.bounds
        return lambda log, texts: (size := measure(log, texts)) is not None and low < size < high
    name, given = condition.values or ("", ())
    allowed = frozenset(given)
    return lambda log, _texts: getattr(log, name) in allowed


def _has_tools(log: LogRecord, _texts: Texts) -> bool:
    return bool(log.tools)


def _has_output(log: LogRecord, _texts: Texts) -> bool:
    for message in log.output:
        if message.tool_calls or (message.content and not message.content.isspace()):
            return True
    return False


def _has_tool_calls(log: LogRecord, _texts: Texts) -> bool:
    for message in log.output:
        if message.tool_calls:
            return True
    return False


def _has_tool_results(log: LogRecord, _texts: Texts) -> bool:
    for message in log.messages:
        if message.role == "tool":
            return True
    return False


def _has_refusal(log: LogRecord, _texts: Texts) -> bool:
    for message in log.output:
        if message.refusal:
            return True
    return False


def _has_media(log: LogRecord, _texts: Texts) -> bool:
    for message in (*log.messages, *log.output):
        if message.parts and isinstance(message.parts, list | tuple) and any(map(_is_media, message.parts)):
            return True
    return False


def _is_media(part: Any) -> bool:
    """Whether a content part is an image, audio, a file or the like."""
    return isinstance(part, dict) and part.get("type") not in ("text", "refusal", None)


_HAS: dict[Has, Test] = {
    "tool_calls": _has_tool_calls,
    "tool_results": _has_tool_results,
    "tools": _has_tools,
    "media": _has_media,
    "refusal": _has_refusal,
    "output": _has_output,
}
_MEASURES: dict[Measure, Callable[[LogRecord, Texts], float | None]] = {
    "latency_ms": lambda log, _texts: log.latency_ms,
    "cost_usd": lambda log, _texts: log.cost_usd,
    "input_tokens": lambda log, _texts: log.usage.input_tokens,
    "output_tokens": lambda log, _texts: log.usage.output_tokens,
    "messages": lambda log, _texts: len(log.messages),
    "turns": lambda log, _texts: [message.role for message in log.messages].count("user"),
    "chars": lambda _log, texts: sum(map(len, texts.parts.values())),
}
