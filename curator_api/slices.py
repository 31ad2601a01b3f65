"""The groups that a dataset is looked at by: which value of a slice a log or a row has. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tunemill.curator_api.facts import ABSENT
from tunemill.indexer.ast import Is, Query
from tunemill.indexer.fields import METADATA

NAMES = ("language", "app", "model", "topic", "length", "finish")
OF_CONTENT = ("language", "length")  # those that every log has alike that says the same
OF_METADATA = "meta:"  # how a slice's name begins that is a key of metadata
LENGTHS = (200, 1000, 4000)  # characters: where a slice of lengths ends and the next begins
MOST_CHARACTERS = 100  # of a value
_TOPIC = "topic:"


class Described(NamedTuple):
    """What decides on the slices of a log or of a row."""

    language: str | None = None
    app: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    tags: Sequence[str] = ()
    characters: int = 0  # of all messages
    metadata: Mapping[str, str] = {}


def is_slice(name: str) -> bool:
    """Whether there is a slice of this name."""
    return name in NAMES or (name.startswith(OF_METADATA) and len(name) > len(OF_METADATA))


def slice_of(one: Described, name: str) -> str:
    """Its value of this slice; `none` where it has none.

    Args:
        name: one that `is_slice` takes.
    """
    match name:
        case "language":
            value = one.language
        case "app":
            value = one.app
        case "model":
            value = one.model
        case "finish":
            value = one.finish_reason
        case "topic":
            value = min((tag for tag in one.tags if tag.startswith(_TOPIC)), default="").removeprefix(_TOPIC)
        case "length":
            value = _length(one.characters)
        case _:
            value = one.metadata.get(name.removeprefix(OF_METADATA))
    return value[:MOST_CHARACTERS] if value else ABSENT


def told_by(one: Described) -> set[str]:
    """The values by which reports may name a log: of slices that its text does not tell."""
    names = ("app", "model", "topic", *(f"{OF_METADATA}{key}" for key in one.metadata))
    return {slice_of(one, name) for name in names} - {ABSENT}


def logs_with(name: str, value: str) -> Query | None:
    """The logs with this value of a slice; None: of a slice that does not tell one log from another that says the same."""
    match name:
        case "app" | "model":
            return Is(name, value)
        case "topic":
            return Is("tag", f"{_TOPIC}{value}")
        case _ if name.startswith(OF_METADATA):
            return Is(f"{METADATA}{name.removeprefix(OF_METADATA)}", value)
    return None


def _length(characters: int) -> str:
    return next((f"<{most}" for most in LENGTHS if characters < most), f">={LENGTHS[-1]}")
