"""Two training runs side by side: which knobs differ, and what each came to. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tunemill.curator_api.run_view import HELD_OUT, RETENTION, Score, scores
from tunemill.schemas.bootstrap import SURE_ROWS, Change, paired
from tunemill.schemas.row_scores import RowScores

Better = Literal["a", "b", "not_sure", "not_comparable"]

_ON = {"held_out": HELD_OUT, "retention": RETENTION}
_BY = {"perplexity": "loss"}  # scores that rise and fall with another one
_SEED = 0
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
    low: float | None  # of the change, 95 %, over the rows in pairs
    high: float | None
    p: float | None
    rows: int | None
    better: Better | None  # None: they are alike, neither is better, or one has no such score


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


def compared(
    a: Mapping[str, Any] | None,
    b: Mapping[str, Any] | None,
    rows_a: Sequence[RowScores] = (),
    rows_b: Sequence[RowScores] = (),
) -> list[Compared]:
    """Every score that one of two results has.

    Args:
        rows_a: the same of each row; empty of a run that left none.
    """
    ours, theirs = ({(score.key, score.on): score for score in scores(result)} for result in (a, b))
    left, right = ({(one.name, _ON[one.of]): one for one in rows} for rows in (rows_a, rows_b))
    found = []
    for name, known in {**ours, **theirs}.items():
        by_row = (_BY.get(known.key, known.key), known.on)
        sure = _in_pairs(left.get(by_row), right.get(by_row))
        found.append(_compared(known, ours.get(name), theirs.get(name), sure))
    return found


def _in_pairs(a: RowScores | None, b: RowScores | None) -> Change | None:
    """How sure the change from one to the other is; None where they are not of the same rows."""
    if a is None or b is None or not a.is_of_same_rows(b):
        return None
    return paired(a.values, b.values, weights=a.weights, seed=_SEED)


def _compared(known: Score, a: Score | None, b: Score | None, sure: Change | None) -> Compared:
    left, right = a.after if a else None, b.after if b else None
    change = None if left is None or right is None else right - left
    shown = sure if known.key not in _BY else None
    return Compared(
        name=known.name,
        on=known.on,
        unit=known.unit,
        before_a=a.before if a else None,
        before_b=b.before if b else None,
        a=left,
        b=right,
        change=change,
        low=shown.low if shown else None,
        high=shown.high if shown else None,
        p=shown.p if shown else None,
        rows=shown.rows if shown else None,
        better=_better(known.more_is_better, change, sure),
    )


def _better(more_is_better: bool | None, change: float | None, sure: Change | None) -> Better | None:
    if not change or more_is_better is None:
        return None
    if sure is None:
        return "not_comparable"
    if sure.rows < SURE_ROWS or sure.low <= 0 <= sure.high:
        return "not_sure"
    return "b" if (sure.low > 0) == more_is_better else "a"


def _flat(recipe: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        found |= _flat(value, f"{place}{name}.") if isinstance(value, Mapping) else {f"{place}{name}": value}
    return found


def _shown(recipe: Mapping[str, Any], name: str) -> Any:
    return recipe.get(name, _shown)  # a knob that is null is not one that is missing
