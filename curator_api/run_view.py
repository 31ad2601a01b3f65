"""A training run as what its page shows: scores before and after, slices, gates, what was lost and settled, the loss curve. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunemill.curator_api.charts import Line, line
from tunemill.schemas.records import ENDED

HELD_OUT, RETENTION = "held-out rows", "retention set"

# How the trainer's scores are called on the page, their unit, and whether more of it is better (None: neither is).
_NAMES: Mapping[str, tuple[str, str, bool | None]] = {
    "exact_match": ("Exact match", "share of answers", True),
    "f1": ("Word F1", "share of words", True),
    "rouge_l": ("ROUGE-L", "share of words", True),
    "chrf": ("chrF", "share of letters", True),
    "json_valid": ("Answers that are valid JSON", "share of answers", True),
    "json_fields": ("JSON fields right", "share of fields", True),
    "call_name": ("Tools called by the right name", "share of calls", True),
    "call_arguments": ("Tools called with the right arguments", "share of calls", True),
    "stop_rate": ("Answers that end by themselves", "share of answers", True),
    "answered": ("Questions answered", "share of questions", True),
    "preference_accuracy": ("Better answers preferred", "share of pairs", True),
    "preference_loss": ("Preference loss per pair", "nats", False),
    "loss": ("Loss per trained token", "nats", False),
    "perplexity": ("Perplexity", "", False),
    "length_tokens": ("Length of answers", "tokens", None),
}
_DRAWN = frozenset({"exact_match", "json_fields", "stop_rate", "loss"})
_GATE_SAYS = {"pass": ("passed", "good"), "warn": ("warning", "warn"), "reject": ("rejected", "bad")}


class Score(NamedTuple):
    """One line of the comparison."""

    key: str  # its name in the result
    name: str
    on: str
    before: float | None
    after: float | None
    change: float | None
    better: bool | None  # None: as it was, not surely different, or neither is better
    largest: float  # what a full bar stands for
    unit: str
    more_is_better: bool | None
    drawn: bool
    low: float | None = None  # of the change, 95 %
    high: float | None = None
    p: float | None = None
    rows: int | None = None


class Slice(NamedTuple):
    """How the loss of a part of the held-out rows changed."""

    name: str
    value: str
    rows: int
    before: float
    after: float
    low: float  # of the rise, 95 %
    high: float
    look: str  # good | bad | "": where the interval leaves it open


class Topic(NamedTuple):
    """What became of the general questions of a topic."""

    topic: str
    rows: int
    could: int | None  # questions that were answered before
    lost: int | None  # of these, no longer
    learned: int | None  # of the others, since
    before: float | None  # loss
    after: float | None


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
    """Every score that the result holds, before and after, in the order of the page; unknown ones last."""
    result = result or {}
    before, after, metrics = result.get("before") or {}, result.get("after") or {}, result.get("metrics") or {}
    names = dict.fromkeys([*_NAMES, *metrics])
    held_out = [_score(name, HELD_OUT, before.get(name), after.get(name), metrics.get(name) or {}) for name in names]
    kept, lost = result.get("retention") or {}, result.get("forgetting") or {}
    retention = _score("loss", RETENTION, kept.get("before"), kept.get("after"), lost.get("loss") or {})
    answers = [_score(name, RETENTION, None, None, lost.get(name) or {}) for name in ("answered", "f1")]
    return [score for score in (*held_out, retention, *answers) if score.before is not None or score.after is not None]


def slices(result: Mapping[str, Any] | None) -> list[Slice]:
    """The parts of the held-out rows, those first whose loss rose most."""
    found = [_slice(one) for one in (result or {}).get("slices") or ()]
    return sorted(found, key=lambda one: one.before - one.after)


def forgotten(result: Mapping[str, Any] | None) -> list[str]:
    """What was lost, in words."""
    return list(((result or {}).get("forgetting") or {}).get("says") or ())


def topics(result: Mapping[str, Any] | None) -> list[Topic]:
    """The general questions by topic; of a run of former days nobody knows what it learned."""
    found = ((result or {}).get("forgetting") or {}).get("by_topic") or ()
    members = ("topic", "rows", "could", "lost", "learned", "loss_before", "loss_after")
    return [Topic(*map(one.get, members)) for one in found]


def plan(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was settled before training; empty where nothing was told."""
    return run.get("plan") or (run.get("result") or {}).get("plan") or {}


def can_resume(run: Mapping[str, Any]) -> bool:
    """Whether a person may have it go on."""
    return run["status"] in ("failed", "cancelled") and run["attempt"] > 0


def gates(result: Mapping[str, Any] | None) -> list[Gate]:
    """What each gate said, in the trainer's order."""
    return [_gate(gate) for gate in (result or {}).get("gates") or ()]


def curve(events: Sequence[Mapping[str, Any]]) -> Line | None:
    """The training loss over steps, from the metrics among a run's events, as they were measured.

    An attempt that goes on from an earlier step takes that step and all later ones anew: what was learnt there is gone.
    """
    told = sorted((event for event in events if event["type"] == "metrics"), key=lambda event: int(event["ts_ms"]))
    points: list[tuple[float, float]] = []
    for data in (event.get("data") or {} for event in told):
        if _has_numbers(data, "step", "loss"):
            while points and points[-1][0] >= data["step"]:
                points.pop()
            points.append((data["step"], data["loss"]))
    return line(points)


def _score(key: str, on: str, before: Any, after: Any, more: Mapping[str, Any]) -> Score:
    """A score by its name in the result; `more` is what is known of its change, and goes before the two values."""
    name, unit, more_is_better = _NAMES.get(key) or (key.replace("_", " "), more.get("unit", ""), _better(more))
    before, after = more.get("before", before), more.get("after", after)
    change = after - before if _numbers(before, after) else None
    better = None if not change or more_is_better is None or _holds_0(more) else (change > 0) == more_is_better
    is_share = unit.startswith("share of")
    largest = 1.0 if is_share else max([value for value in (before, after) if _numbers(value)], default=1.0)
    known = [more.get(what) for what in ("low", "high", "p", "rows")]
    return Score(key, name, on, before, after, change, better, largest, unit, more_is_better, key in _DRAWN, *known)


def _holds_0(more: Mapping[str, Any]) -> bool:
    """Whether the change may as well be none; unknown of a run of former days, whose change is taken as it is."""
    return _numbers(more.get("low"), more.get("high")) and more["low"] <= 0 <= more["high"]


def _better(more: Mapping[str, Any]) -> bool | None:
    return {"more": True, "less": False}.get(more.get("better", ""))


def _slice(one: Mapping[str, Any]) -> Slice:
    look = "bad" if one["low"] > 0 else "good" if one["high"] < 0 else ""
    numbers = (one["rows"], one["loss_before"], one["loss_after"], one["low"], one["high"])
    return Slice(one["slice"], one["value"], *numbers, look)


def _gate(gate: Mapping[str, Any]) -> Gate:
    outcome, look = _GATE_SAYS.get(gate["outcome"], (gate["outcome"], ""))
    return Gate(gate["name"].replace("_", " "), outcome, look, gate["says"])


def _has_numbers(data: Mapping[str, Any], *keys: str) -> bool:
    return _numbers(*(data.get(key) for key in keys))


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
