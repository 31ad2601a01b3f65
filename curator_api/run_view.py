"""A training run's result as what its page shows: scores before and after, gates, the loss curve. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunemill.curator_api.charts import Line, line

ENDED = frozenset({"succeeded", "rejected", "failed", "cancelled"})
HELD_OUT, RETENTION = "held-out rows", "retention set"

# How the trainer's scores are called on the page, their unit, and whether more of it is better.
_SCORES = (
    ("exact_match", "Exact match", "share of answers", True),
    ("json_fields", "JSON fields right", "share of fields", True),
    ("stop_rate", "Answers that end by themselves", "share of answers", True),
    ("loss", "Loss per trained token", "nats", False),
)
_SHARES = frozenset({"share of answers", "share of fields"})
_GATE_SAYS = {"pass": ("passed", "good"), "warn": ("warning", "warn"), "reject": ("rejected", "bad")}


class Score(NamedTuple):
    """One line of the comparison."""

    name: str
    on: str
    before: float | None
    after: float | None
    change: float | None
    better: bool | None  # None: as it was
    largest: float  # what a full bar stands for
    unit: str
    more_is_better: bool


class Gate(NamedTuple):
    """One condition that the tuned model had to meet."""

    name: str
    outcome: str
    look: str  # good | warn | bad | ""
    why: str


def running(run: Mapping[str, Any]) -> bool:
    """Whether the run may still move."""
    return run["status"] not in ENDED


def scores(result: Mapping[str, Any] | None) -> list[Score]:
    """Every score that the result holds, before and after."""
    result = result or {}
    before, after = result.get("before") or {}, result.get("after") or {}
    held_out = [
        _score(name, HELD_OUT, unit, before.get(key), after.get(key), more_is_better=more_is_better)
        for key, name, unit, more_is_better in _SCORES
    ]
    kept = result.get("retention") or {}
    retention = _score("Loss per token", RETENTION, "nats", kept.get("before"), kept.get("after"), more_is_better=False)
    return [score for score in (*held_out, retention) if score.before is not None or score.after is not None]


def gates(result: Mapping[str, Any] | None) -> list[Gate]:
    """What each gate said, in the trainer's order."""
    return [_gate(gate) for gate in (result or {}).get("gates") or ()]


def curve(events: Sequence[Mapping[str, Any]]) -> Line | None:
    """The training loss over steps, from the metrics among a run's events."""
    points = {
        data["step"]: data["loss"]
        for event in events
        if event["type"] == "metrics" and _has_numbers(data := event.get("data") or {}, "step", "loss")
    }
    return line(sorted(points.items()))


def _score(name: str, on: str, unit: str, before: Any, after: Any, *, more_is_better: bool) -> Score:
    change = after - before if _numbers(before, after) else None
    better = None if not change else (change > 0) == more_is_better
    largest = 1.0 if unit in _SHARES else max([value for value in (before, after) if _numbers(value)], default=1.0)
    return Score(name, on, before, after, change, better, largest, unit, more_is_better)


def _gate(gate: Mapping[str, Any]) -> Gate:
    outcome, look = _GATE_SAYS.get(gate["outcome"], (gate["outcome"], ""))
    return Gate(gate["name"].replace("_", " "), outcome, look, gate["says"])


def _has_numbers(data: Mapping[str, Any], *keys: str) -> bool:
    return _numbers(*(data.get(key) for key in keys))


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
