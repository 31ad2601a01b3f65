"""Values as an application holds them -> JSON. OpenAI's objects are read by shape; `openai` is not imported."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec

_UNSET = frozenset({"Omit", "NotGiven"})  # what openai's client passes for an argument that was not given
_DEEPEST = 48  # the server takes 64 levels, and the log adds its own
_INT_BITS = 64
# What openai's `parse` makes of an answer's text, where it puts it: it says nothing that the text doesn't.
_PARSED: dict[str, Any] = {
    "choices": {
        "__all__": {"message": {"parsed": True, "tool_calls": {"__all__": {"function": {"parsed_arguments"}}}}}
    },
    "output": {"__all__": {"parsed_arguments": True, "content": {"__all__": {"parsed"}}}},
}


def snapshot(value: Any) -> bytes:
    """The value as JSON, as it is now: what the application changes later does not matter.

    The usual goes through msgspec and pydantic in one pass; what these refuse is copied piece by piece and named by its type.
    """
    try:
        return msgspec.json.encode(value, enc_hook=_unusual)
    except Exception:
        return msgspec.json.encode(plain(value))


def plain(value: Any, depth: int = 0) -> Any:
    """A copy made of dicts, lists and scalars; pydantic models as dicts without unset fields.

    What JSON cannot hold is named by its type, in angle brackets, so that the rest of the log is kept.
    """
    try:
        return _plain(value, depth)
    except Exception:  # an application's own code: `__iter__`, `model_dump`, `keys`
        return _named(value)


def is_unset(value: Any) -> bool:
    """Whether this stands for an argument that was not given."""
    return type(value).__name__ in _UNSET


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, str | bool | int | float | msgspec.Raw):
        return _leaf(value)
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {_key(key): plain(item, depth + 1) for key, item in value.items() if not is_unset(item)}
        if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray):
            return [plain(item, depth + 1) for item in value if not is_unset(item)]
        if isinstance(value, msgspec.Struct):
            return plain(msgspec.structs.asdict(value), depth + 1)
        if hasattr(value, "model_dump") and not isinstance(value, type):
            return plain(value.model_dump(exclude_unset=True), depth + 1)
    return _named(value)


def _leaf(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):  # encoded by us before
        return msgspec.json.decode(value)
    if isinstance(value, str):
        return str.__str__(value).encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
    is_too_long = isinstance(value, int) and value.bit_length() > _INT_BITS
    return _named(value) if is_too_long else value


def _key(key: Any) -> str:
    return str(plain(key)) if isinstance(key, str | int | float | None) else _named(key)


def _named(value: Any) -> str:
    """A class by its own name, anything else by its type's."""
    return f"<{value.__name__ if isinstance(value, type) else type(value).__name__}>"


def _unusual(value: Any) -> Any:
    """What msgspec does not know, for it to encode."""
    kind = type(value)
    serializer = getattr(kind, "__pydantic_serializer__", None)
    if serializer is not None:
        # What `model_dump_json` calls, without its checks. Warnings would be about what the provider sent.
        exclude = _PARSED if kind.__name__.startswith("Parsed") else None
        return msgspec.Raw(serializer.to_json(value, exclude_unset=True, exclude=exclude, warnings=False))
    return None if is_unset(value) else plain(value)
