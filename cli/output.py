"""What the client commands print. Text from logs is shown as text: no markup, and nothing that a terminal would obey."""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

_ID_CHARACTERS = 26  # a ULID, which may not be cut
_KEPT = "\n\t"
_HIDDEN = frozenset({"Cc", "Cf"})  # control characters, and those that change the direction of text


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def say(text: str = "") -> None:
    """A line for a person, on standard output."""
    Console(highlight=False).print(Text(safe(text)), soft_wrap=True)


def say_text(text: Text) -> None:
    """A line for a person with styles of its own."""
    Console(highlight=False).print(text, soft_wrap=True)


def complain(text: str) -> None:
    """A line about what went wrong, on standard error."""
    typer.secho(f"tunemill: {safe(text)}", fg="red", err=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table for a person; an empty one says so."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, overflow="fold")  # nothing is cut: ids are copied from here
    shown.columns[0].no_wrap = True  # the name or id that other commands take
    shown.columns[0].min_width = _ID_CHARACTERS
    for row in rows:
        shown.add_row(*(Text(safe(cell(value))) for value in row))
    if shown.row_count:
        Console(highlight=False).print(shown)
    else:
        say("none")


def fields(values: Mapping[str, Any], *, indent: str = "") -> None:
    """Named values, one a line, with what lies inside them indented."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            say(f"{indent}{name}:")
            fields(value, indent=indent + "  ")
        else:
            say(f"{indent}{name}: {when(value) if name.endswith('_ms') else cell(value)}")


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(item)}" for name, item in value.items())
    return str(value)


def when(ts_ms: Any) -> str:
    """A time as people read it, UTC."""
    if not isinstance(ts_ms, int | float):
        return "-"
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def safe(text: str) -> str:
    """The text without control characters: a log may hold sequences that would move a terminal's cursor or retitle its window."""
    return "".join(char if char in _KEPT or unicodedata.category(char) not in _HIDDEN else "\ufffd" for char in text)


def tell(answer: Any, told: str, *, as_json: bool) -> None:
    """Say what was done, or print the API's answer."""
    if as_json:
        print_json(answer)
    else:
        say(told)
