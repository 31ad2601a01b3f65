"""Tag rules: data in a YAML file, compiled into one RE2 set that runs once over each part of a log's text.

The file's format stands in `docs/tags.md`; `rules.yaml` beside this module is the starter set.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec
import re2
import yaml

from tunemill.privacy import pii
from tunemill.schemas.records import LogRecord
from tunemill.streams.errors import RulesInvalid
from tunemill.streams.text import Texts

Where = Literal["text", "user", "assistant", "system"]
Has = Literal["tool_calls", "tools", "media", "refusal", "output"]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing to look for: any of some literals or regexes in a part of the text, a field's value, or a thing's presence."""

    where: Where | None = msgspec.field(name="in", default=None)
    literal: str | tuple[str, ...] | None = None
    regex: str | tuple[str, ...] | None = None
    status: Literal["ok", "error"] | None = None
    finish_reason: str | None = None
    has: Has | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tag, and when a log gets it: all of `all`, at least one of `any` if there are any, and none of `none`."""

    name: str
    version: int
    tag: str
    any: tuple[Condition, ...] = ()
    all: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()

    @property
    def setter(self) -> str:
        """How tags of this rule name it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Found:
    """What the rules and the gates of private data found in one log."""

    rules: tuple[Rule, ...]
    pii_kinds: tuple[str, ...]


class Rules:
    """Compiled rules. Immutable, and safe to share between threads."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Compile.

        Raises:
            RulesInvalid: a rule can never match or names itself twice, or a pattern is not RE2.
        """
        self.rules = tuple(rules)
        self._positions: dict[str, int] = {}  # pattern -> its place in the set
        self._set = re2.Set.SearchSet(_options())
        for pattern in pii.GATES.values():
            self._add(pattern)
        self._checks = [self._compile(rule) for rule in self.rules]
        _check_names(self.rules)
        self._set.Compile()

    def find(self, log: LogRecord, texts: Texts) -> Found:
        """The rules that match this log, in the file's order, and the kinds of private data in it."""
        hits = {name: set(self._set.Match(text) or ()) if text else set() for name, text in texts.parts.items()}
        hits["text"] = set().union(*hits.values())
        matched = tuple(rule for rule, check in zip(self.rules, self._checks, strict=True) if check.holds(log, hits))
        kinds = (kind for kind, gate in pii.GATES.items() if self._positions[gate] in hits["text"])
        return Found(
            matched, tuple(kind for kind in kinds if any(pii.confirm(kind, text) for text in texts.parts.values()))
        )

    def _add(self, pattern: str) -> int:
        if pattern not in self._positions:
            re2.compile(pattern, _options())  # says what is wrong; the set only says that something is
            self._positions[pattern] = self._set.Add(pattern)
        return self._positions[pattern]

    def _compile(self, rule: Rule) -> "_Check":
        groups = {"any": rule.any, "all": rule.all, "none": rule.none}
        if not rule.any and not rule.all:
            raise RulesInvalid(f"rule {rule.name!r}: it needs a condition under `any` or `all`")
        if ":" not in rule.tag or rule.tag.startswith(":") or rule.tag.endswith(":"):
            raise RulesInvalid(f"rule {rule.name!r}: the tag {rule.tag!r} is not `namespace:value`")
        compiled = {}
        for group, conditions in groups.items():
            compiled[group] = tuple(
                self._compile_condition(condition, f"rule {rule.name!r}, `{group}` number {number}")
                for number, condition in enumerate(conditions, start=1)
            )
        return _Check(**compiled)

    def _compile_condition(self, condition: Condition, place: str) -> "_Test":
        patterns = [_literal_pattern(text) for text in _listed(condition.literal)] + list(_listed(condition.regex))
        fields = tuple(
            (name, value)
            for name, value in (("status", condition.status), ("finish_reason", condition.finish_reason))
            if value is not None
        )
        if bool(patterns) + bool(fields) + bool(condition.has) != 1:
            raise RulesInvalid(f"{place}: name one of literal, regex, status, finish_reason, has")
        if (condition.where is None) == bool(patterns):
            raise RulesInvalid(
                f"{place}: `in` (text, user, assistant, system) goes with a literal or regex, and only with it"
            )
        try:
            positions = frozenset(self._add(pattern) for pattern in patterns)
        except re2.error as error:
            raise RulesInvalid(f"{place}: not an RE2 pattern: {_reason(error)}") from error
        return _Test(condition.where, positions, fields, condition.has)


@dataclass(frozen=True, slots=True)
class _Test:
    where: Where | None
    positions: frozenset[int]
    fields: tuple[tuple[str, str], ...]
    has: Has | None

    def holds(self, log: LogRecord, hits: Mapping[str, set[int]]) -> bool:
        if self.where is not None:
            return not self.positions.isdisjoint(hits[self.where])
        if self.has is not None:
            return _has(log, self.has)
        return all(getattr(log, name) == value for name, value in self.fields)


@dataclass(frozen=True, slots=True)
class _Check:
    any: tuple[_Test, ...]
    all: tuple[_Test, ...]
    none: tuple[_Test, ...]

    def holds(self, log: LogRecord, hits: Mapping[str, set[int]]) -> bool:
        return (
            all(test.holds(log, hits) for test in self.all)
            and (not self.any or any(test.holds(log, hits) for test in self.any))
            and not any(test.holds(log, hits) for test in self.none)
        )


def load_rules(path: Path | None = None) -> Rules:
    """The rules in a YAML file; the starter set when no file is named.

    Raises:
        RulesInvalid: the file cannot be read, or a rule in it is wrong; the message names the rule and the reason.
    """
    place = "the starter rules" if path is None else str(path)
    try:
        source = files("tunemill.streams") / "rules.yaml" if path is None else path
        document = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RulesInvalid(f"{place}: cannot be read as YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("rules"), list) or len(document) != 1:
        raise RulesInvalid(f"{place}: expected one field `rules` with a list of rules")
    return Rules(_convert(value, number) for number, value in enumerate(document["rules"], start=1))


def _convert(value: Any, number: int) -> Rule:
    try:
        return msgspec.convert(value, Rule)
    except msgspec.ValidationError as error:
        name = value.get("name") if isinstance(value, dict) else None
        raise RulesInvalid(f"rule {name!r} (number {number}): {error}") from error


def _check_names(rules: Iterable[Rule]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise RulesInvalid(f"rule {rule.name!r}: the name is used twice")
        seen.add(rule.name)


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 256 * 2**20  # over its budget RE2 finds nothing, silently; the default is 8 MiB
    return options


def _listed(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _literal_pattern(literal: str) -> str:
    """The literal in any case, as whole words where it begins or ends with a letter or digit of ASCII."""
    before = r"\b" if re2.match(r"\w", literal) else ""
    after = r"\b" if re2.search(r"\w\z", literal) else ""
    return f"(?i:{before}{re2.escape(literal)}{after})"


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode() if isinstance(reason, bytes) else str(reason)


def _has(log: LogRecord, what: Has) -> bool:
    if what == "tools":
        return bool(log.tools)
    if what == "output":
        return any(message.content or message.tool_calls for message in log.output)
    if what == "media":
        return any(_is_media(part) for message in (*log.messages, *log.output) for part in message.parts or ())
    return any(getattr(message, what) for message in log.output)


def _is_media(part: Any) -> bool:
    """Whether a content part is an image, audio, a file or the like."""
    return isinstance(part, dict) and part.get("type") not in ("text", "refusal", None)
