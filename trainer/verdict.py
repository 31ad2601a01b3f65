"""From the scores before and after to what the run's result says: metrics with their certainty, slices, forgetting, gates. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from tunemill.schemas.bootstrap import Change, Floats, paired
from tunemill.trainer.forgetting import Forgetting, forgetting
from tunemill.trainer.gates import Gate, Measured, judge, rejected
from tunemill.trainer.question import Question
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.score import LARGEST_EXPONENT, Scores, column, preference_losses
from tunemill.trainer.slices import SliceChange, Slices, changes

_LOSSES = {
    "loss": ("nats per trained token", "less"),
    "perplexity": ("", "less"),
    "preference_loss": ("nats per pair", "less"),  # with objective dpo
    "preference_accuracy": ("share of pairs", "more"),
}
_ANSWER_METRICS = {  # name -> unit, and which change is for the better
    "exact_match": ("share of answers", "more"),
    "f1": ("share of words", "more"),
    "rouge_l": ("share of words", "more"),
    "chrf": ("share of letters", "more"),
    "json_valid": ("share of answers", "more"),
    "json_fields": ("share of fields", "more"),
    "call_name": ("share of calls", "more"),
    "call_arguments": ("share of calls", "more"),
    "stop_rate": ("share of answers", "more"),
    "length_tokens": ("tokens", "neither"),
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run. No text of a row is in it."""

    status: str  # succeeded | rejected
    gates: list[Gate]
    result: dict[str, Any]  # what `runs.result` holds


def verdict(
    before: Scores,
    after: Scores,
    recipe: Recipe,
    *,
    slices: Sequence[Slices],
    row_topics: Sequence[str],
    questions: Sequence[Question],
    counts: dict[str, int],
) -> Verdict:
    """Compare and judge.

    Args:
        slices: of each held-out row whose loss was measured.
        row_topics: of each retention row whose loss was measured.
        questions: of the retention rows, those that were asked.
        counts: what became of the dataset's rows.
    """
    metrics = _metrics(before, after, recipe)
    of_slices = changes(slices, before.losses, after.losses, before.tokens, seed=recipe.seed)
    forgotten = forgetting(before, after, row_topics=row_topics, questions=questions, seed=recipe.seed)
    gates = judge(_measured(metrics, forgotten, of_slices), recipe.gates)
    result = {
        "before": before.summary(),
        "after": after.summary(),
        "retention": {"before": before.retention(), "after": after.retention()},
        "rows": counts,
        "gates": msgspec.to_builtins(gates),
        "metrics": {name: _shown(name, change) for name, change in metrics.items()},
        "slices": msgspec.to_builtins(of_slices),
        "forgetting": msgspec.to_builtins(forgotten),
        "judge": None,
    }
    return Verdict(status="rejected" if rejected(gates) else "succeeded", gates=gates, result=result)


def _metrics(before: Scores, after: Scores, recipe: Recipe) -> dict[str, Change]:
    """What could be measured on at least one row, by name."""
    seed, beta = recipe.seed, recipe.dpo.beta
    preferred = [[float(margin > 0) for margin in scores.margins] for scores in (before, after)]
    preference = [preference_losses(before.margins, scores.margins, beta) for scores in (before, after)]
    found = {
        "preference_loss": paired(*preference, seed=seed),
        "preference_accuracy": paired(*preferred, seed=seed),
        "loss": paired(before.losses, after.losses, weights=before.tokens, seed=seed),
        "perplexity": paired(before.losses, after.losses, weights=before.tokens, seed=seed, shown=_perplexity),
    }
    for name in _ANSWER_METRICS:
        pairs = zip(column(before.answers, name), column(after.answers, name), strict=True)
        both = [(was, now) for was, now in pairs if was is not None and now is not None]
        found[name] = paired([was for was, _ in both], [now for _, now in both], seed=seed)
    return {name: change for name, change in found.items() if change is not None}


def _perplexity(losses: Floats) -> Floats:
    return np.exp(np.minimum(losses, LARGEST_EXPONENT))


def _shown(name: str, change: Change) -> dict[str, Any]:
    unit, better = (_LOSSES | _ANSWER_METRICS)[name]
    numbers = msgspec.to_builtins(change)
    del numbers["lower_bound"], numbers["upper_bound"]  # one-sided: the gates' own
    return {"unit": unit, "better": better, **numbers}


def _measured(metrics: dict[str, Change], forgotten: Forgetting, slices: Sequence[SliceChange]) -> Measured:
    matches, stops = metrics.get("exact_match"), metrics.get("stop_rate")
    preference = metrics.get("preference_loss")
    loss = preference or metrics.get("loss")
    return Measured(
        task_gain_lower_bound=-loss.upper_bound if loss else None,
        task_rows=loss.rows if loss else 0,
        task_loss="preference loss, in nats per pair," if preference else "held-out loss, in nats per token,",
        retention_rise=forgotten.loss.change if forgotten.loss else None,
        exact_match_change=matches.change if matches else None,
        stop_rate_change=stops.change if stops else None,
        slices=tuple(slices),
    )
