"""YAML text -> values that know where they stand in it. Pure; of the types of YAML only those of JSON are known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tunemill.streams.errors import RuleError, RulesInvalid

_MAX_CHARS = 2**20  # about three thousand rules; reading takes seconds
_TYPED: dict[str, Callable[[Any, yaml.ScalarNode], Any]] = {
    "tag:yaml.org,2002:int": yaml.SafeLoader.construct_yaml_int,
    "tag:yaml.org,2002:float": yaml.SafeLoader.construct_yaml_float,
    "tag:yaml.org,2002:bool": yaml.SafeLoader.construct_yaml_bool,
    "tag:yaml.org,2002:null": yaml.SafeLoader.construct_yaml_null,
}


@dataclass(frozen=True, slots=True)
class Marked:
    """A value and its place: lines and columns count from 1."""

    value: Any  # str, int, float, bool, None, list[Marked] or dict[str, Marked]
    line: int
    column: int
    keys: dict[str, tuple[int, int]]  # of a mapping: where each key stands

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return [item.plain() for item in self.value] if isinstance(self.value, list) else self.value


def read_marked(text: str, place: str, *, most: int = _MAX_CHARS) -> Marked:
    """The one document in the text.

    Args:
        place: what a problem is told of, such as the file.
        most: characters that are read.

    Raises:
        RulesInvalid: it is no YAML, or uses what is not taken here: aliases, keys that are no text or stand twice.
    """
    if len(text) > most:
        raise RulesInvalid(place, [RuleError(1, 1, f"more than {most:,} characters")])
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ": ".join(part for part in (error.context, error.problem) if part)
        raise RulesInvalid(place, [_at(mark, f"not YAML: {reason}")]) from error
    except yaml.reader.ReaderError as error:
        raise RulesInvalid(place, [_in_text(text, int(error.position), f"not YAML: {error.reason}")]) from error
    except RecursionError as error:
        raise RulesInvalid(place, [RuleError(1, 1, "not usable: nested too deep")]) from error
    except (ValueError, OverflowError) as error:  # of an escape or a directive with a number out of range
        raise RulesInvalid(place, [RuleError(1, 1, f"not YAML: {error}")]) from error
    if node is None:
        raise RulesInvalid(place, [RuleError(1, 1, "it is empty")])
    wrong = list(_not_taken(node))
    if wrong:
        raise RulesInvalid(place, wrong)
    return _marked(node)


def _not_taken(root: yaml.Node) -> Iterator[RuleError]:
    seen: set[int] = set()
    waiting = [root]
    while waiting:  # not recursive: a document that could just be composed must not fail here
        node = waiting.pop()
        if id(node) in seen:
            yield _at(node.start_mark, "what has this anchor is used again by an alias; write it out in both places")
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield from _wrong_keys(node)
            waiting.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif not _is_unicode(node.value):
            yield _at(node.start_mark, "it holds half of a surrogate pair, which no text has")


def _wrong_keys(node: yaml.MappingNode) -> Iterator[RuleError]:
    names: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or not _is_unicode(key.value):
            yield _at(key.start_mark, "a field's name must be text")
        elif key.value in names:
            yield _at(key.start_mark, f"the field `{key.value}` stands here twice")
        else:
            names.add(key.value)


def _marked(node: yaml.Node) -> Marked:
    place = _at(node.start_mark, "")
    if isinstance(node, yaml.MappingNode):
        places = {key.value: _at(key.start_mark, "")[:2] for key, _ in node.value}
        return Marked({key.value: _marked(value) for key, value in node.value}, place.line, place.column, places)
    value = _scalar(node) if isinstance(node, yaml.ScalarNode) else [_marked(item) for item in node.value]
    return Marked(value, place.line, place.column, {})


def _scalar(node: yaml.ScalarNode) -> Any:
    construct = _TYPED.get(node.tag)
    try:
        return construct(yaml.SafeLoader(""), node) if construct else node.value
    except (ValueError, LookupError):  # a number of too many digits, `!!int x`, `!!int` and nothing
        return node.value


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _at(mark: yaml.Mark | None, reason: str) -> RuleError:
    return RuleError(mark.line + 1, mark.column + 1, reason) if mark else RuleError(1, 1, reason)


def _in_text(text: str, position: int, reason: str) -> RuleError:
    before = text[:position]
    return RuleError(before.count("\n") + 1, position - before.rfind("\n"), reason)
