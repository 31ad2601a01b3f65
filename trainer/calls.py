"""Tool calls in what a model wrote, whatever its template makes of them, against the calls that a row expects. Pure.

Families write a call in brackets of their own (`<tool_call>`, `[TOOL_CALLS]`, `<|python_tag|>`, `### Call:`), and inside is JSON:
an object with `name` and `arguments` or `parameters`, or a list of them. So the JSON values of an answer are looked at, and no more.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

_DECODER = json.JSONDecoder()
_ARGUMENTS = ("arguments", "parameters")


class Call(msgspec.Struct, frozen=True):
    """A function's name and its arguments; as text where they are no JSON."""

    name: str
    arguments: Any


def expected_calls(message: Mapping[str, Any]) -> tuple[Call, ...]:
    """The calls of an assistant message in OpenAI's shape."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return tuple(Call(function["name"], _value(function["arguments"])) for function in functions)


def written_calls(answer: str) -> tuple[Call, ...]:
    """The calls that an answer's text holds, in order."""
    return tuple(call for value in _json_values(answer) for call in _calls(value))


def name_share(expected: Sequence[Call], written: Sequence[Call]) -> float | None:
    """The share of calls with the right name, place by place; a call too many counts against it. None if none is expected."""
    return _share(expected, [a.name == b.name for a, b in zip(expected, written, strict=False)], written)


def call_share(expected: Sequence[Call], written: Sequence[Call]) -> float | None:
    """The share of calls with the right name and equal arguments, counted alike."""
    pairs = zip(expected, written, strict=False)
    return _share(expected, [a.name == b.name and equal(a.arguments, b.arguments) for a, b in pairs], written)


def equal(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same: to Python `true` is 1, to JSON it is not."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def _share(expected: Sequence[Call], right: Sequence[bool], written: Sequence[Call]) -> float | None:
    return sum(right) / max(len(expected), len(written)) if expected else None


def _json_values(text: str) -> Iterator[Any]:
    """Every outermost JSON object or list in a text."""
    place = 0
    while (place := _next_bracket(text, place)) >= 0:
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
        else:
            yield value


def _next_bracket(text: str, start: int) -> int:
    places = [place for bracket in "{[" if (place := text.find(bracket, start)) >= 0]
    return min(places, default=-1)


def _calls(value: Any) -> Iterator[Call]:
    if isinstance(value, list):
        for item in value:
            yield from _calls(item)
    elif isinstance(value, dict):
        if isinstance(value.get("function"), dict):
            yield from _calls(value["function"])
        elif isinstance(value.get("name"), str) and (key := next((key for key in _ARGUMENTS if key in value), None)):
            yield Call(value["name"], _value(value[key]))


def _value(arguments: Any) -> Any:
    """Arguments as a value, also where they are JSON text inside JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
