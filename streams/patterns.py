"""Many RE2 patterns against many texts: those that surely match one, and those that may, to be asked one by one. Pure.

All patterns in one automaton would read the text once, but one with a gap (`order[^.]{0,60}refund`) has to remember how long ago each
beginning was: the states of some such patterns multiply until matching takes a hundred times as long. So patterns with gaps stay
alone, and are only tried on a text that holds the words without which they can't match (RE2's FilteredRE2 finds which those are).
Patterns with gaps that no words can be asked for lie in small automata of their own. The others lie in a few automata rather than
one, for the same reason: over varied text, two small ones have fewer states.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import re2

# Per automaton, by trial on texts seen before and on new ones, for which states are made; whole words in one are as cheap as a few.
_PLAIN_PATTERNS = 40
_GAP_PATTERNS = 8
_FEW_PATTERNS = 16  # which are cheapest in one: to ask an automaton costs a microsecond, however short the text is
_FILTER_PATTERNS = 36  # per filter, whose automaton has RE2's 8 MiB, which more patterns overrun
_MAX_SET_BYTES = 64 * 2**20  # over its budget RE2 finds nothing, silently; the default is 8 MiB
# What may stand for several characters of many kinds: `.{0,9}`, `[^.]*`, `\w+`, `(?:...){0,3}`.
_GAP = re2.compile(r"(?:[^\\]\.|\[\^(?:\\.|[^\]\\])*\]|\\[wWSD]|\\w[^\]\[]*\]|\))(?:[*+]|\{\d*,\d*\})")

_LITERAL = re2.compile(r"\(\?i:(?:\\b)?(?:[^\\()\[\]{}*+?|.^$]|\\\W)*(?:\\b)?\)")  # as `literal` conditions are written


class Patterns:
    """Patterns that are looked for in the same texts, each with its bits: what is known of a text that it matches. Immutable once it
    is compiled."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}

    def add(self, pattern: str, bits: int) -> None:
        """Look for this pattern, and give these bits beside those that it has to the texts that it matches."""
        self._bits[pattern] = self._bits.get(pattern, 0) | bits

    def compile(self) -> None:
        """To be called once, after all patterns.

        Raises:
            re2.error: together they need too much memory.
        """
        gaps = [pattern for pattern in self._bits if _GAP.search(f" {pattern}")]
        alone = _filterable(gaps)
        literals = [pattern for pattern in self._bits if _LITERAL.fullmatch(pattern)]
        everywhere = [pattern for pattern in gaps if pattern not in {*alone, *literals}]
        plain = [pattern for pattern in self._bits if pattern not in {*gaps, *literals}]
        if len(plain) + len(everywhere) <= _FEW_PATTERNS:
            together = [[*plain, *everywhere], literals]
        else:
            together = [*_parted(plain, _PLAIN_PATTERNS), *_parted(everywhere, _GAP_PATTERNS), literals]
        self._sets = [(_set(part, quiet(max_mem=_MAX_SET_BYTES)), self._bits_of(part)) for part in together if part]
        self._filters = [(_filter(part), list(map(self._alone, part))) for part in _parted(alone, _FILTER_PATTERNS)]

    def match(self, texts: Iterable[str]) -> list["Seen"]:
        """What holds for each of these texts, and what may hold.

        Each automaton reads all texts before the next one does: what it is made of is then still near the processor.
        """
        seen = [Seen(text.encode()) for text in texts]
        for automaton, bits in self._sets:
            match = automaton.Match
            for one in seen:
                for place in match(one.text) or ():
                    one.sure |= bits[place]
        for automaton, alone in self._filters:
            match = automaton.Match
            for one in seen:
                for place in match(one.text, True) or ():
                    one.add(alone[place])
        return seen

    def _bits_of(self, patterns: list[str]) -> list[int]:
        return [self._bits[pattern] for pattern in patterns]

    def _alone(self, pattern: str) -> "_Alone":
        """A set of one: it says whether it matches, which is cheaper than where."""
        return _Alone(self._bits[pattern], _set([pattern], quiet()).Match)


class _Alone(NamedTuple):
    """A pattern that is tried where somebody asks for one of its bits."""

    bits: int
    match: Callable[[bytes], Any]


class Seen:
    """The bits that hold for one text, and those that may hold and are looked at when somebody asks."""

    __slots__ = ("_possible", "maybe", "sure", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.sure = 0
        self.maybe = 0
        self._possible: list[_Alone] = []

    def add(self, pattern: _Alone) -> None:
        """The text has the words of this pattern."""
        self.maybe |= pattern.bits
        self._possible.append(pattern)

    def confirm(self, bit: int) -> bool:
        """Whether a bit that may hold does."""
        if self.sure & bit:
            return True
        untried = []
        for pattern in self._possible:
            if self.sure & bit or not pattern.bits & bit:
                untried.append(pattern)
            elif pattern.match(self.text):
                self.sure |= pattern.bits
        self._possible = untried
        if self.sure & bit:
            return True
        self.maybe &= ~bit
        return False


def quiet(*, max_mem: int | None = None) -> Any:
    """RE2's options, without its lines on stderr."""
    options = re2.Options()
    options.log_errors = False
    if max_mem is not None:
        options.max_mem = max_mem
    return options


def _set(patterns: list[str], options: Any) -> Any:
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(pattern)
    found.Compile()
    return found


def _filter(patterns: list[str]) -> Any:
    found = re2.Filter()
    for pattern in patterns:
        found.Add(pattern, quiet())
    found.Compile()
    return found


def _parted(patterns: list[str], size: int) -> list[list[str]]:
    """In as few parts as there must be, about equally long. Neighbours, which are mostly of one topic, stay together."""
    count = -(-len(patterns) // size)
    cuts = [number * len(patterns) // count for number in range(count + 1)] if count else []
    return [patterns[start:end] for start, end in pairwise(cuts)]


def _filterable(patterns: list[str]) -> list[str]:
    """Those that need some words in the text: the others match a blank one as far as the filter knows."""
    if not patterns:
        return []
    unfiltered = set(_filter(patterns).Match("", True) or ())
    return [pattern for place, pattern in enumerate(patterns) if place not in unfiltered]
