"""Attributes whose names are paths (`gen_ai.prompt.0.content`) -> the lists and objects that they were made from."""

from collections.abc import Mapping, Sequence
from typing import Any

_MOST_STEPS = 16  # of one path; the conventions need 8


class _Node(dict[str, Any]):
    """An object or a list in the making; told apart from an attribute's value, which may be an object, too."""


def unflatten(attributes: Mapping[str, Any], prefix: str) -> tuple[list[dict[str, Any]], frozenset[str]]:
    """The objects in a flattened list, in the order of their numbers, and the names of the attributes that they hold.

    Args:
        prefix: the list's own name, without a dot at its end.
    """
    start = f"{prefix}."
    items: dict[int, _Node] = {}
    used = set()
    for name, value in attributes.items():
        if not name.startswith(start):
            continue
        number, *path = name[len(start) :].split(".", _MOST_STEPS)
        if (
            _is_number(number)
            and path
            and not _is_number(path[0])
            and _put(items.setdefault(int(number), _Node()), path, value)
        ):
            used.add(name)
    return [_made(items[number]) for number in sorted(items) if items[number]], frozenset(used)


def under(attributes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The attributes whose names begin so, by the rest of their names.

    Args:
        prefix: with the dot at its end.
    """
    return {name[len(prefix) :]: value for name, value in attributes.items() if name.startswith(prefix)}


def _is_number(step: str) -> bool:
    return step.isascii() and step.isdecimal() and len(step) < 10


def _put(node: _Node, path: Sequence[str], value: Any) -> bool:
    """Whether there is a place for this value: another name may have made a text of what this one needs as an object."""
    for step in path[:-1]:
        child = node.setdefault(step, _Node())
        if not isinstance(child, _Node):
            return False
        node = child
    if path[-1] in node:
        return False
    node[path[-1]] = value
    return True


def _made(node: Any) -> Any:
    if not isinstance(node, _Node):
        return node
    if all(_is_number(step) for step in node):
        return [_made(node[step]) for step in sorted(node, key=int)]
    return {step: _made(child) for step, child in node.items()}
