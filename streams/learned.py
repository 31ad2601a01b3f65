"""Which learned tags a log gets: the weights of its words, summed. Pure; logs cost nothing while no learned tag is in force."""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import get_args

from tunemill.schemas.learned import LearnedTag, Model, Part
from tunemill.streams.text import Texts

PARTS: tuple[Part, ...] = get_args(Part)
_MAX_CHARS = 20_000  # of each part: what comes after decides hardly anything, and a log may have megabytes

_DIGITS = 6  # behind the point of a score
_NOTHING = repeat(0.0)  # what a word without a weight weighs

_ASCII_WORDS = bytes(byte if byte > 127 or chr(byte).isalnum() else 32 for byte in range(256)).lower()
_MARKS = "".join(chr(point) for point in range(0x300, 0xFFFF) if unicodedata.category(chr(point)) in ("Mn", "Mc"))
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"(?P<unspaced>(?:(?=[\w{_MARKS}])[{_UNSPACED}])+)|(?:(?![{_UNSPACED}])[^\W_]|[{_MARKS}])+")


def matching(learned: Sequence[LearnedTag], texts: Texts) -> tuple[LearnedTag, ...]:
    """Those whose score reaches their threshold, in the same order."""
    if not learned:
        return ()
    words = words_of(texts)
    return tuple(one for one in learned if score(one.model, words) >= one.model.threshold)


def words_of(texts: Texts) -> dict[Part, set[str]]:
    """The words of each part: letters and digits, in lower case. Chinese, Japanese, Thai, Lao, Khmer and Burmese, which put no
    spaces between words, give each two neighbouring characters."""
    return {part: _words(texts.parts[part][:_MAX_CHARS]) for part in PARTS}


def score(model: Model, words: Mapping[Part, set[str]]) -> float:
    """How much speaks for the tag. Runs for every log and model."""
    total, number = 0.0, 0
    for part, weights in model.weights.items():
        total += sum(map(weights.get, words[part], _NOTHING))
    for found in words.values():
        number += len(found)
    return round(
        model.bias + total / math.sqrt(number or 1), _DIGITS
    )  # sets have no order, and sums of floats depend on it


def _words(text: str) -> set[str]:
    words = set(text.encode(errors="replace").translate(_ASCII_WORDS).decode().split())
    if not text.isascii():
        for mixed in [word for word in words if not word.isascii()]:
            words.remove(mixed)
            words.update(_words_of_any_script(mixed.lower()))
    return words


def _words_of_any_script(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        word = match[0]
        if match["unspaced"] and len(word) > 1:
            yield from (word[place : place + 2] for place in range(len(word) - 1))
        else:
            yield word
