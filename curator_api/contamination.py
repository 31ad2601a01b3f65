"""Whether rows repeat an evaluation set: the same run of words in a question or in an answer. Pure."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.rows import Messages, Row

# Thai, Lao, Burmese, Khmer, Japanese and Chinese are written without spaces: there each character is a word
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_ASKED = frozenset({"user", "assistant"})  # a system prompt is shared by what is trained on and what is evaluated

Grams = NDArray[np.uint64]


class Contamination:
    """The runs of words of evaluation rows, as sorted 64-bit hashes: two that differ are taken for the same once in 10^19."""

    def __init__(self, rows: Iterable[Sequence[Row]], *, words: int) -> None:
        """
        Args:
            rows: of the evaluation sets, some at once.
            words: how many in a row are a repetition.
        """
        self._words = words
        found = [np.unique(_grams(_texts_of(page), words)[0]) for page in rows]
        self._known: Grams = np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)

    def holds(self, rows: Sequence[Row]) -> list[bool]:
        """Whether each of these rows repeats some."""
        grams, owners = _grams(_texts_of(rows), self._words)
        hit = np.zeros(len(rows), np.bool_)
        hit[owners[np.isin(grams, self._known)]] = True
        return [bool(one) for one in hit]


def _texts_of(rows: Sequence[Row]) -> list[tuple[int, list[str], bool]]:
    """The texts of each row: its number, the words, and whether the text counts even if it is short.

    What was asked, with the turns before, is one text; each answer is another. A short question counts as a whole; a short
    answer does not: `yes` repeats nothing.
    """
    return [
        text
        for number, row in enumerate(rows)
        for text in (
            (number, _words_of(row.messages[:-1]), True),
            (number, _words_of(row.messages[-1:]), False),
            (number, _words_of(row.rejected), False),
        )
    ]


def _words_of(messages: Messages) -> list[str]:
    return _WORD.findall(" ".join(one.content or "" for one in messages if one.role in _ASKED).casefold())


def _grams(texts: Sequence[tuple[int, list[str], bool]], length: int) -> tuple[Grams, NDArray[np.int64]]:
    """The hashes of all runs of so many words, and the row of each."""
    owners, words, numbers = [], [], []
    for number, (owner, found, counts_short) in enumerate(texts):
        if not found or (len(found) < length and not counts_short):
            continue
        filled = found + [""] * (length - len(found))  # a short one as a whole: no run of words is empty at its end
        owners += [owner] * len(filled)
        numbers += [number] * len(filled)
        words += filled
    if not words:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    hashes = np.array([hash(word) & (2**64 - 1) for word in words], np.uint64)
    windows = len(hashes) - length + 1
    grams = np.zeros(windows, np.uint64)
    for step in range(length):
        grams = (grams ^ hashes[step : step + windows]) * _FACTOR
        grams ^= grams >> np.uint64(29)
    of_text = np.array(numbers)
    whole = of_text[:windows] == of_text[length - 1 :]  # a run does not go from one text into the next
    return grams[whole], np.array(owners, np.int64)[:windows][whole]
