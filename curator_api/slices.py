"""The groups that a dataset is looked at by: which value of a slice a log or a row has. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tunemill.curator_api.facts import ABSENT

NAMES = ("language", "app", "model", "topic", "length", "finish")
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


def _length(characters: int) -> str:
    return next((f"<{most}" for most in LENGTHS if characters < most), f">={LENGTHS[-1]}")
