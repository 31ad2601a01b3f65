"""What a format makes of a row: a JSON object, and what of the row is not in it. Pure."""

from collections.abc import Mapping
from typing import NamedTuple


class Written(NamedTuple):
    """A row in a format."""

    value: Mapping[str, object] | None  # None: the format cannot hold such a row
    lost: tuple[str, ...] = ()  # why, or what is missing in the value: of the format's LOSES
