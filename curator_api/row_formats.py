"""Which formats of rows there are, which of them a value is in, and what of it is not read. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from tunemill.curator_api import alpaca, openai_chat, preference, prompt_completion, sharegpt
from tunemill.curator_api.column_names import OF_SETS, Names, names_in, renamed
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
KNOWN_MEMBERS = frozenset[str]().union(*(module.MEMBERS for module in _MODULES))
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
        if module := _known(value):
            return module
        if value.get("text") is not None:
            raise InvalidRow(
                "`text` is for pre-training: nobody asks in it and nobody answers, and rows are conversations"
            )
    shapes = "; ".join(" + ".join(sorted(members)) for members in (*(known for known, _ in _KNOWN_BY), *OF_SETS))
    raise InvalidRow(f"not an object with the members of a known format ({shapes}): --map says which columns they are")


def read_value(value: Any, names: Names | None = None) -> Read:
    """The row in a value of any known format.

    Args:
        names: what a person says that its members are called.

    Raises:
        InvalidRow: there is none; says what is wrong, never what the value holds.
    """
    if isinstance(value, dict):
        value = renamed(value, names) if names else value
        if not _known(value) and (names := names_in(value)):
            value = renamed(value, names)
    module = shape_of(value)
    try:
        row = module.from_value(value)
    except InvalidRow as error:
        called = ", ".join(
            f"`{name}` is read as `{member}`" for name, member in (names or {}).items() if name != member
        )
        raise InvalidRow(f"{error.detail} ({called})") if called else error from error
    return Read(row, module.NAME, frozenset(_unread(value, module.MEMBERS)))


def read_line(line: bytes, names: Names | None = None) -> Read:
    """The row in a line of JSON.

    Raises:
        InvalidRow: likewise.
    """
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRow("not JSON in UTF-8, or cut off") from error
    return read_value(value, names)


def _known(value: Mapping[str, Any]) -> RowFormat | None:
    there = {name for name, held in value.items() if held is not None}
    return next((module for members, module in _KNOWN_BY if members <= there), None)


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
