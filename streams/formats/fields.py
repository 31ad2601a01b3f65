"""One field of a JSON object, of the type that it should have. Null is the same as not being there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import JsonObject


def read_text(value: Mapping[str, Any], name: str, where: str = "") -> str | None:
    """The text of a field.

    Args:
        where: what the object is called in the record, for the reason of a rejection.

    Raises:
        Undecodable: it is something else than text.
    """
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise Undecodable("invalid", f"{_path(where, name)} is not text")
    return found


def read_object(value: Mapping[str, Any], name: str, where: str = "") -> dict[str, Any]:
    """The object in a field; empty when there is none.

    Raises:
        Undecodable: it is something else than an object.
    """
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Undecodable("invalid", f"{_path(where, name)} is not an object")
    return found


def read_list(value: Mapping[str, Any], name: str, where: str = "") -> list[Any]:
    """The list in a field; empty when there is none.

    Raises:
        Undecodable: it is something else than a list.
    """
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Undecodable("invalid", f"{_path(where, name)} is not a list")
    return found


def read_count(value: Mapping[str, Any], *names: str, where: str = "") -> int | None:
    """The whole number of the first of these fields that is there.

    Raises:
        Undecodable: it is something else than a whole number.
    """
    for name in names:
        found = value.get(name)
        if isinstance(found, int) and not isinstance(found, bool):
            return found
        if found is not None:
            raise Undecodable("invalid", f"{_path(where, name)} is not a whole number")
    return None


def read_number(value: Mapping[str, Any], name: str, where: str = "") -> float | None:
    """The number of a field.

    Raises:
        Undecodable: it is something else than a number.
    """
    found = value.get(name)
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | float)):
        raise Undecodable("invalid", f"{_path(where, name)} is not a number")
    return found


def _path(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def read_typed(values: Sequence[Any], where: str) -> Iterator[tuple[JsonObject, str | None, str]]:
    """Each object of a list with its `type` and its place, such as the events of a stream.

    Raises:
        Undecodable: one is no object, or its type is no text.
    """
    for position, value in enumerate(values):
        place = f"{where}[{position}]"
        if not isinstance(value, dict):
            raise Undecodable("invalid", f"{place} is not an object")
        yield value, read_text(value, "type", place), place
