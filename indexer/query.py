"""The query language: search text -> tree. One grammar for every engine.

query  = and, {"OR", and}
and    = not, {["AND"], not}
not    = {"NOT" | "-"}, atom
atom   = "(", query, ")" | text | name, ":", (value | list)
text   = word, ["*"] | phrase
value  = text                          after the name of a part: prompt, response, system, tool
       | word, ["*"] | phrase, ["*"]   after the name of a field of words; "*" alone: it has any value
       | one | compared | range        after the name of a number or of ts
       | what a log can have           after has
       | the name of a saved search    after saved
list   = "(", value, {("," | "OR"), value}, ")"
range  = ("[" | "{"), bound, "TO", bound, ("]" | "}")    with "*" for an open end; braces leave the bound out
phrase = '"', {character | '\\"' | '\\\\'}, '"'
"""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from tunemill.indexer.analysis import is_one_word, tokens
from tunemill.indexer.ast import And, Everything, Is, Not, Or, Query, StartsWith, WordPrefix, Words
from tunemill.indexer.errors import QueryError
from tunemill.indexer.fields import HAS, KEYWORDS, METADATA, NUMBERS, PARTS, field_named, similar
from tunemill.indexer.ranges import WrittenNumber

__all__ = ["MAX_BEGINNING", "MAX_CHARACTERS", "MAX_DEPTH", "MAX_TERMS", "Query", "QueryError", "parse"]

MAX_CHARACTERS = 4096
MAX_DEPTH = 12  # of parentheses and negations: Elasticsearch takes no more than 30 clauses within one another
MAX_TERMS = 256  # Elasticsearch's own limit is 1024 clauses at the least
MAX_BEGINNING = 250  # characters before a *: folded they are four times as many at most, and Elasticsearch takes 1000

_SPACE = re.compile(r"\s*")
_BARE = re.compile(r'[^\s()"]+')
_LISTED = re.compile(r'[^\s()",]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NAME = re.compile(r"([A-Za-z_][\w.\-]*):")
_RANGE = re.compile(r"([\[{])\s*([^\s\[\]{}]+)\s+TO\s+([^\s\[\]{}]+)\s*([\]}])")
_LETTERS = re.compile(r"\w+")
_TERM = "a word, a phrase in quotes, field:value or ("

SavedText = Callable[[str], str | None]
SavedNames = Callable[[], Iterable[str]]


def parse(
    text: str,
    *,
    now_ms: int | None = None,
    saved: SavedText = lambda _name: None,
    saved_names: SavedNames = tuple,
    longest: int = MAX_CHARACTERS,
) -> Query:
    """The tree of a search text; empty text means every log.

    Args:
        text: in the query language.
        now_ms: what `now` means; None: now.
        saved: the text of a saved search by its name.
        saved_names: of all saved searches, asked for where one is misspelt.
        longest: how many characters the text may have.

    Raises:
        QueryError: names the column, what was found there and what was expected.
    """
    moment_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return _Parser(text, moment_ms, saved, saved_names).whole(longest, depth=0)


@dataclass
class _Parser:
    """Reads the text from left to right; `at` is the next character."""

    text: str
    now_ms: int
    saved: SavedText
    saved_names: SavedNames
    within: tuple[str, ...] = ()  # the saved searches that this text is in, the outermost first
    terms: int = 0
    at: int = field(default=0, init=False)
    bare_text: re.Pattern[str] = field(default=_BARE, init=False)

    def whole(self, longest: int, depth: int) -> Query:
        """All of the text."""
        if len(self.text) > longest:
            raise QueryError(longest + 1, f"{len(self.text)} characters", f"at most {longest}")
        self.skip_space()
        if self.at_end():
            return Everything()
        tree = self.either(depth)
        if not self.at_end():
            raise self.error("AND, OR or another term (this closes no parenthesis)")
        return tree

    def either(self, depth: int) -> Query:
        """Items joined by OR."""
        items = [self.together(depth)]
        while self.take_operator("OR"):
            items.append(self.together(depth))
        return _any_of(items)

    def together(self, depth: int) -> Query:
        """Items joined by AND, written or not."""
        items = [self.negated(depth)]
        while self.take_operator("AND") or not (self.at_end() or self.text[self.at] == ")" or self.sees("OR")):
            items.append(self.negated(depth))
        return items[0] if len(items) == 1 else And(tuple(items))

    def negated(self, depth: int) -> Query:
        """An item behind any number of NOT and `-`."""
        self.refuse_deeper(depth)
        if self.take_operator("NOT") or self.take_minus():
            return Not(self.negated(depth + 1))
        return self.atom(depth)

    def atom(self, depth: int) -> Query:
        """One term, or a whole query in parentheses."""
        if self.at_end() or self.text[self.at] == ")" or self.sees("OR") or self.sees("AND"):
            raise self.error(_TERM)
        if self.text[self.at] == "(":
            return self.parenthesised(depth)
        name = _NAME.match(self.text, self.at)
        return self.named(name, depth) if name else self.one(self.words)

    def parenthesised(self, depth: int) -> Query:
        """What stands between ( and )."""
        opened_at = self.at
        self.advance(1)
        tree = self.either(depth + 1)
        self.close(opened_at)
        return tree

    def named(self, name: re.Match[str], depth: int) -> Query:
        """name:value, or name:(value, value)."""
        value = self.reader_of(name[1], depth)
        self.at = name.end()  # no space may follow
        if self.at_end() or self.text[self.at].isspace():
            raise self.error(f"a value right after {name[1]}:")
        return self.listed(value, depth) if self.text[self.at] == "(" else self.one(value)

    def reader_of(self, name: str, depth: int) -> Callable[[], Query]:
        """What reads the values behind this name."""
        lowered = name.lower()
        if lowered in PARTS:
            return partial(self.words, lowered)
        if lowered == "has":
            return self.trait
        if lowered == "saved":
            return partial(self.saved_search, depth)
        known = field_named(name)
        if known is None:
            raise self.unknown_field(name)
        return partial(self.number if known in NUMBERS else self.keyword, known)

    def listed(self, value: Callable[[], Query], depth: int) -> Query:
        """Values between ( and ), of which one is enough."""
        opened_at = self.at
        self.refuse_deeper(depth + 1)
        self.advance(1)
        self.bare_text = _LISTED
        items = [self.listed_one(value)]
        while self.take(",") or self.take_operator("OR"):
            items.append(self.listed_one(value))
        self.bare_text = _BARE
        self.close(opened_at, or_else="a comma, OR or ")
        return _any_of(items)

    def listed_one(self, value: Callable[[], Query]) -> Query:
        """A value in a list."""
        if self.at_end() or self.text[self.at] in "(),":
            raise self.error("a value")
        if any(map(self.sees, ("AND", "OR", "NOT"))):
            raise self.error("a value (NOT stands before the field, AND outside of a list)")
        return self.one(value)

    def one(self, value: Callable[[], Query]) -> Query:
        """A value, counted."""
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise self.error(f"at most {MAX_TERMS} terms")
        found = value()
        self.skip_space()
        return found

    def words(self, part: str | None = None) -> Query:
        """A word, the beginning of a word, or a phrase."""
        if self.text[self.at] == '"':
            return Words(self.phrase(), part)
        start, word = self.at, self.bare()
        stem = self.before_wildcard(word, start)
        if stem is None:
            return Words(word, part)
        if not (_LETTERS.fullmatch(stem) or is_one_word(stem)):
            raise QueryError(start + 1, repr(word), _one_word(stem, part))
        return WordPrefix(stem, part)

    def keyword(self, name: str) -> Query:
        """The value of a field of words."""
        start = self.at
        if self.text[self.at] == '"':
            value = self.phrase()
            return StartsWith(name, self.beginning(value, start)) if self.take("*") else Is(name, value)
        value = self.bare()
        prefix = self.before_wildcard(value, start)
        return Is(name, value) if prefix is None else StartsWith(name, prefix)

    def number(self, name: str) -> Query:
        """The value of a number or date: one, a comparison or a range."""
        start = self.at
        if self.text[self.at] in "[{":
            match = _RANGE.match(self.text, self.at)
            if match is None:
                raise self.error("[low TO high], with * for an open end")
            self.at = match.end()
            opening, low, high, closing = match.groups()
            return self.written(name, match[0], start).between((opening, low, high, closing))
        value = self.bare()
        if value == "*":
            return StartsWith(name, "")
        written = self.written(name, value, start)
        return written.comparison() if value[0] in "<>" else written.points()

    def written(self, name: str, text: str, start: int) -> WrittenNumber:
        """A number or date that stands there."""
        return WrittenNumber(name, text, start + 1, self.now_ms)

    def trait(self) -> Query:
        """What stands behind has: something that a log can have, or a field."""
        start, value = self.at, self.phrase_or_bare()
        if value in HAS:
            return Is("has", value)
        name = field_named(value) if _NAME.fullmatch(f"{value}:") else None
        if name is None:
            meant = similar(value, (*HAS, *KEYWORDS, *NUMBERS))
            hint = f"did you mean {meant}?" if meant else f"one of {', '.join(HAS)}, or a field"
            raise QueryError(start + 1, repr(value[:40]), f"what a log can have ({hint})")
        return StartsWith(name, "")

    def saved_search(self, depth: int) -> Query:
        """The tree of the saved search that is named."""
        column, name = self.at + 1, self.phrase_or_bare()
        text = self.saved(name)
        if text is None:
            meant = similar(name, self.saved_names())
            hint = f" (did you mean {meant}?)" if meant else ""
            raise QueryError(column, repr(name[:40]), f"the name of a saved search{hint}")
        if name in self.within:
            raise QueryError(column, f"the saved search {name!r} within itself", "another saved search, or none")
        inner = _Parser(text, self.now_ms, self.saved, self.saved_names, (*self.within, name), self.terms)
        try:
            tree = inner.whole(MAX_CHARACTERS, depth + 1)
        except QueryError as error:
            raise QueryError(column, f"the saved search {name!r}", f"one that can be read ({error})") from error
        self.terms = inner.terms
        return tree

    def phrase_or_bare(self) -> str:
        """A name."""
        return self.phrase() if self.text[self.at] == '"' else self.bare()

    def phrase(self) -> str:
        """What stands between quotes."""
        match = _QUOTED.match(self.text, self.at)
        if match is None:
            raise QueryError(len(self.text) + 1, "the end", f'" for the one at column {self.at + 1}')
        self.at = match.end()
        return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL)

    def bare(self) -> str:
        """Text up to a space, a quote or a parenthesis, in a list also up to a comma."""
        match = self.bare_text.match(self.text, self.at)
        if match is None:
            raise self.error("a value")
        self.at = match.end()
        return match[0]

    def before_wildcard(self, word: str, start: int) -> str | None:
        """What stands before a trailing *; None without one."""
        star = word.find("*")
        if star == -1:
            return None
        if star != len(word) - 1:
            raise QueryError(start + star + 1, "a * inside a word", "a * only at a word's end, or the text in quotes")
        return self.beginning(word[:-1], start)

    def beginning(self, text: str, start: int) -> str:
        """What stands before a *, if it is not too long."""
        if len(text) > MAX_BEGINNING:
            raise QueryError(start + 1, f"{len(text)} characters before a *", f"at most {MAX_BEGINNING}")
        return text

    def unknown_field(self, name: str) -> QueryError:
        """The error for a field that does not exist."""
        meant = similar(name)
        known = ", ".join((*KEYWORDS, *NUMBERS, *PARTS, "has", "saved"))
        hint = f"did you mean {meant}?" if meant else f"one of {known}, {METADATA}<key>"
        return QueryError(self.at + 1, f"the unknown field {name!r}", f"a field ({hint}), or the text in quotes")

    def refuse_deeper(self, depth: int) -> None:
        """Raise if this is deeper than a query may be."""
        if depth > MAX_DEPTH:
            raise self.error(f"at most {MAX_DEPTH} parentheses and negations within one another")

    def close(self, opened_at: int, or_else: str = "") -> None:
        """Step over the ) of the ( that stands there."""
        if not self.take(")"):
            raise self.error(f'{or_else}) for the "(" at column {opened_at + 1}')

    def take_operator(self, word: str) -> bool:
        """Step over AND, OR or NOT if it is next."""
        found = self.sees(word)
        self.advance(len(word) if found else 0)
        return found

    def take_minus(self) -> bool:
        """Step over a `-` if it is next; what it negates must follow at once."""
        if self.at_end() or self.text[self.at] != "-":
            return False
        self.at += 1
        if self.at == len(self.text) or self.text[self.at].isspace():
            raise self.error("what to leave out, right after the -")
        return True

    def take(self, sign: str) -> bool:
        """Step over this sign, and the space after it, if it is next."""
        found = self.text.startswith(sign, self.at)
        self.advance(len(sign) if found else 0)
        return found

    def sees(self, word: str) -> bool:
        """Whether this operator is next, as a word of its own."""
        match = self.bare_text.match(self.text, self.at)
        return match is not None and match[0] == word

    def advance(self, count: int) -> None:
        """Step over this many characters and the space after them."""
        self.at += count
        self.skip_space()

    def skip_space(self) -> None:
        """Step over space."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self.text)

    def error(self, expected: str) -> QueryError:
        """The error for what is next."""
        match = _BARE.match(self.text, self.at)
        found = "the end" if self.at_end() else repr(match[0][:40] if match else self.text[self.at])
        return QueryError(self.at + 1, found, expected)


def _one_word(text: str, part: str | None) -> str:
    """What is expected before a `*` in place of a text that is not one word."""
    words = [f"{part}:{token.text}" if part else token.text for token in tokens(text)]
    if not words:
        return "letters or digits before the *"
    return f"the beginning of one word before the *: {' '.join(words)[:80]}*"


def _any_of(items: list[Query]) -> Query:
    return items[0] if len(items) == 1 else Or(tuple(items))
