"""Tag rules: data in YAML, compiled into a few automata for each part of a log's text.

What a rule asks for is a few bits: one for each condition of `all`, one for those of `any`, of which one is enough, and one for
those of `none`. Whatever meets such a condition - a pattern in a part of the text, a field's value, a size - has its bits. A log is
turned into the bits that hold for it, and only those rules are looked at whose first bit may be among them.
The format stands in `docs/tags.md`; `rules.yaml` beside this module is the starter set.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import compress, count
from typing import NamedTuple

import re2

from tunemill.privacy import pii
from tunemill.privacy.pii import PrivateData
from tunemill.schemas.learned import LearnedTag
from tunemill.schemas.records import LogRecord, Tag
from tunemill.streams.conditions import test_of
from tunemill.streams.errors import RuleError, RulesInvalid
from tunemill.streams.patterns import Patterns, Seen
from tunemill.streams.rule import Condition, Rule
from tunemill.streams.rules_text import read_document
from tunemill.streams.text import Texts

PARTS = ("system", "user", "assistant", "rest")  # of a log's text


class Found(NamedTuple):
    """What the rules and the gates of private data found in one log."""

    tags: tuple[Tag, ...]  # of each tag the first rule that matched, in the file's order
    pii_kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Check:
    """A rule as bits."""

    tag: Tag
    wanted: tuple[int, ...]
    none: int  # 0 where it has no exceptions

    def holds(self, known: "_Known") -> bool:
        sure, maybe, none = known.sure, known.maybe, self.none
        if none & sure:  # costs nothing, where a pattern that is only possible has to be tried
            return False
        for bit in self.wanted:
            if not (bit & sure or (bit & maybe and known.confirm(bit))):
                return False
        return not (none & maybe and known.confirm(none))


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
        self._tests: dict[Condition, int] = defaultdict(int)  # condition on fields -> its bits
        self._free = (1 << number for number in count())  # bits
        self._gates = {self._gate(pattern): kinds for pattern, kinds in pii.GATES.items()}
        self._gated = sum(self._gates)
        checks = map(self._compile, self.rules)
        self._checks = {check.wanted[0]: check for check in checks if check.wanted}  # in the rules' order
        self._firsts = sum(self._checks)
        self._asked = [(bits, test_of(condition)) for condition, bits in self._tests.items()]
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
        kinds: dict[Seen, frozenset[str]] = {}
        known = self._known(logs, kinds)
        waiting: dict[int, list[int]] = {bit: [] for bit in self._checks}  # places of the logs that a rule may match
        for place, one in enumerate(known):
            firsts = (one.sure | one.maybe) & self._firsts
            while firsts:
                bit = 1 << firsts.bit_length() - 1
                waiting[bit].append(place)
                firsts ^= bit
        matched: list[dict[str, Tag]] = [{} for _ in logs]
        for bit, check in self._checks.items():
            tag = check.tag
            for place in waiting[bit]:
                if tag.tag not in matched[place] and check.holds(known[place]):
                    matched[place][tag.tag] = tag
        return [
            Found(tuple(tags.values()), self._private(one, kinds)) for tags, one in zip(matched, known, strict=True)
        ]

    def _known(self, logs: Sequence[tuple[LogRecord, Texts]], kinds: dict[Seen, frozenset[str]]) -> list["_Known"]:
        columns = [
            self._read([texts.parts[name] for _, texts in logs], patterns, kinds)
            for name, patterns in self._parts.items()
        ]
        known = list(map(_Known, zip(*columns, strict=True)))
        for bits, test in self._asked:
            for one in compress(known, test(logs)):
                one.sure |= bits
        return known

    def _read(self, texts: Sequence[str], patterns: Patterns, kinds: dict[Seen, frozenset[str]]) -> list[Seen]:
        """What was seen in each of these texts of one part; the private data in them goes to `kinds`."""
        different = [text for text in dict.fromkeys(texts) if text]
        found = dict(zip(different, patterns.match(different), strict=True))
        for text, seen in found.items():
            if seen.sure & self._gated:
                open_gates = (opened for gate, opened in self._gates.items() if gate & seen.sure)
                kinds[seen] = pii.kinds_in(text, frozenset().union(*open_gates))
        found[""] = Seen(b"")
        return [found[text] for text in texts]

    def _private(self, known: "_Known", kinds: Mapping[Seen, frozenset[str]]) -> tuple[str, ...]:
        """The kinds of private data in a log."""
        if not known.sure & self._gated:
            return ()
        found = frozenset().union(*(kinds.get(part, ()) for part in known.parts))
        return tuple(kind for kind in pii.KINDS if kind in found)

    def _compile(self, rule: Rule) -> _Check:
        wanted = [self._bit_of([condition]) for condition in rule.all]
        if rule.any:
            wanted.append(self._bit_of(rule.any))
        return _Check(Tag(rule.tag, rule.setter), tuple(wanted), self._bit_of(rule.none) if rule.none else 0)

    def _bit_of(self, conditions: Iterable[Condition]) -> int:
        """A bit that any of these conditions gives."""
        bit = next(self._free)
        for condition in conditions:
            if condition.where is None:
                self._tests[condition] |= bit
                continue
            for part in PARTS if condition.where == "text" else (condition.where,):
                for pattern in condition.patterns:
                    self._parts[part].add(pattern, bit)
        return bit

    def _gate(self, pattern: str) -> int:
        """The bit of a gate of private data, which stands in every part."""
        bit = next(self._free)
        for part in self._parts.values():
            part.add(pattern, bit)
        return bit


class _Known:
    """The bits that hold for one log, and those that may."""

    __slots__ = ("maybe", "parts", "sure")

    def __init__(self, parts: Sequence[Seen]) -> None:
        self.parts = parts  # other logs may share each
        self.sure = 0
        self.maybe = 0
        for part in parts:
            self.sure |= part.sure
            self.maybe |= part.maybe

    def confirm(self, bit: int) -> bool:
        """Whether a bit that may hold does."""
        for part in self.parts:
            if part.maybe & bit and part.confirm(bit):
                self.sure |= bit
                return True
        return False


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
