"""Many RE2 patterns against many texts: those that surely match one, and those that may, to be asked one by one. Pure.

All patterns in one automaton would read the text once, but one with a gap (`order[^.]{0,60}refund`) has to remember how long ago each
beginning was: the states of some such patterns multiply until matching takes a hundred times as long. So patterns with gaps stay
alone, and are only tried on a text that holds the words without which they can't match (RE2's FilteredRE2 finds which those are).
Patterns with gaps that no words can be asked for lie in small automata of their own. The others lie in a few automata rather than
one, for the same reason: over varied text, two small ones have fewer states.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

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
    """Patterns that are looked for in the same texts, each under a key. Immutable once it is compiled."""

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}

    def add(self, pattern: str, key: int) -> int:
        """The key of the pattern: this one, unless it is known by another."""
        return self._keys.setdefault(pattern, key)

    def compile(self) -> None:
        """To be called once, after all patterns.

        Raises:
            re2.error: together they need too much memory.
        """
        gaps = [pattern for pattern in self._keys if _GAP.search(f" {pattern}")]
        alone = _filterable(gaps)
        literals = [pattern for pattern in self._keys if _LITERAL.fullmatch(pattern)]
        everywhere = [pattern for pattern in gaps if pattern not in {*alone, *literals}]
        plain = [pattern for pattern in self._keys if pattern not in {*gaps, *literals}]
        if len(plain) + len(everywhere) <= _FEW_PATTERNS:
            together = [[*plain, *everywhere], literals]
        else:
            together = [*_parted(plain, _PLAIN_PATTERNS), *_parted(everywhere, _GAP_PATTERNS), literals]
        # Sets of one: they say whether it matches, which is cheaper than where.
        self._alone = {self._keys[pattern]: _set([pattern], quiet()) for pattern in alone}
        self._sets = [(_set(part, quiet(max_mem=_MAX_SET_BYTES)), self._keys_of(part)) for part in together if part]
        self._filters = [(_filter(part), self._keys_of(part)) for part in _parted(alone, _FILTER_PATTERNS)]

    def match(self, texts: Iterable[tuple[bytes, set[int], set[int]]]) -> None:
        """Add the keys of the patterns that match a text to the first set beside it, and of those that may to the second.

        Each automaton reads all texts before the next one does: what it is made of is then still near the processor.
        """
        texts = list(texts)
        for automaton, keys in self._sets:
            match = automaton.Match
            for text, sure, _ in texts:
                for place in match(text) or ():
                    sure.add(keys[place])
        for automaton, keys in self._filters:
            match = automaton.Match
            for text, _, possible in texts:
                for place in match(text, True) or ():
                    possible.add(keys[place])

    def confirm(self, key: int, text: bytes) -> bool:
        """Whether the pattern of a possible key matches the text."""
        return self._alone[key].Match(text) is not None

    def _keys_of(self, patterns: list[str]) -> list[int]:
        return [self._keys[pattern] for pattern in patterns]


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
