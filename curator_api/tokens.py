"""How many tokens rows have, by a tokenizer that the operator has put in a folder."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tunemill.curator_api.errors import InvalidRecipe
from tunemill.curator_api.rows import Messages, Row

PLACE = "filters.lengths.tokenizer"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # never a path: it comes from a caller

Count = Callable[[Sequence[Row]], list[int]]


def counter(folder: Path | None, name: str) -> Count:
    """What counts the tokens of rows by the tokenizer of this name: those of their texts, without a chat template's own.

    Of a pair the longer answer counts.

    Raises:
        InvalidRecipe: there is none, and says which there are; or it cannot be read.
    """
    file = _file(folder, name)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower one
        raise InvalidRecipe(f"{PLACE}: its file cannot be read: the operator must look", place=PLACE) from error
    tokenizer.no_truncation()  # many files cut texts, or fill them up to the longest beside them
    tokenizer.no_padding()

    def count(rows: Sequence[Row]) -> list[int]:
        texts = [_text(row.messages) for row in rows]
        paired = [number for number, row in enumerate(rows) if row.rejected]
        texts += [_text((*rows[number].messages[:-1], *rows[number].rejected)) for number in paired]
        found = [len(one.ids) for one in tokenizer.encode_batch(texts, add_special_tokens=False)]
        for number, worse in zip(paired, found[len(rows) :], strict=True):
            found[number] = max(found[number], worse)
        return found[: len(rows)]

    return count


def known(folder: Path | None) -> list[str]:
    """The names of the tokenizers that there are."""
    return sorted(file.parent.name for file in folder.glob("*/tokenizer.json")) if folder and folder.is_dir() else []


def check_known(folder: Path | None, name: str) -> None:
    """Return if there is a tokenizer of this name.

    Raises:
        InvalidRecipe: there is none; says which there are.
    """
    _file(folder, name)


def _file(folder: Path | None, name: str) -> Path:
    file = folder / name / "tokenizer.json" if folder and _NAME.fullmatch(name) else None
    if file is None or not file.is_file():
        there = ", ".join(known(folder)) or "none: the operator puts them in the folder that TUNEMILL_TOKENIZERS names"
        raise InvalidRecipe(f"{PLACE}: there is no tokenizer of this name; there are {there}", place=PLACE)
    return file


def _text(messages: Messages) -> str:
    said: list[Any] = [text for one in messages for text in (one.content, *(call.arguments for call in one.tool_calls))]
    return "\n".join(text for text in said if text)
