"""How alike two texts are, between 0 and 1: by words, by their order, and by letters. Pure.

A word is a run of letters and digits of any script with their marks (vowel signs, accents), in lower case; of Chinese, Japanese
and Korean text each character is one.
"""

import re
import unicodedata
from collections import Counter

from rapidfuzz.distance import Indel
from sacrebleu import sentence_chrf

_ALONE = (  # written without spaces between words: kana, CJK ideographs with their extensions, Hangul
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
)
_MARKS = "".join(filter(lambda sign: unicodedata.category(sign)[0] == "M", map(chr, range(0x300, 0x1E950))))
_WORD = re.compile(rf"[{_ALONE}]|(?:[^\W_{_ALONE}][{_MARKS}]*)+")


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(unicodedata.normalize("NFC", text.lower()))


def word_f1(expected: str, answer: str) -> float:
    """The harmonic mean of precision and recall over words, each as often as it stands there (SQuAD, arXiv:1606.05250)."""
    wanted, got = Counter(words(expected)), Counter(words(answer))
    if not wanted and not got:
        return float(expected.strip() == answer.strip())
    shared = (wanted & got).total()
    return 2 * shared / (wanted.total() + got.total())


def rouge_l(expected: str, answer: str) -> float:
    """The F1 of the longest common subsequence of words (Lin 2004), without stemming."""
    wanted, got = words(expected), words(answer)
    if not wanted and not got:
        return float(expected.strip() == answer.strip())
    return float(Indel.normalized_similarity(wanted, got))  # 2 LCS / (m + n)


def chrf(expected: str, answer: str) -> float:
    """chrF2 over up to six letters (Popović 2015), as sacrebleu computes it."""
    if not expected.strip():
        return float(not answer.strip())
    return float(sentence_chrf(answer, [expected]).score) / 100.0
