"""What a rule says, and what can be wrong with it. Pure."""

import math
from collections.abc import Iterator
from typing import Literal

import msgspec
import re2

from tunemill.streams.patterns import quiet

Where = Literal["text", "user", "assistant", "system"]
Has = Literal["tool_calls", "tool_results", "tools", "media", "refusal", "output"]
Measure = Literal["latency_ms", "cost_usd", "input_tokens", "output_tokens", "messages", "turns", "chars"]
Path = tuple[str | int, ...]  # to a place in a condition: its field, and which of a list


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing to look for: literals or regexes in a part of the text, a field's value, a thing's presence, a size."""

    where: Where | None = msgspec.field(name="in", default=None)
    literal: str | tuple[str, ...] | None = None
    regex: str | tuple[str, ...] | None = None
    status: str | tuple[str, ...] | None = None
    finish_reason: str | tuple[str, ...] | None = None
    model: str | tuple[str, ...] | None = None
    app: str | tuple[str, ...] | None = None
    provider: str | tuple[str, ...] | None = None
    operation: str | tuple[str, ...] | None = None
    has: Has | None = None
    field: Measure | None = None
    over: float | None = None
    under: float | None = None

    @property
    def patterns(self) -> tuple[str, ...]:
        """The RE2 patterns, any of which is to be found."""
        return tuple(_literal_pattern(text) for text in _listed(self.literal)) + _listed(self.regex)

    @property
    def values(self) -> tuple[str, tuple[str, ...]] | None:
        """The field whose value counts, and the values that it may have."""
        return next(((name, _listed(given)) for name in _VALUES if (given := getattr(self, name)) is not None), None)

    @property
    def bounds(self) -> tuple[float, float]:
        """What the size must be over and under."""
        low = -1.0 if self.over is None else self.over
        return max(low, -1.0), math.inf if self.under is None else self.under  # nothing that is measured is below 0


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tag, and when a log gets it: all of `all`, at least one of `any` if there are any, and none of `none`."""

    name: str
    version: int
    tag: str
    enabled: bool = True
    any: tuple[Condition, ...] = ()
    all: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()

    @property
    def setter(self) -> str:
        """How tags of this rule name it."""
        return f"{self.name}@{self.version}"


_VALUES = ("status", "finish_reason", "model", "app", "provider", "operation")
_KINDS = ("literal", "regex", *_VALUES, "has", "field")


def problems_of(condition: Condition) -> Iterator[tuple[Path, str]]:
    """Whatever is wrong with it: where, and the reason."""
    kinds = [name for name in _KINDS if getattr(condition, name) is not None]
    if len(kinds) != 1 and kinds != ["literal", "regex"]:
        yield (), f"name one of {', '.join(_KINDS)}"
        return
    (kind, *_) = kinds
    if kind in ("literal", "regex") and condition.where is None:
        yield (), "`in` says where to look: text, user, assistant or system"
    if kind not in ("literal", "regex") and condition.where is not None:
        yield ("in",), "`in` goes with a literal or a regex only"
    for name in kinds if kind not in ("has", "field") else []:
        given = _listed(getattr(condition, name))
        if not given or not all(text.strip() for text in given):
            yield (name,), "there is nothing to look for"
    for number, pattern in enumerate(_listed(condition.regex)):
        if reason := _pattern_problem(pattern):
            yield ("regex", number), reason
    if condition.status is not None and not set(_listed(condition.status)) <= {"ok", "error"}:
        yield ("status",), "a call's status is ok or error"
    yield from _problems_of_size(condition)


def _problems_of_size(condition: Condition) -> Iterator[tuple[Path, str]]:
    bounded = [name for name in ("over", "under") if getattr(condition, name) is not None]
    if condition.field is None:
        for name in bounded:
            yield (name,), f"`{name}` goes with `field` only"
    elif not bounded:
        yield ("field",), "`over` or `under` says how much"
    else:
        low, high = condition.bounds
        if not low < high or high <= 0:
            yield (bounded[-1],), "no size is so: it can never match"


def never_matches(rule: Rule) -> bool:
    """Whether its conditions exclude one another."""
    if _never_all(rule.all) or any(_covers(no, yes) for yes in rule.all for no in rule.none):
        return True
    return bool(rule.any) and all(any(_covers(no, yes) for no in rule.none) for yes in rule.any)


def _covers(wide: Condition, narrow: Condition) -> bool:
    """Whether every log that meets the narrow one is sure to meet the wide one."""
    if wide.values and narrow.values:
        return wide.values[0] == narrow.values[0] and set(narrow.values[1]) <= set(wide.values[1])
    if wide.where and narrow.where:
        return wide.where in (narrow.where, "text") and set(narrow.patterns) <= set(wide.patterns)
    return wide == narrow


def _never_all(conditions: tuple[Condition, ...]) -> bool:
    """Whether no log can meet all of these: their values or sizes exclude one another."""
    values: dict[str, set[str]] = {}
    sizes: dict[str, tuple[float, float]] = {}
    for condition in conditions:
        if condition.values:
            name, given = condition.values
            values[name] = values.get(name, set(given)) & set(given)
        if condition.field:
            low, high = condition.bounds
            so_far = sizes.get(condition.field, (low, high))
            sizes[condition.field] = (max(low, so_far[0]), min(high, so_far[1]))
    return not all(values.values()) or any(low >= high for low, high in sizes.values())


def _pattern_problem(pattern: str) -> str | None:
    """Why RE2 does not take this pattern; None when it does."""
    try:
        re2.compile(pattern, quiet())  # with RE2's own limit of size for one pattern
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        return f"not an RE2 pattern: {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}"
    return None


def _listed(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _literal_pattern(literal: str) -> str:
    """The literal in any case, as whole words where it begins or ends with a letter or digit of ASCII."""
    before = r"\b" if re2.match(r"\w", literal) else ""
    after = r"\b" if re2.search(r"\w\z", literal) else ""
    return f"(?i:{before}{re2.escape(literal)}{after})"
