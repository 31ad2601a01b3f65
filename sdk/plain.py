"""Values as an application holds them -> values that JSON holds. OpenAI's objects are read by shape; `openai` is not imported."""

from collections.abc import Mapping, Sequence
from typing import Any

_UNSET = frozenset({"Omit", "NotGiven"})  # what openai's client passes for an argument that was not given


def plain(value: Any) -> Any:
    """A copy made of dicts, lists and scalars; pydantic models as dicts without unset fields.

    What JSON cannot hold is named by its type, in angle brackets, so that the rest of the log is kept.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if not is_unset(item)}
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return plain(value.model_dump(exclude_unset=True))
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [plain(item) for item in value if not is_unset(item)]
    return f"<{type(value).__name__}>"


def is_unset(value: Any) -> bool:
    """Whether this stands for an argument that was not given."""
    return type(value).__name__ in _UNSET
