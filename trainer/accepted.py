"""Whether an answer says what was asked for: the accepted answers of a question, and how they are looked for. Pure.

As TriviaQA's aliases (arXiv:1705.03551) they are other ways to write one fact. They are compared as SQuAD's evaluation does
(arXiv:1606.05250): case, punctuation and articles do not count. They need only be contained, as whole words, for an untrained
model answers in sentences.
"""

import re
from typing import Any

from tunemill.trainer.texts import words

# Facts that are all needed, each in other words; empty: nothing is right or wrong.
Accepted = tuple[tuple[str, ...], ...]

_ARTICLES = frozenset({"a", "an", "the"})
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")  # 1,024
_ZEROS = re.compile(r"(?<=\d)\.0+(?!\d)")  # 100.0
_DECIMAL = re.compile(r"((?<!\d)\d+\.\d+)")  # 4.3 has no 3 in it
_TENS = re.compile(  # sixty-six has no six in it
    r"\b(twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)[\s-](one|two|three|four|five|six|seven|eight|nine)\b",
    re.I,
)


def accepted_answers(written: Any) -> Accepted:
    """The member `accepted_answers` of a row: texts any of which will do, or lists of them, one of each of which is needed.

    Raises:
        ValueError: it is something else, or a text has no word.
    """
    if not isinstance(written, list):
        raise ValueError("accepted_answers is no list")
    facts = written if written and all(isinstance(fact, list) for fact in written) else [written] if written else []
    if not all(fact and all(isinstance(text, str) and words(text) for text in fact) for fact in facts):
        raise ValueError("accepted_answers has something else than texts with a word in them")
    return tuple(map(tuple, facts))


def is_right(answer: str, accepted: Accepted, *, question: str) -> bool:
    """Whether the answer has every fact that is needed.

    What stands in the question already must be the whole answer: "81 divided by 9 is 12" only repeats the 9.
    """
    said, asked = _words(answer), _words(question)
    return all(any(_says(said, _words(text), asked) for text in fact) for fact in accepted)


def _says(said: list[str], wanted: list[str], asked: list[str]) -> bool:
    if _contains(asked, wanted):
        return _bare(said) == _bare(wanted)
    return _contains(said, wanted)


def _contains(text: list[str], wanted: list[str]) -> bool:
    if wanted[-1] not in _ARTICLES:  # vitamin A is not any vitamin
        text, wanted = _bare(text), _bare(wanted)
    return f" {' '.join(wanted)} " in f" {' '.join(text)} "


def _bare(text: list[str]) -> list[str]:
    return [word for word in text if word not in _ARTICLES]


def _words(text: str) -> list[str]:
    plain = _TENS.sub(r"\1\2", _ZEROS.sub("", _GROUPED.sub("", text)))
    pieces = enumerate(_DECIMAL.split(plain))  # every second one is a number
    return [word for place, piece in pieces for word in ([piece] if place % 2 else words(piece))]
