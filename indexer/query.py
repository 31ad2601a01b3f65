"""The query language: search text -> tree. One grammar for every engine.

query  = and, {"OR", and}
and    = not, {["AND"], not}
not    = {"NOT" | "-"}, atom
atom   = "(", query, ")" | word, ["*"] | phrase | field, ":", value
value  = word, ["*"] | phrase, ["*"] | "*" | number or date, optionally after one of > >= < <=
       | ("[" | "{"), bound, "TO", bound, ("]" | "}")          with "*" for an open end; braces leave the bound out
phrase = '"', {character | '\\"' | '\\\\'}, '"'
"""

import re
from dataclasses import dataclass

from tunemill.indexer.ast import And, Everything, Is, Not, Or, Query, StartsWith, WordPrefix, Words
from tunemill.indexer.errors import QueryError
from tunemill.indexer.fields import KEYWORDS, METADATA, NUMBERS, field_named, similar
from tunemill.indexer.ranges import comparison, number_is, range_between

__all__ = ["MAX_CHARACTERS", "MAX_DEPTH", "MAX_TERMS", "Query", "QueryError", "parse"]

MAX_CHARACTERS = 4096
MAX_DEPTH = 40  # of parentheses and negations; keeps both engines' recursion small
MAX_TERMS = 256  # Elasticsearch's own limit is 1024 clauses at the least

_SPACE = re.compile(r"\s*")
_BARE = re.compile(r'[^\s()"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_FIELD = re.compile(r"([A-Za-z_][\w.\-]*):")
_RANGE = re.compile(r"([\[{])\s*([^\s\[\]{}]+)\s+TO\s+([^\s\[\]{}]+)\s*([\]}])")
_ONE_WORD = re.compile(r"\w+")
_TERM = "a word, a phrase in quotes, field:value or ("


def parse(text: str) -> Query:
    """The tree of a search text; empty text means every log.

    Raises:
        QueryError: names the column, what was found there and what was expected.
    """
    if len(text) > MAX_CHARACTERS:
        raise QueryError(MAX_CHARACTERS + 1, f"{len(text)} characters", f"at most {MAX_CHARACTERS}")
    parser = _Parser(text)
    parser.skip_space()
    if parser.at_end():
        return Everything()
    tree = parser.either(depth=0)
    if not parser.at_end():
        raise parser.error("AND, OR or another term (this closes no parenthesis)")
    return tree


@dataclass
class _Parser:
    """Reads the text from left to right; `at` is the next character."""

    text: str
    at: int = 0
    terms: int = 0

    def either(self, depth: int) -> Query:
        """Items joined by OR."""
        items = [self.together(depth)]
        while self.take_operator("OR"):
            items.append(self.together(depth))
        return items[0] if len(items) == 1 else Or(tuple(items))

    def together(self, depth: int) -> Query:
        """Items joined by AND, written or not."""
        items = [self.negated(depth)]
        while self.take_operator("AND") or not (self.at_end() or self.text[self.at] == ")" or self.sees("OR")):
            items.append(self.negated(depth))
        return items[0] if len(items) == 1 else And(tuple(items))

    def negated(self, depth: int) -> Query:
        """An item behind any number of NOT and `-`."""
        if depth > MAX_DEPTH:
            raise self.error(f"at most {MAX_DEPTH} parentheses and negations within one another")
        if self.take_operator("NOT") or self.take_minus():
            return Not(self.negated(depth + 1))
        return self.atom(depth)

    def atom(self, depth: int) -> Query:
        """One term, or a whole query in parentheses."""
        if self.at_end() or self.text[self.at] == ")" or self.sees("OR") or self.sees("AND"):
            raise self.error(_TERM)
        if self.text[self.at] == "(":
            return self.parenthesised(depth)
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise self.error(f"at most {MAX_TERMS} terms")
        return self.fielded() if _FIELD.match(self.text, self.at) else self.free_text()

    def parenthesised(self, depth: int) -> Query:
        """What stands between ( and )."""
        opened_at = self.at
        self.advance(1)
        tree = self.either(depth + 1)
        if self.at_end():
            raise self.error(f') for the "(" at column {opened_at + 1}')
        self.advance(1)
        return tree

    def free_text(self) -> Query:
        """A word, the beginning of a word, or a phrase."""
        if self.text[self.at] == '"':
            return Words(self.phrase())
        start, word = self.at, self.bare()
        stem = self.before_wildcard(word, start)
        if stem is None:
            return Words(word)
        if not _ONE_WORD.fullmatch(stem):
            raise QueryError(start + 1, repr(word), "letters or digits before the *")
        return WordPrefix(stem)

    def fielded(self) -> Query:
        """field:value."""
        match = _FIELD.match(self.text, self.at)
        assert match is not None  # noqa: S101  the caller looked
        name = field_named(match[1])
        if name is None:
            raise self.unknown_field(match[1])
        self.at = match.end()  # no space may follow
        if self.at >= len(self.text) or self.text[self.at].isspace():
            raise self.error(f"a value right after {match[1]}:")
        return self.number(name) if name in NUMBERS else self.keyword(name)

    def keyword(self, name: str) -> Query:
        """The value of a field of words."""
        start = self.at
        if self.text[self.at] == '"':
            value = self.phrase(then_space=False)
            starts = self.text.startswith("*", self.at)
            self.advance(1 if starts else 0)
            return StartsWith(name, value) if starts else Is(name, value)
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
            self.advance(match.end() - self.at)
            return range_between(name, match.group(1, 2, 3, 4), column=start + 1)
        value = self.bare()
        if value == "*":
            return StartsWith(name, "")
        return (comparison if value[0] in "<>" else number_is)(name, value, column=start + 1)

    def phrase(self, *, then_space: bool = True) -> str:
        """What stands between quotes."""
        match = _QUOTED.match(self.text, self.at)
        if match is None:
            raise QueryError(len(self.text) + 1, "the end", f'" for the one at column {self.at + 1}')
        self.at = match.end()
        if then_space:
            self.skip_space()
        return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL)

    def bare(self) -> str:
        """Text up to a space, a quote or a parenthesis."""
        match = _BARE.match(self.text, self.at)
        if match is None:
            raise self.error("a value")
        self.advance(match.end() - self.at)
        return match[0]

    def before_wildcard(self, word: str, start: int) -> str | None:
        """What stands before a trailing *; None without one."""
        star = word.find("*")
        if star == -1:
            return None
        if star != len(word) - 1:
            raise QueryError(start + star + 1, "a * inside a word", "a * only at a word's end, or the text in quotes")
        return word[:-1]

    def unknown_field(self, name: str) -> QueryError:
        """The error for a field that does not exist."""
        meant = similar(name)
        hint = f"did you mean {meant}?" if meant else f"one of {', '.join((*KEYWORDS, *NUMBERS))}, {METADATA}<key>"
        return QueryError(self.at + 1, f"the unknown field {name!r}", f"a field ({hint}), or the text in quotes")

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

    def sees(self, word: str) -> bool:
        """Whether this operator is next, as a word of its own."""
        match = _BARE.match(self.text, self.at)
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
