"""Which formats of rows there are, which of them a value is in, and what of it is not read. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from tunemill.curator_api import alpaca, openai_chat, preference, prompt_completion, sharegpt
from tunemill.curator_api.errors import InvalidRow
from tunemill.curator_api.rows import Row
from tunemill.curator_api.written import Written

MAX_NAME_CHARACTERS = 64  # of a member that is not read; names of members are the writer's
_TURN_MEMBERS = openai_chat.MESSAGE_MEMBERS | {"from", "value"}
_OURS = frozenset({"row_id", "parallel_tool_calls"})  # found again, or nothing that a row could say


class RowFormat(Protocol):
    """A module that reads and writes one format."""

    NAME: str
    MEMBERS: frozenset[str]
    LOSES: Mapping[str, str]  # what may not be in a value that is written, and what that means

    def to_value(self, row: Row, /) -> Written: ...
    def from_value(self, value: Mapping[str, Any], /) -> Row: ...


class Read(NamedTuple):
    """A row, the format that it came in, and the members of its value that no row has a place for."""

    row: Row
    format: str
    unread: frozenset[str]


_MODULES: tuple[RowFormat, ...] = (openai_chat, sharegpt, alpaca, prompt_completion, preference)
FORMATS: Mapping[str, RowFormat] = {module.NAME: module for module in _MODULES}
_KNOWN_BY: tuple[tuple[frozenset[str], RowFormat], ...] = (
    (frozenset({"preferred_output", "non_preferred_output"}), openai_chat),
    (frozenset({"conversations"}), sharegpt),
    (frozenset({"instruction", "chosen", "rejected"}), alpaca),
    (frozenset({"chosen", "rejected"}), preference),
    (frozenset({"messages"}), openai_chat),
    (frozenset({"prompt", "completion"}), prompt_completion),
    (frozenset({"instruction", "output"}), alpaca),
)  # the first whose members are all there and not null


def shape_of(value: Any) -> RowFormat:
    """The format that a value is in.

    Raises:
        InvalidRow: it is in none.
    """
    if isinstance(value, dict):
        there = {name for name, held in value.items() if held is not None}
        for members, module in _KNOWN_BY:
            if members <= there:
                return module
    shapes = "; ".join(" + ".join(sorted(members)) for members, _ in _KNOWN_BY)
    raise InvalidRow(f"not an object with the members of a known format: {shapes}")


def read_value(value: Any) -> Read:
    """The row in a value of any known format.

    Raises:
        InvalidRow: there is none; says what is wrong, never what the value holds.
    """
    module = shape_of(value)
    return Read(module.from_value(value), module.NAME, frozenset(_unread(value, module.MEMBERS)))


def read_line(line: bytes) -> Read:
    """The row in a line of JSON.

    Raises:
        InvalidRow: likewise.
    """
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRow("not JSON in UTF-8, or cut off") from error
    return read_value(value)


def _unread(value: Mapping[str, Any], members: frozenset[str]) -> Iterator[str]:
    for name, held in value.items():
        if name not in members:
            if held is not None and name not in _OURS:
                yield name[:MAX_NAME_CHARACTERS]
        elif isinstance(held, list):
            for turn in held:
                if isinstance(turn, dict) and name != "tools":
                    unknown = (inner for inner in turn if turn[inner] is not None and inner not in _TURN_MEMBERS)
                    yield from (f"{name}[].{inner[:MAX_NAME_CHARACTERS]}" for inner in unknown)
