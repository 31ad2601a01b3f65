"""The attributes of one span, read name by name: what has been read is remembered, so that the rest can be kept."""

import math
from collections.abc import Mapping
from typing import Any

from tunemill.schemas.records import Usage
from tunemill.streams.formats.flattened import under, unflatten
from tunemill.streams.formats.json_text import read_json
from tunemill.streams.formats.span import Attributes


class Reader:
    """Reads attributes. One of another type than asked for counts as not read: it is kept with what no field holds.

    Attributes:
        used: the names that were read.
    """

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self.used: set[str] = set()

    def text(self, *names: str) -> str | None:
        """The first of these that is text and not empty; the others count as read only if they say the same."""
        for name in names:
            value = self._attributes.get(name)
            if isinstance(value, str) and value:
                self.used.update(other for other in names if self._attributes.get(other) == value)
                return value
        return None

    def count(self, *names: str) -> int | None:
        """The first of these that is a whole number, not negative."""
        for name in names:
            value = self._attributes.get(name)
            if type(value) is int and value >= 0:
                self.used.add(name)
                return value
        return None

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self._attributes.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        try:
            number = float(value)
        except OverflowError:  # a whole number of hundreds of digits
            return None
        if not math.isfinite(number):
            return None
        self.used.add(name)
        return number

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a list, which may be JSON; empty when it is no such list."""
        value = read_json(self._attributes.get(name))
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return ()
        self.used.add(name)
        return tuple(value)

    def object(self, name: str) -> dict[str, Any]:
        """An object, which may be JSON; empty when it is none."""
        value = read_json(self._attributes.get(name))
        if not isinstance(value, dict):
            return {}
        self.used.add(name)
        return value

    def value(self, name: str) -> Any:
        """Whatever stands there; None when nothing does."""
        if name in self._attributes:
            self.used.add(name)
        return self._attributes.get(name)

    def items(self, name: str, *, is_wanted: bool = True) -> list[dict[str, Any]]:
        """The objects of a flattened list.

        Args:
            is_wanted: or else they count as read only.
        """
        if not is_wanted:
            self.under(f"{name}.")
            return []
        found, used = unflatten(self._attributes, name)
        self.used |= used
        return found

    def under(self, prefix: str) -> dict[str, Any]:
        """The attributes whose names begin so, by the rest of their names."""
        found = under(self._attributes, prefix)
        self.used.update(prefix + rest for rest in found)
        return found

    def left(self, *prefixes: str) -> dict[str, Any]:
        """The attributes whose names begin so and that have not been read yet, by the rest of their names."""
        found = {}
        for name, value in self._attributes.items():
            if name.startswith(prefixes) and name not in self.used and value is not None:
                found[name[len(next(prefix for prefix in prefixes if name.startswith(prefix))) :]] = value
                self.used.add(name)
        return found

    def drop(self, *names: str) -> None:
        """These are not wanted: they tell again what others tell."""
        self.used.update(name for name in names if name in self._attributes)


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `LogRecord`, less those about which nothing was said."""
    return {name: item for name, item in fields.items() if item not in (None, (), [], {}, Usage())}
