"""Text -> terms, as Elasticsearch's analyzer in `mapping.py` makes them, for the engine that has no such analyzer.

Words are cut by the rules of Unicode's UAX #29 as Lucene's standard tokenizer reads them; runs of Chinese, Japanese and
Korean become overlapping pairs of characters; then lower case, ASCII folding and the Snowball English stemmer, by tantivy.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import groupby, pairwise

import msgspec
from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer


class Token(msgspec.Struct, frozen=True):
    """A word of a text, or a pair of CJK characters, before folding and stemming; `text[start:end]` is where it stands."""

    text: str
    start: int
    end: int


# Latin text, which is most text, is cut by this module's own pattern: ten times faster than tantivy's.
_LATIN = re.compile("[\x00-\xa8\xaa-\xac\xaf-\u024f\u2010-\u2027\u2030-\u203b]*")
_L = "A-Za-zªµºÀ-ÖØ-öø-ɏ"
_BETWEEN = f"(?<=[{_L}])[.:'\u2018\u2019\u2024\u00b7\u2027](?=[{_L}])|(?<=[0-9])[.,;'\u2018\u2019\u2024](?=[0-9])"
_MAX_WORD = 255  # characters, at which Lucene cuts words
_LATIN_WORD = re.compile(f"_*[{_L}0-9](?:[{_L}0-9_]|{_BETWEEN}){{0,{_MAX_WORD - 1}}}")
# The same for words that are not cut, in half the time: whole runs of letters and digits, never gone back into.
_UNCUT_WORD = re.compile(f"_*+[{_L}0-9][{_L}0-9_]*+(?:(?:{_BETWEEN})[{_L}0-9_]*+)*+")

# ASCII text, most of all: what is in no word is overwritten, many texts at a time, which takes a fifth of the time of finding words.
_ASCII_GAPS = {code: " " for code in range(1, 128) if not (chr(code).isalnum() or chr(code) in "_.:',;")}
_ASCII_BETWEEN_NONE = re.compile("[.:',;](?!(?<=[A-Za-z][.:'])[A-Za-z]|(?<=[0-9][.,;'])[0-9])")
_ONLY_JOINS = re.compile("_(?<![^ \0]_)_*+(?![^ \0])")

_EXTEND = r"[\p{wb=Format}\p{wb=Extend}\p{wb=ZWJ}]*"
_LETTER = rf"(?:[\p{{wb=ALetter}}\p{{wb=Hebrew_Letter}}]{_EXTEND})"
_DIGIT = rf"(?:\p{{wb=Numeric}}{_EXTEND})"
_JOIN = rf"(?:\p{{wb=ExtendNumLet}}{_EXTEND})"
_MID_WORD = rf"(?:[\p{{wb=MidLetter}}\p{{wb=MidNumLet}}\p{{wb=Single_Quote}}]{_EXTEND})"
_MID_NUMBER = rf"(?:[\p{{wb=MidNum}}\p{{wb=MidNumLet}}\p{{wb=Single_Quote}}]{_EXTEND})"
_PART = rf"(?:{_DIGIT}(?:(?:{_JOIN}*|{_MID_NUMBER}){_DIGIT})*|{_LETTER}(?:(?:{_JOIN}*|{_MID_WORD}){_LETTER})*)+"
_WORD = rf"{_JOIN}*{_PART}(?:{_JOIN}+{_PART})*{_JOIN}*"
_MODIFIED = r"[\p{wb=Format}\p{wb=Extend}]*"
_PICTURE = rf"\p{{Extended_Pictographic}}{_MODIFIED}"
_EMOJI = rf"\p{{RI}}\p{{RI}}|[0-9#*]\x{{FE0F}}?\x{{20E3}}|{_PICTURE}(?:\x{{200D}}{_PICTURE})*"
_CJK = r"[\p{Han}\p{Hiragana}]|\p{wb=Katakana}+"
_SOUTH_EAST_ASIAN = r"[[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]&&[\p{L}\p{M}]]+"
_ANY_WORD = f"{_EMOJI}|{_WORD}|{_CJK}|{_SOUTH_EAST_ASIAN}"

_CJK_ONLY = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fd5\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u309b-\u309f"
    "\u30a0-\u30fa\u30fc-\u30ff\u3105-\u318e\u31f0-\u321e\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\uac00-\ud7fb"
    "\uf900-\ufad9\uff66-\uffdc\U0001b000-\U0001b167\U00020000-\U000323af]+"
)
_HALF_WIDTH = re.compile("[\uff65-\uffdc]+")
# Full-width forms to plain ones, one character for one; Java's lower case of the dotted capital I is one character.
_WIDTHS = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x130: ord("i")}


def tokens(text: str) -> Iterator[Token]:
    """The words of a text, in order."""
    if _LATIN.fullmatch(text):
        for match in _LATIN_WORD.finditer(text):
            yield Token(match[0], match.start(), match.end())
    else:
        yield from _pairs(_any_words(text))


def spaced(texts: Sequence[str]) -> list[str]:
    """The words of each text with spaces between: what tantivy is given to index."""
    ascii_texts = iter(_spaced_ascii([text for text in texts if text.isascii()]))
    return [next(ascii_texts) if text.isascii() else _spaced_one(text) for text in texts]


def terms(text: str) -> list[str]:
    """What the words of a text are found by."""
    return [term(token.text) for token in tokens(text)]


@lru_cache(maxsize=65536)
def term(word: str) -> str:
    """What one token is found by: lower case, folded, stemmed."""
    return _first(filters().analyze(word), word)


@lru_cache(maxsize=4096)
def folded(word: str) -> str:
    """A token in lower case and folded, not stemmed."""
    return _first(_folding().analyze(word.translate(_WIDTHS)), word)


# Endings that the stemmer takes off, so that the beginning of a word can be longer than its stem (`calculat*`).
_ENDINGS = ("", "e", "ed", "es", "ing", "ion", "ions", "or", "ly", "able", "ive", "ity", "ation", "ment", "ness", "al")


def stems_shorter_than(prefix: str) -> frozenset[str]:
    """The stems of likely words that begin so but whose stem does not, because it is shorter."""
    stems = {term(prefix + ending) for ending in _ENDINGS}
    return frozenset(stem for stem in stems if not stem.startswith(prefix))


def is_cjk(text: str) -> bool:
    """Whether this is all Chinese, Japanese or Korean characters."""
    return _CJK_ONLY.fullmatch(text) is not None


def is_cjk_run(text: str) -> bool:
    """Whether this became several terms; a single character is the beginning of a pair."""
    return len(text) > 1 and is_cjk(text)


@cache
def filters() -> TextAnalyzer:
    """The analyzer of text that `spaced` made."""
    return _folding_builder().filter(Filter.stemmer("english")).build()


@cache
def _folding() -> TextAnalyzer:
    return _folding_builder().build()


def _folding_builder() -> TextAnalyzerBuilder:
    return TextAnalyzerBuilder(Tokenizer.whitespace()).filter(Filter.lowercase()).filter(Filter.ascii_fold())


@cache
def _cutter() -> TextAnalyzer:
    return TextAnalyzerBuilder(Tokenizer.regex(_ANY_WORD)).build()


def _first(found: list[str], word: str) -> str:
    return found[0] if found else word


def _spaced_ascii(texts: Sequence[str]) -> list[str]:
    """The same of texts that are all ASCII."""
    joined = "\0".join(texts)
    if joined.count("\0") >= len(texts):  # some text has one itself, and it is in no word
        joined = "\0".join([text.replace("\0", " ") for text in texts])
    words = _ASCII_BETWEEN_NONE.sub(" ", joined.translate(_ASCII_GAPS))
    if "_" in words:
        words = _ONLY_JOINS.sub("", words)
    return [
        found if _has_uncut_words(found) else " ".join(_LATIN_WORD.findall(text))
        for text, found in zip(texts, words.split("\0"), strict=False)
    ]


def _has_uncut_words(words: str) -> bool:
    """Whether no word is so long that it is cut: False also where there only may be one."""
    start = 0
    while len(words) - start > _MAX_WORD:
        start = words.rfind(" ", start, start + _MAX_WORD + 1) + 1
        if start == 0:
            return False
    return True


def _spaced_one(text: str) -> str:
    if not _LATIN.fullmatch(text):
        return " ".join(token.text for token in tokens(text))
    words = _UNCUT_WORD.findall(text)
    if len(text) > _MAX_WORD and max(map(len, words), default=0) > _MAX_WORD:
        words = _LATIN_WORD.findall(text)
    return " ".join(words)


def _any_words(text: str) -> Iterator[Token]:
    """Words of any script, CJK characters one by one."""
    for token in _cutter().pre_tokenize(text.translate(_WIDTHS)).tokens:
        start = token.char_offset_from
        if not is_cjk(token.text):
            yield Token(token.text, start, token.char_offset_to)
        elif len(token.text) == 1:
            yield Token(token.text, start, start + 1)
        else:
            yield from (Token(character, start + at, start + at + 1) for at, character in enumerate(token.text))


def _pairs(words: Iterable[Token]) -> Iterator[Token]:
    """Each run of CJK characters as overlapping pairs; one alone stays as it is."""
    end, run = -1, 0

    def run_of(token: Token) -> int:
        nonlocal end, run
        joined = token.start == end and token.end - token.start == 1 and is_cjk(token.text)
        run += 0 if joined else 1
        end = token.end if is_cjk(token.text) else -1
        return run

    for _, group in groupby(words, key=run_of):
        yield from _pairs_of(list(group))


def _pairs_of(run: list[Token]) -> Iterator[Token]:
    if len(run) == 1:
        yield _width_folded(run[0])
    for left, right in pairwise(run):
        yield _width_folded(Token(left.text + right.text, left.start, right.end))


def _width_folded(token: Token) -> Token:
    if not _HALF_WIDTH.search(token.text):
        return token
    return Token(unicodedata.normalize("NFKC", token.text), token.start, token.end)
