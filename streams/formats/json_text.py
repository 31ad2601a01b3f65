"""JSON that stands as text in a field: attributes of spans hold lists and objects in no other way."""

from typing import Any

import msgspec

DEEPEST = 40  # a record may nest 64 deep, and what is read here stands somewhere inside one


def read_json(value: Any) -> Any:
    """The list or object that this text is the JSON of; any other value, and text nested too deep, as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):  # ValueError: numbers of thousands of digits
        return value
    may_be_deep = value.count("{") + value.count("[") > DEEPEST  # cheap, and true of few
    return value if may_be_deep and _is_deep(found) else found


def as_text(value: Any) -> str:
    """Text as it is, anything else as its JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return False
    return True
