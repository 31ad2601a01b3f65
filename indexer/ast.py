"""The query language's tree: what the parser gives and the two compilers take. Frozen values; no text positions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Everything:
    """Matches every log."""


@dataclass(frozen=True, slots=True)
class Words:
    """Text that occurs in the log, in its analysed form; several words, or a word of several pieces, stand side by side.

    `part` is one of `fields.PARTS`; None: in any of them.
    """

    text: str
    part: str | None = None


@dataclass(frozen=True, slots=True)
class WordPrefix:
    """A word that begins so occurs in the log, or in one part of it."""

    text: str
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Is:
    """A field has exactly this value."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class StartsWith:
    """A field has a value that begins so; with an empty prefix: the field has any value."""

    field: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Between:
    """A number lies between two bounds; None: no bound on that side. For `ts`, milliseconds since the epoch."""

    field: str
    low: float | None
    high: float | None
    low_included: bool = True
    high_included: bool = True


@dataclass(frozen=True, slots=True)
class Not:
    """The item does not match."""

    item: Query


@dataclass(frozen=True, slots=True)
class And:
    """All items match; two or more of them."""

    items: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of the items matches; two or more of them."""

    items: tuple[Query, ...]


Query = Everything | Words | WordPrefix | Is | StartsWith | Between | Not | And | Or


def has_words(query: Query) -> bool:
    """Whether words decide how well a log fits; if not, there is no relevance to sort by."""
    match query:
        case Words() | WordPrefix():
            return True
        case And(items) | Or(items):
            return any(has_words(item) for item in items)
        case _:
            return False
