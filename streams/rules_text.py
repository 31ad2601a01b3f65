"""A text of tag rules -> rules, or everything that is wrong with it, by line and column. Pure."""

import re
from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from tunemill.privacy.pii import PrivateData
from tunemill.streams.errors import RuleError, RulesInvalid
from tunemill.streams.marked_yaml import Marked, read_marked
from tunemill.streams.rule import Condition, Path, Rule, never_matches, problems_of

_GROUPS = ("any", "all", "none")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TAG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}:[^\s:,\"][^\s,\"]{0,190}")
_TAKEN = {"secrets", "pii", "lid.176", "near", "learned", "caller", "person"}  # what other setters of tags are called


def read_document(text: str, place: str) -> tuple[tuple[Rule, ...], PrivateData]:
    """The rules in a YAML text, those that are switched off too, and where private data is replaced.

    Raises:
        RulesInvalid: with everything that is wrong.
    """
    reading = _Reading(read_marked(text, place))
    if reading.wrong:
        raise RulesInvalid(place, reading.wrong)
    return tuple(reading.rules), reading.private_data


class _Reading:
    """One pass over a document: the rules in it, and what is wrong."""

    def __init__(self, document: Marked) -> None:
        self.rules: list[Rule] = []
        self.wrong: list[RuleError] = []
        self.private_data: PrivateData = "snapshot"
        self._names: set[str] = set()
        self._about: str | None = None  # the rule that is read
        self._read_document(document)

    def _read_document(self, document: Marked) -> None:
        fields = self._fields(document, ("rules", "private_data"))
        if not isinstance(document.value, dict):
            return
        given = fields.get("private_data")
        if given is not None:
            if given.value in get_args(PrivateData):
                self.private_data = given.value
            else:
                self._say(given, "`private_data` is ingest, snapshot or never")
        rules = fields.get("rules")
        if rules is None or not isinstance(rules.value, list):
            self._say(rules or document, "expected a field `rules` with a list of rules")
            return
        for number, rule in enumerate(rules.value, start=1):
            self._read_rule(rule, number)

    def _read_rule(self, marked: Marked, number: int) -> None:
        name = marked.value.get("name") if isinstance(marked.value, dict) else None
        self._about = name.value if name and isinstance(name.value, str) else f"number {number}"
        before = len(self.wrong)
        fields = self._fields(marked, Rule.__struct_fields__)
        groups = {group: self._conditions(fields.pop(group)) for group in _GROUPS if group in fields}
        given: dict[str, Any] = {**self._converted(marked, fields, Rule), **groups}
        self._check_head(given, marked.value)
        if len(self.wrong) > before:
            return
        rule = Rule(**given)
        if not rule.any and not rule.all:
            self._say(marked, "it needs a condition under `any` or `all`")
        elif never_matches(rule):
            self._say(marked, "it can never match: its conditions exclude one another")
        self.rules.append(rule)

    def _conditions(self, marked: Marked) -> tuple[Condition, ...]:
        if not isinstance(marked.value, list):
            self._say(marked, "expected a list of conditions")
            return ()
        found = (self._condition(item) for item in marked.value)
        return tuple(condition for condition in found if condition)

    def _condition(self, marked: Marked) -> Condition | None:
        before = len(self.wrong)
        given = self._converted(marked, self._fields(marked, Condition.__struct_encode_fields__), Condition)
        if len(self.wrong) > before:
            return None
        condition = Condition(**given)
        for path, reason in problems_of(condition):
            self._say(_inner(marked, path), reason)
        return condition

    def _check_head(self, given: dict[str, Any], at: dict[str, Marked]) -> None:
        """Name, version and tag, as far as they are given and of the right type."""
        if (name := given.get("name")) is not None:
            if not _NAME.fullmatch(name):
                self._say(at["name"], "a name is up to 64 letters, digits, `-`, `_` and `.`")
            elif name in _TAKEN:
                self._say(at["name"], "another setter of tags is called so")
            elif name in self._names:
                self._say(at["name"], "the name is used twice")
            self._names.add(name)
        if given.get("version", 1) < 1:
            self._say(at["version"], "versions count from 1")
        if not _TAG.fullmatch(given.get("tag", "x:y")):
            self._say(
                at["tag"], "a tag is `namespace:value`; no spaces, commas or quotes, and the namespace in small letters"
            )

    def _fields(self, marked: Marked, known: Sequence[str]) -> dict[str, Marked]:
        """The fields that are known; each other one is said."""
        if not isinstance(marked.value, dict):
            self._say(marked, f"expected fields: {', '.join(known)}")
            return {}
        for name in marked.value.keys() - set(known):
            reason = f"unknown field `{name}`; known: {', '.join(known)}"
            self.wrong.append(RuleError(*marked.keys[name], reason, self._about))
        return {name: value for name, value in marked.value.items() if name in known}

    def _converted(self, marked: Marked, fields: dict[str, Marked], type_: type[msgspec.Struct]) -> dict[str, Any]:
        """The fields' values as the type has them, by its own names; what is wrong or missing is said."""
        found: dict[str, Any] = {}
        for field in msgspec.structs.fields(type_):
            given = fields.get(field.encode_name)
            if given is None:
                if field.required and isinstance(marked.value, dict):
                    self._say(marked, f"the field `{field.encode_name}` is missing")
                continue
            try:
                found[field.name] = msgspec.convert(given.plain(), field.type)
            except msgspec.ValidationError as error:
                self._say(_inner(given, _path(str(error))), f"`{field.encode_name}`: {_reason(str(error), field.type)}")
        return found

    def _say(self, marked: Marked, reason: str) -> None:
        self.wrong.append(RuleError(marked.line, marked.column, reason, self._about))


def _inner(marked: Marked, path: Path) -> Marked:
    """What stands there in the value; the value itself where one stands for a list."""
    for step in path:
        holder: type[Any] = dict if isinstance(step, str) else list
        if isinstance(marked.value, holder):
            marked = marked.value[step]
    return marked


def _choices(type_: Any) -> list[str]:
    """The words that a field of this type may hold, in it or in its list."""
    return [word for part in get_args(type_) for word in ([part] if isinstance(part, str) else _choices(part))]


def _path(error: str) -> Path:
    """Of msgspec's message, which ends with it: `... - at `$[2]``."""
    return tuple(map(int, re.findall(r"\[(\d+)\]", error.partition(" - at ")[2])))


def _reason(error: str, type_: Any) -> str:
    reason = error.partition(" - at ")[0]
    if reason.startswith("Invalid enum value"):
        return f"{reason}; known: {', '.join(_choices(type_))}"
    return f"{reason}; put it in quotes" if re.search(r"Expected `str.*got `(?:int|float|bool)`", reason) else reason
