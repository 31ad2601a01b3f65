"""Two training runs side by side: which knobs differ, and what each came to. Pure."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from tunemill.curator_api.run_view import Score, scores

_MEASURED_ON = ("objective", "eval_loss_rows", "eval_generate_rows", "retention")


class Knob(NamedTuple):
    """A knob of the recipe that is not the same in both."""

    knob: str
    a: Any
    b: Any


class Compared(NamedTuple):
    """A score of both after training."""

    name: str
    on: str
    unit: str
    before_a: float | None
    before_b: float | None
    a: float | None
    b: float | None
    change: float | None
    better: Literal["a", "b"] | None


def same_rows(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether both were trained and measured on the same rows: of the same version, and as many of them, and general ones."""
    ours, theirs = (run["recipe"] or {} for run in (a, b))
    return a["digest"] == b["digest"] and all(ours.get(knob) == theirs.get(knob) for knob in _MEASURED_ON)


def knobs(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Knob]:
    """What differs between two recipes, in their order; a knob inside another as `gates.min_task_gain`."""
    ours, theirs = _flat(a), _flat(b)
    names = dict.fromkeys([*ours, *theirs])
    return [
        Knob(name, ours.get(name), theirs.get(name)) for name in names if _shown(ours, name) != _shown(theirs, name)
    ]


def compared(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[Compared]:
    """Every score that one of two results has."""
    ours = {(score.name, score.on): score for score in scores(a)}
    theirs = {(score.name, score.on): score for score in scores(b)}
    return [_compared(known, ours.get(name), theirs.get(name)) for name, known in {**ours, **theirs}.items()]


def _compared(known: Score, a: Score | None, b: Score | None) -> Compared:
    left, right = a.after if a else None, b.after if b else None
    change = None if left is None or right is None else right - left
    better: Literal["a", "b"] | None = None
    if change and known.more_is_better is not None:
        better = "b" if (change > 0) == known.more_is_better else "a"
    before = (a.before if a else None, b.before if b else None)
    return Compared(known.name, known.on, known.unit, *before, left, right, change, better)


def _flat(recipe: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        found |= _flat(value, f"{place}{name}.") if isinstance(value, Mapping) else {f"{place}{name}": value}
    return found


def _shown(recipe: Mapping[str, Any], name: str) -> Any:
    return recipe.get(name, _shown)  # a knob that is null is not one that is missing
