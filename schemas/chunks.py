"""The chunks of a streamed answer of OpenAI's completions API -> the answer as it would have come in one piece. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

_ONCE = frozenset(("id", "type", "role", "index"))  # a later chunk may say them again
_NOT_KEPT = frozenset(("object", "obfuscation"))  # the latter pads a chunk against readers of its length


class StreamedAnswer:
    """Grows with each chunk. An early end is fine: what came is used."""

    def __init__(self) -> None:
        self._answer: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: Any) -> None:
        """Take the next ChatCompletionChunk, or dict of that shape."""
        for name, value in _members(chunk).items():
            if name == "choices":
                for part in value or ():
                    _add(self._choices, _members(part))
            elif name not in _NOT_KEPT and value is not None:
                self._answer[name] = value

    def whole(self) -> dict[str, Any]:
        """A dict in the shape of a ChatCompletion, or of a text completion."""
        return {**self._answer, "choices": [_finished(self._choices[index]) for index in sorted(self._choices)]}


def assemble(chunks: Iterable[Any]) -> dict[str, Any]:
    """A dict in the shape of a ChatCompletion, or of a text completion, of all chunks in order."""
    answer = StreamedAnswer()
    for chunk in chunks:
        answer.add(chunk)
    return answer.whole()


def _add(choices: dict[int, dict[str, Any]], part: Mapping[str, Any]) -> None:
    choice = choices.setdefault(part.get("index") or 0, {})
    for name, value in part.items():
        if name in ("delta", "message"):
            _add_delta(choice.setdefault("message", {"role": "assistant"}), _members(value))
        elif name == "finish_reason":
            choice[name] = choice.get(name) if value is None else value
        else:
            _grow(choice, name, value)


def _add_delta(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value or ():
                _add_call(message.setdefault(name, {}), _members(call))
        else:
            _grow(message, name, value)


def _add_call(calls: dict[int, dict[str, Any]], part: Mapping[str, Any]) -> None:
    """A call's pieces carry its position; its id comes once, its arguments bit by bit."""
    call = calls.setdefault(part.get("index") or 0, {})
    for name, value in part.items():
        if name != "index":
            _grow(call, name, value)


def _grow(target: dict[str, Any], name: str, value: Any) -> None:
    """Text and lists go on where they stopped, objects field by field; of anything else the last word holds."""
    if value is None:
        return
    known = target.get(name)
    if isinstance(value, str) and isinstance(known, str) and name not in _ONCE:
        target[name] = known + value
    elif isinstance(value, list):
        target[name] = known if isinstance(known, list) else []  # never the chunk's own list
        target[name].extend(value)
    elif isinstance(value, str | int | float):
        target[name] = value
    else:
        inner = target[name] = known if isinstance(known, dict) else {}
        for key, item in _members(value).items():
            _grow(inner, key, item)


def _finished(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if message is None:
        return choice if "text" in choice else {**choice, "message": {"role": "assistant"}}
    calls = message.get("tool_calls")
    return choice if calls is None else {**choice, "message": {**message, "tool_calls": _in_order(calls)}}


def _in_order(calls: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [calls[position] for position in sorted(calls)]


def _members(thing: Any) -> Mapping[str, Any]:
    """The fields of a dict, or of an object such as openai's, with those that its class does not name."""
    if thing is None:
        return {}
    if isinstance(thing, Mapping):
        return thing
    return {**vars(thing), **(getattr(thing, "model_extra", None) or {})}
