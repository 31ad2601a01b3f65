"""Tag rules: data in YAML, compiled into a few automata for each part of a log's text.

Whatever a rule may ask for - a pattern in a part of the text, a field's value, a size - is a number, its key. A log is turned into
the keys that hold for it; the rules are sets of keys, and only those are looked at that a key of the log can make match.
The format stands in `docs/tags.md`; `rules.yaml` beside this module is the starter set.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

import re2

from tunemill.privacy import pii
from tunemill.privacy.pii import PrivateData
from tunemill.schemas.learned import LearnedTag
from tunemill.schemas.records import LogRecord, Tag
from tunemill.streams.conditions import Test, test_of
from tunemill.streams.errors import RuleError, RulesInvalid
from tunemill.streams.patterns import Patterns
from tunemill.streams.rule import Condition, Rule
from tunemill.streams.rules_text import read_document
from tunemill.streams.text import Texts

PARTS = ("system", "user", "assistant", "rest")  # of a log's text


@dataclass(frozen=True, slots=True)
class Found:
    """What the rules and the gates of private data found in one log."""

    tags: tuple[Tag, ...]  # of each tag the first rule that matched, in the file's order
    pii_kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Check:
    """A rule as keys."""

    tag: Tag
    all: tuple[frozenset[int], ...]
    any: frozenset[int]
    none: frozenset[int]

    def holds(self, known: "_Known") -> bool:
        if not self.none.isdisjoint(known.sure):  # costs nothing, where a pattern that is only possible has to be tried
            return False
        for wanted in self.all:
            if not known.has_any(wanted):
                return False
        return (not self.any or known.has_any(self.any)) and not (self.none and known.has_any(self.none))


class Rules:
    """Everything that sets tags by itself, compiled. Immutable, and safe to share between threads."""

    def __init__(
        self, rules: Iterable[Rule], *, learned: Sequence[LearnedTag] = (), private_data: PrivateData = "snapshot"
    ) -> None:
        """Compile those that are enabled.

        Args:
            rules: as `read_rules` checks them.
            learned: the learned tags in force.
            private_data: where private data is replaced: at ingest, in a dataset's snapshot, or nowhere.

        Raises:
            re2.error: the patterns together need more memory than there is for them.
        """
        self.rules = tuple(rule for rule in rules if rule.enabled)
        self.learned = tuple(learned)
        self.private_data = private_data
        self._parts = {name: Patterns() for name in PARTS}
        self._tests: dict[Condition, int] = {}  # condition on fields -> its key
        self._count = 0  # of the keys of patterns
        self._gates = {self._key(part, pattern): kinds for pattern, kinds in pii.GATES.items() for part in PARTS}
        self._checks = [self._compile(rule) for rule in self.rules]
        self._awaited = _awaited(self._checks)
        self._asked: list[tuple[int, Test]] = [(key, test_of(condition)) for condition, key in self._tests.items()]
        for part in self._parts.values():
            part.compile()

    @property
    def masks_private_data(self) -> bool:
        """Whether private data is replaced before anything is stored."""
        return self.private_data == "ingest"

    def find(self, logs: Sequence[tuple[LogRecord, Texts]]) -> list[Found]:
        """What was found in each log.

        Many logs at once cost far less than one by one: every step is done for all of them before the next, and a text that
        several logs share is looked at once.
        """
        known = self._known(logs)
        waiting: dict[int, list[int]] = defaultdict(list)  # place of a rule -> those of the logs that it may match
        for place, one in enumerate(known):
            keys = self._awaited.keys() & (one.sure | one.possible)
            for number in frozenset().union(*map(self._awaited.__getitem__, keys)):
                waiting[number].append(place)
        matched: list[dict[str, Tag]] = [{} for _ in logs]
        for number in sorted(waiting):
            check = self._checks[number]
            for place in waiting[number]:
                if check.tag.tag not in matched[place] and check.holds(known[place]):
                    matched[place][check.tag.tag] = check.tag
        return [
            Found(tuple(tags.values()), tuple(kind for kind in pii.KINDS if kind in one.private) if one.private else ())
            for tags, one in zip(matched, known, strict=True)
        ]

    def _known(self, logs: Sequence[tuple[LogRecord, Texts]]) -> list["_Known"]:
        columns = [
            self._read([texts.parts[name] for _, texts in logs], patterns) for name, patterns in self._parts.items()
        ]
        known = [_Known(parts) for parts in zip(*columns, strict=True)]
        for key, test in self._asked:
            for one, (log, texts) in zip(known, logs, strict=True):
                if test(log, texts):
                    one.sure.add(key)
        return known

    def _read(self, texts: Sequence[str], patterns: Patterns) -> list["_Part"]:
        """What holds for each of these texts of one part."""
        parts = {text: _Part(text, patterns) for text in set(texts)}
        patterns.match((part.encoded, part.sure, part.possible) for part in parts.values() if part.encoded)
        for text, part in parts.items():
            gated = self._gates.keys() & part.sure
            if gated:
                part.private = pii.kinds_in(text, frozenset().union(*map(self._gates.__getitem__, gated)))
        return [parts[text] for text in texts]

    def _compile(self, rule: Rule) -> _Check:
        return _Check(
            Tag(rule.tag, rule.setter),
            tuple(self._keys_for(condition) for condition in rule.all),
            frozenset().union(*map(self._keys_for, rule.any)),
            frozenset().union(*map(self._keys_for, rule.none)),
        )

    def _keys_for(self, condition: Condition) -> frozenset[int]:
        """The keys, any of which says that the condition holds. Those of patterns count from 0, the others down from -1."""
        if condition.where is None:
            return frozenset({self._tests.setdefault(condition, -1 - len(self._tests))})
        parts = PARTS if condition.where == "text" else (condition.where,)
        return frozenset(self._key(name, pattern) for name in parts for pattern in condition.patterns)

    def _key(self, part: str, pattern: str) -> int:
        """Of a pattern in a part; its remainder by the number of parts says which part it is."""
        key = self._parts[part].add(pattern, self._count * len(PARTS) + PARTS.index(part))
        self._count += 1
        return key


class _Part:
    """What holds for one text, and what may hold and is looked at when somebody asks."""

    __slots__ = ("_asked", "_patterns", "encoded", "possible", "private", "sure")

    def __init__(self, text: str, patterns: Patterns) -> None:
        self.encoded = text.encode()
        self.sure: set[int] = set()
        self.possible: set[int] = set()
        self.private: frozenset[str] = frozenset()  # kinds of private data
        self._patterns = patterns
        self._asked: dict[int, bool] = {}

    def confirm(self, key: int) -> bool:
        """Whether a possible key holds."""
        if key not in self._asked:
            self._asked[key] = self._patterns.confirm(key, self.encoded)
        return self._asked[key]


class _Known:
    """The same for one log."""

    __slots__ = ("parts", "possible", "private", "sure")

    def __init__(self, parts: Sequence[_Part]) -> None:
        self.parts = parts  # in the order of PARTS; other logs may share each
        self.sure: set[int] = set()
        self.possible: set[int] = set()
        self.private: frozenset[str] = frozenset()
        for part in parts:
            if part.sure:
                self.sure |= part.sure
                self.private |= part.private
            if part.possible:
                self.possible |= part.possible

    def has_any(self, wanted: frozenset[int]) -> bool:
        """Whether one of these keys holds."""
        if not wanted.isdisjoint(self.sure):
            return True
        for key in wanted & self.possible:
            self.possible.remove(key)
            if self.parts[key % len(PARTS)].confirm(key):
                self.sure.add(key)
                return True
        return False


def _awaited(checks: Sequence[_Check]) -> dict[int, frozenset[int]]:
    """By key, the places of the rules that may match where it holds: those that ask for it first of all."""
    found: dict[int, set[int]] = defaultdict(set)
    for number, check in enumerate(checks):
        for key in check.all[0] if check.all else check.any:
            found[key].add(number)
    return {key: frozenset(numbers) for key, numbers in found.items()}


def read_rules(text: str, *, place: str = "rules", learned: Sequence[LearnedTag] = ()) -> Rules:
    """The rules in a YAML text, compiled.

    Args:
        place: what the text is called in errors.
        learned: the learned tags in force beside the rules.

    Raises:
        RulesInvalid: with everything that is wrong, by line and column.
    """
    rules, private_data = read_document(text, place)
    try:
        return Rules(rules, learned=learned, private_data=private_data)
    except re2.error as error:
        reason = "together the patterns need more memory than there is for them; use fewer or shorter repetitions"
        raise RulesInvalid(place, [RuleError(1, 1, reason)]) from error


def load_rules() -> Rules:
    """The starter set."""
    return read_rules(starter_text(), place="the starter rules")


def starter_text() -> str:
    """The starter set as it is written."""
    return (files("tunemill.streams") / "rules.yaml").read_text(encoding="utf-8")
