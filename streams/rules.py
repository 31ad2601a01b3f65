"""Tag rules: data in YAML, compiled into one RE2 set that runs once over each part of a log's text.

Whatever a rule may ask for - a pattern in a part of the text, a field's value, a size - is a number, its key. A log is turned into
the keys that hold for it; the rules are sets of keys, and only those are looked at that a key of the log can make match.
The format stands in `docs/tags.md`; `rules.yaml` beside this module is the starter set.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import re2

from tunemill.privacy import pii
from tunemill.schemas.records import LogRecord
from tunemill.streams.conditions import Test, test_of
from tunemill.streams.errors import RuleError, RulesInvalid
from tunemill.streams.rule import Condition, PrivateData, Rule, Where, quiet
from tunemill.streams.rules_text import read_document
from tunemill.streams.text import Texts

PARTS = ("system", "user", "assistant", "rest")  # of a log's text

_MAX_SET_BYTES = 256 * 2**20  # over its budget RE2 finds nothing, silently; the default is 8 MiB


@dataclass(frozen=True, slots=True)
class Found:
    """What the rules and the gates of private data found in one log."""

    rules: tuple[Rule, ...]
    pii_kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Check:
    """A rule as keys."""

    rule: Rule
    all: tuple[frozenset[int], ...]
    any: frozenset[int]
    none: frozenset[int]

    def holds(self, keys: set[int]) -> bool:
        for wanted in self.all:
            if wanted.isdisjoint(keys):
                return False
        return (not self.any or not self.any.isdisjoint(keys)) and self.none.isdisjoint(keys)


class Rules:
    """Everything that sets tags by itself, compiled. Immutable, and safe to share between threads."""

    def __init__(
        self, rules: Iterable[Rule], *, learned: Sequence[Any] = (), private_data: PrivateData = "snapshot"
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
        self._positions: dict[str, int] = {}  # pattern -> its place in the set
        self._tests: dict[Condition, int] = {}  # condition on fields -> its key
        self._set = re2.Set.SearchSet(_options())
        self._gates = [(kind, self._keys("text", (pattern,))) for kind, pattern in pii.GATES.items()]
        self._checks = [self._compile(rule) for rule in self.rules]
        self._awaited = _awaited(self._checks)
        self._asked: list[tuple[int, Test]] = [(key, test_of(condition)) for condition, key in self._tests.items()]
        self._set.Compile()

    def find(self, log: LogRecord, texts: Texts) -> Found:
        """The rules that match this log, in the file's order, and the kinds of private data in it."""
        keys = self._keys_of(log, texts)
        possible: set[int] = set()
        for key in keys:
            if key in self._awaited:
                possible.update(self._awaited[key])
        matched = [check.rule for number in sorted(possible) if (check := self._checks[number]).holds(keys)]
        private = [kind for kind, gate in self._gates if not gate.isdisjoint(keys) and _confirmed(kind, texts)]
        return Found(tuple(matched), tuple(private))

    def _keys_of(self, log: LogRecord, texts: Texts) -> set[int]:
        """Everything that holds for this log. Runs for every log: loops, because generators cost more than the work in them."""
        keys: set[int] = set()
        for key, test in self._asked:
            if test(log, texts):
                keys.add(key)
        for part, name in enumerate(PARTS):
            text = texts.parts[name]
            if text:
                for position in self._set.Match(text) or ():
                    keys.add(position * len(PARTS) + part)
        return keys

    def _add(self, pattern: str) -> int:
        if pattern not in self._positions:
            self._positions[pattern] = self._set.Add(pattern)
        return self._positions[pattern]

    def _compile(self, rule: Rule) -> _Check:
        return _Check(
            rule,
            tuple(self._keys_for(condition) for condition in rule.all),
            frozenset().union(*map(self._keys_for, rule.any)),
            frozenset().union(*map(self._keys_for, rule.none)),
        )

    def _keys_for(self, condition: Condition) -> frozenset[int]:
        """The keys, any of which says that the condition holds. Those of patterns count from 0, the others down from -1."""
        if condition.where is None:
            return frozenset({self._tests.setdefault(condition, -1 - len(self._tests))})
        return self._keys(condition.where, condition.patterns)

    def _keys(self, where: Where, patterns: Iterable[str]) -> frozenset[int]:
        parts = range(len(PARTS)) if where == "text" else (PARTS.index(where),)
        positions = [self._add(pattern) for pattern in patterns]
        return frozenset(position * len(PARTS) + part for position in positions for part in parts)


def _confirmed(kind: str, texts: Texts) -> bool:
    return any(pii.confirm(kind, text) for text in texts.parts.values())


def _awaited(checks: Sequence[_Check]) -> dict[int, tuple[int, ...]]:
    """By key, the places of the rules that may match where it holds: those that ask for it first of all."""
    found: dict[int, list[int]] = {}
    for number, check in enumerate(checks):
        for key in check.all[0] if check.all else check.any:
            found.setdefault(key, []).append(number)
    return {key: tuple(numbers) for key, numbers in found.items()}


def _options() -> Any:
    options = quiet()
    options.max_mem = _MAX_SET_BYTES
    return options


def read_rules(text: str, *, place: str = "rules", learned: Sequence[Any] = ()) -> Rules:
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
