"""What public sets call the members of a row, and what a person says that they are called. Pure."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from tunemill.curator_api.errors import InvalidRow, Unprocessable

Names = Mapping[str, str]  # of a member in a format that is known, by its name in the set

OF_SETS: tuple[Names, ...] = (
    {"system_prompt": "system", "question": "instruction", "response": "output"},  # OpenOrca
    {"instruction": "instruction", "context": "input", "response": "output"},  # Dolly
    {"instruction": "instruction", "response": "output"},
    {"question": "prompt", "answer": "completion"},  # GSM8K
    {"question": "prompt", "response": "completion"},
    {"problem": "prompt", "solution": "completion"},  # NuminaMath
    {"query": "prompt", "response": "completion"},  # MetaMathQA
    {"prompt": "prompt", "response": "completion"},
)  # the first whose members are all there and not null


def names_in(value: Mapping[str, Any]) -> Names | None:
    """How the set that this value looks to be of calls its members; None if it is none of these."""
    there = {name for name, held in value.items() if held is not None}
    return next((names for names in OF_SETS if names.keys() <= there), None)


def renamed(value: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The value with its members called as a format calls them.

    Raises:
        InvalidRow: it has a member that another one would take the place of.
    """
    there = {name for name, held in value.items() if held is not None and name not in names}
    taken = sorted(there & {called for name, called in names.items() if name in value})
    if taken:
        raise InvalidRow(f"`{taken[0]}` is there already, and so is what is to be called so: give it another name, too")
    return {names.get(name, name): held for name, held in value.items() if name in names or name not in names.values()}


def names_of(text: str, known: AbstractSet[str]) -> Names:
    """The names in `question=prompt,answer=completion`.

    Args:
        known: the members of formats.

    Raises:
        Unprocessable: it does not say so; or what a member is to be called is one of no format.
    """
    pairs = [pair.partition("=") for pair in text.split(",")]
    names = {name.strip(): called.strip() for name, _, called in pairs}
    if not all(name and called in known for name, called in names.items()):
        raise Unprocessable(
            f"map: write NAME=MEMBER,... as in question=prompt,answer=completion; members are {', '.join(sorted(known))}"
        )
    if len(set(names.values())) < len(pairs):
        raise Unprocessable("map: two columns are to be one member, or one column is named twice")
    return names
