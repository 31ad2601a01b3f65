"""The chunks of a streamed answer -> the answer as it would have come in one piece."""

from collections.abc import Iterable, Mapping
from typing import Any

_TEXTS = ("content", "refusal", "reasoning", "reasoning_content")
_ONCE = ("id", "model", "system_fingerprint", "service_tier")


def assemble(chunks: Iterable[Any]) -> dict[str, Any]:
    """A dict in the shape of a ChatCompletion.

    Args:
        chunks: ChatCompletionChunks or dicts of that shape, in order. An early end is fine: what came is used.
    """
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for name in _ONCE:
            _set(answer, name, _get(chunk, name))
        _set(answer, "usage", _get(chunk, "usage"))
        for part in _get(chunk, "choices") or ():
            _add(choices.setdefault(_get(part, "index") or 0, {"message": {"role": "assistant"}}), part)
    return {**answer, "choices": [choices[index] for index in sorted(choices)]}


def _add(choice: dict[str, Any], part: Any) -> None:
    _set(choice, "finish_reason", _get(part, "finish_reason"))
    delta = _get(part, "delta")
    if delta is None:
        return
    message = choice["message"]
    _set(message, "role", _get(delta, "role"))
    for name in _TEXTS:
        _append(message, name, _get(delta, name))
    legacy = _get(delta, "function_call")
    if legacy is not None:
        _add_function(message.setdefault("function_call", {}), legacy)
    for call in _get(delta, "tool_calls") or ():
        _add_call(message.setdefault("tool_calls", []), call)


def _add_call(calls: list[dict[str, Any]], part: Any) -> None:
    """A call's pieces carry its position; its id and name come once, its arguments bit by bit."""
    position = _get(part, "index") or 0
    while len(calls) <= position:
        calls.append({"function": {}})
    _set(calls[position], "id", _get(part, "id"))
    function = _get(part, "function")
    if function is not None:
        _add_function(calls[position]["function"], function)


def _add_function(function: dict[str, Any], part: Any) -> None:
    _append(function, "name", _get(part, "name"))
    _append(function, "arguments", _get(part, "arguments"))


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _set(target: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        target[name] = value


def _append(target: dict[str, Any], name: str, piece: str | None) -> None:
    if piece is not None:
        target[name] = target.get(name, "") + piece
