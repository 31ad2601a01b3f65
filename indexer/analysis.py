"""Text -> terms, as Elasticsearch's analyzer in `mapping.py` makes them, for the engine that has no such analyzer.

Words are cut by the rules of Unicode's UAX #29 as Lucene's standard tokenizer reads them; runs of Chinese, Japanese and
Korean become overlapping pairs of characters; then lower case, ASCII folding and the Snowball English stemmer, by tantivy.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise

import msgspec
from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer


class Token(msgspec.Struct, frozen=True):
    """A word of a text, or a pair of CJK characters, before folding and stemming; `text[start:end]` is where it stands."""

    text: str
    start: int
    end: int


# Latin text, which is most text, is cut by this module's own pattern: ten times faster than tantivy's.
_LATIN = re.compile("[\x00-\xa8\xaa-\xac\xaf-\u012f\u0131-\u024f\u2010-\u2027\u2030-\u203b]*")
_L = "A-Za-zªµºÀ-ÖØ-öø-ɏ"
_BETWEEN = f"(?<=[{_L}])[.:'\u2018\u2019\u2024\u00b7\u2027](?=[{_L}])|(?<=[0-9])[.,;'\u2018\u2019\u2024](?=[0-9])"
# Whole runs of letters and digits, never gone back into, which takes half the time; underscores only from their first one on.
_LATIN_WORD = re.compile(f"(?:_(?<!__)_*+)?+[{_L}0-9][{_L}0-9_]*+(?:(?:{_BETWEEN})[{_L}0-9_]*+)*+")
_MAX_WORD = 255  # characters, at which Lucene cuts words

# ASCII text, most of all: what is in no word is overwritten, many texts at a time, which takes a fifth of the time of finding words.
_ASCII_GAPS = {code: " " for code in range(1, 128) if not (chr(code).isalnum() or chr(code) in "_.:',;")}
_ASCII_BETWEEN_NONE = re.compile("[.:',;](?!(?<=[A-Za-z][.:'])[A-Za-z]|(?<=[0-9][.,;'])[0-9])")
_ASCII_WORD = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_FOLDED = re.compile("[^\0-\x7f]")
_ONLY_JOINS = re.compile("_(?<![^ \0]_)_*+(?![^ \0])")

_EXTEND = r"[\p{wb=Format}\p{wb=Extend}\p{wb=ZWJ}]*"
_HEBREW = rf"(?:\p{{wb=Hebrew_Letter}}{_EXTEND})"
_QUOTE = rf"(?:\p{{wb=Single_Quote}}{_EXTEND})"
_DIGIT = rf"(?:\p{{wb=Numeric}}{_EXTEND})"
_JOIN = rf"(?:\p{{wb=ExtendNumLet}}{_EXTEND})"
_MID_WORD = rf"(?:[\p{{wb=MidLetter}}\p{{wb=MidNumLet}}\p{{wb=Single_Quote}}]{_EXTEND})"
_MID_NUMBER = rf"(?:[\p{{wb=MidNum}}\p{{wb=MidNumLet}}\p{{wb=Single_Quote}}]{_EXTEND})"
_LETTER = rf"(?:[\p{{wb=ALetter}}\p{{wb=Hebrew_Letter}}]{_EXTEND})"
_CHAIN = rf"{_LETTER}(?:{_MID_WORD}{_LETTER})*"
_LAST = rf"{_HEBREW}(?:{_QUOTE}|\p{{wb=Double_Quote}}{_EXTEND}{_HEBREW})"
_LETTERS = rf"(?:{_CHAIN}{_JOIN}*)*(?:{_LAST}|{_CHAIN})"
_PART = rf"(?:{_DIGIT}(?:(?:{_JOIN}*|{_MID_NUMBER}){_DIGIT})*|{_LETTERS})+"
_KATAKANA = rf"(?:\p{{wb=Katakana}}{_EXTEND})+"
_WORD = rf"{_JOIN}*(?:{_PART}|{_KATAKANA})(?:{_JOIN}+(?:{_PART}|{_KATAKANA}))*{_JOIN}*"
_MODIFIED = r"[\p{wb=Format}\p{wb=Extend}]*"
_PICTURE = rf"\p{{Extended_Pictographic}}{_MODIFIED}"
_EMOJI = rf"\p{{RI}}\p{{RI}}|[#*]\x{{FE0F}}?\x{{20E3}}|\x{{200D}}?{_PICTURE}(?:\x{{200D}}{_PICTURE})*\x{{200D}}?"
_CJK = rf"[\p{{Han}}\p{{Hiragana}}]{_EXTEND}"
_SOUTH_EAST_ASIAN = (
    r"[[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}\p{Ahom}]&&[\p{L}\p{M}]]+"
)
_ANY_WORD = f"{_WORD}|{_EMOJI}|{_CJK}|{_SOUTH_EAST_ASIAN}"

_CJK_ONLY = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fd5\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u309b-\u309f"
    "\u30a0-\u30fa\u30fc-\u30ff\u3131-\u318e\u31f0-\u321e\u32d0-\u32fe\u3300-\u3357\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\uac00-\ud7fb"
    "\uf900-\ufad9\uff66-\uffdc\U0001b000-\U0001b167\U00020000-\U000323af]+"
)
_MARKED_CJK = re.compile(  # never gone back into: a run can be parted in more ways than can be tried
    rf"{_CJK_ONLY.pattern}+"
    rf"(?:{_CJK_ONLY.pattern}+|[^\w.:'\u00b7\u0387\u055f\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55]++)*+"
)
_HALF_WIDTH = re.compile("[\uff65-\uff9f]")
_SOUND_MARKS = "\uff9e\uff9f"
_KATAKANA_ONLY = re.compile("[\u30a6-\u30fd]")
_KANA = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF65, 0xFFA0)}
# Full-width forms to plain ones, one character for one; Java's lower case of the dotted capital I is one character.
_WIDTHS = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x130: ord("i")}


def tokens(text: str) -> Iterator[Token]:
    """The words of a text, in order."""
    if _LATIN.fullmatch(text):
        for match in _LATIN_WORD.finditer(text):
            word = Token(match[0], match.start(), match.end())
            if len(word.text) <= _MAX_WORD:
                yield word
            else:
                yield from _cut(word, _latin_word)
    else:
        yield from _pairs(_any_words(text))


def runs(text: str, sought: tuple[str, ...], length: int) -> Iterator[list[Token]]:
    """Some of the words of a text, in order: all that may be found by one of these terms, with those next to them.

    Most text is Latin and has few of them: only what stands around them is cut into words.

    Args:
        sought: terms, or the beginnings of terms.
        length: so many words follow each other from such a word on, while there are as many.
    """
    if not (text.isascii() or _LATIN.fullmatch(text)) or not _has_uncut_words(text):
        yield list(tokens(text))
        return
    found = iter(_beginnings(text, sought))
    at, end = next(found, None), 0
    while at is not None:
        run, left = [], 0
        for match in _LATIN_WORD.finditer(text, max(end, text.rfind(" ", 0, at) + 1)):  # no word goes over a space
            start, end = match.span()
            run.append(Token(match[0], start, end))
            while at is not None and at < end:
                at, left = next(found, None), length
            left -= 1
            if not left:
                break
        else:
            at = None
        yield run


def _beginnings(text: str, sought: Iterable[str]) -> list[int]:
    """Where in a Latin text words may begin that are found by one of these terms, in order; some are within such words.

    The stemmer changes last letters only: of a term of three letters or more the last one, or two where it makes `die` of `dying`.
    """
    heads = {stem[:-1] if len(stem) > 2 else stem for stem in sought}
    heads |= {head[:-1] + "y" for head in heads if head.endswith("i")}
    lowered = text.lower()
    found = set() if text.isascii() else {match.start() for match in _FOLDED.finditer(text)}
    for head in heads:
        at = lowered.find(head)
        while at >= 0:
            if not (at and lowered[at - 1] in _ASCII_WORD):
                found.add(at)
            at = lowered.find(head, at + 1)
    return sorted(found)


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


def is_one_word(text: str) -> bool:
    """Whether this is one word as a whole, with its vowel signs, accents and points."""
    found = [(token.start, token.end) for token in tokens(text)]
    return found == [(0, len(text))]


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
        found if _has_uncut_words(found) else _spaced_one(text)
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
    words = _LATIN_WORD.findall(text)
    if len(text) > _MAX_WORD and max(map(len, words), default=0) > _MAX_WORD:
        return " ".join(token.text for token in tokens(text))
    return " ".join(words)


def _cut(word: Token, first_word: Callable[[str], tuple[int, int] | None]) -> Iterator[Token]:
    """The word, or if it is too long the words that are found where no more than so many characters are seen at once."""
    start = 0
    while len(word.text) - start > _MAX_WORD:
        found = first_word(word.text[start : start + _MAX_WORD])
        if found is None:
            start += _empty(word.text[start:], first_word)
            continue
        if found[0] > 0:  # nothing begins before it, whatever comes after
            start += found[0]
            continue
        yield Token(word.text[start : start + found[1]], word.start + start, word.start + start + found[1])
        start += found[1]
    found = first_word(word.text[start:])
    if found is not None:
        first, end = start + found[0], start + found[1]
        yield Token(word.text[first:end], word.start + first, word.start + end)


def _empty(text: str, first_word: Callable[[str], tuple[int, int] | None]) -> int:
    """How far a window at the beginning, in which nothing is found, is moved on until something is found in it.

    What is found in some characters is found in more of them, so that the least number in which something is need not be
    counted up to: it is doubled, then halved.
    """

    def is_found(length: int) -> bool:
        return first_word(text[:length]) is not None

    without, length = _MAX_WORD, 2 * _MAX_WORD
    while not is_found(length):
        if length >= len(text):
            return len(text)
        without, length = length, 2 * length
    least = bisect_left(range(length), True, lo=without + 1, key=is_found)
    return least - _MAX_WORD


def _latin_word(text: str) -> tuple[int, int] | None:
    """Where the first word stands."""
    match = _LATIN_WORD.search(text)
    return match and match.span()


def _any_word(text: str) -> tuple[int, int] | None:
    found = _cutter().pre_tokenize(text).tokens
    return (found[0].char_offset_from, found[0].char_offset_to) if found else None


def _any_words(text: str) -> Iterator[tuple[Token, bool]]:
    """Words of any script, those in Chinese, Japanese or Korean character by character; and whether they are such."""
    for token in _cutter().pre_tokenize(text.translate(_WIDTHS)).tokens:
        whole = Token(token.text, token.char_offset_from, token.char_offset_to)
        if len(whole.text) <= _MAX_WORD:
            found: Iterable[Token] = (whole,)
        else:
            found = _cut(whole, _any_word)
        for word in found:
            if _MARKED_CJK.fullmatch(word.text):
                yield from ((character, True) for character in _widened(word))
            elif _HALF_WIDTH.search(word.text):
                yield Token("".join(character.text for character in _widened(word)), word.start, word.end), False
            else:
                yield word, False


def _widened(word: Token) -> Iterator[Token]:
    """The characters of a word, half-width kana as whole ones; a sound mark joins the one before, where there is such."""
    if not _HALF_WIDTH.search(word.text):
        yield from (Token(character, at, at + 1) for at, character in enumerate(word.text, start=word.start))
        return
    held = Token("", word.start, word.start)
    for at, character in enumerate(word.text, start=word.start):
        both = unicodedata.normalize("NFC", held.text + _KANA[ord(character)]) if character in _SOUND_MARKS else ""
        if len(both) == 1 and _KATAKANA_ONLY.fullmatch(held.text):
            held = Token(both, held.start, at + 1)
            continue
        if held.text:
            yield held
        held = Token(_KANA.get(ord(character), character), at, at + 1)
    if held.text:
        yield held


def _pairs(words: Iterable[tuple[Token, bool]]) -> Iterator[Token]:
    """Each run of CJK characters as overlapping pairs; one alone stays as it is."""
    run: list[Token] = []
    for token, is_character in words:
        if run and not (is_character and token.start == run[-1].end):
            yield from _pairs_of(run)
            run = []
        if is_character:
            run.append(token)
        else:
            yield token
    yield from _pairs_of(run)


def _pairs_of(run: list[Token]) -> Iterator[Token]:
    if len(run) == 1:
        yield run[0]
    for left, right in pairwise(run):
        yield Token(left.text + right.text, left.start, right.end)
