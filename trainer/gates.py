"""Whether a tuned model is an improvement: pure judgement over scores, each gate with its number and its limit."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from tunemill.schemas.bootstrap import SURE_ROWS
from tunemill.trainer.recipe import Gates
from tunemill.trainer.slices import SliceChange

_STOP_RATE_FALL = 0.02  # answers that no longer end are the commonest harm of a wrong mask


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One judgement. Only `reject` ends a run as rejected; `warn` is said aloud."""

    name: str
    outcome: Literal["pass", "warn", "reject"]
    value: float | None
    limit: float
    says: str


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates look at; None where nothing could be measured."""

    task_gain_lower_bound: float | None  # nats
    task_rows: int  # that it was measured on
    task_loss: str  # which loss, and its unit, as a person reads it
    retention_rise: float | None  # nats per token
    exact_match_change: float | None
    stop_rate_change: float | None
    slices: tuple[SliceChange, ...] = ()


def judge(measured: Measured, limits: Gates) -> list[Gate]:
    """Every gate's judgement, in the order in which a person should read them."""
    return [
        _task_gain(measured, limits.min_task_gain),
        _retention(measured.retention_rise, limits),
        _exact_match(measured.exact_match_change),
        _stop_rate(measured.stop_rate_change),
        *([] if limits.no_slice_worse_than is None else [_slices(measured.slices, limits, limits.no_slice_worse_than)]),
    ]


def rejected(gates: Sequence[Gate]) -> bool:
    """Whether a gate rejects the run."""
    return any(gate.outcome == "reject" for gate in gates)


def _task_gain(measured: Measured, limit: float) -> Gate:
    name, bound, rows = "task_gain", measured.task_gain_lower_bound, measured.task_rows
    if bound is None:
        says = "no loss was measured on held-out rows: hold rows out, and have eval_loss_rows above 0"
        return Gate(name=name, outcome="warn", value=None, limit=limit, says=says)
    if bound > limit:
        says = f"the {measured.task_loss} fell by at least {bound:.3f} (one-sided 95 %)"
        if rows < SURE_ROWS:
            says += f", but on {rows} row{'s' if rows > 1 else ''} alone, which may be chance: hold more rows out"
            return Gate(name=name, outcome="warn", value=bound, limit=limit, says=says)
        return Gate(name=name, outcome="pass", value=bound, limit=limit, says=says)
    says = (
        f"no sure gain: the lower bound of the fall of the {measured.task_loss} is {bound:.3f};"
        " train on more rows or for more epochs, raise learning_rate, or hold more rows out to measure it better"
    )
    return Gate(name=name, outcome="reject", value=bound, limit=limit, says=says)


def _retention(rise: float | None, limits: Gates) -> Gate:
    if rise is None:
        says = "no retention rows: forgetting was not measured"
        return Gate(name="retention", outcome="warn", value=None, limit=limits.retention_reject, says=says)
    says = f"the loss on general rows changed by {rise:+.3f} nats per token"
    if rise > limits.retention_reject:
        says += ": it forgot too much; lower learning_rate or epochs, raise replay_share, or set kl_to_base to 0.1"
        return Gate(name="retention", outcome="reject", value=rise, limit=limits.retention_reject, says=says)
    outcome: Literal["pass", "warn"] = "warn" if rise > limits.retention_warn else "pass"
    return Gate(name="retention", outcome=outcome, value=rise, limit=limits.retention_warn, says=says)


def _slices(slices: Sequence[SliceChange], limits: Gates, limit: float) -> Gate:
    """No slice of enough rows may surely rise by more than the limit."""
    name = "no_slice_worse_than"
    enough = [change for change in slices if change.rows >= limits.slice_rows]
    if not enough:
        says = f"no slice has {limits.slice_rows} held-out rows: none was judged; hold more out, or lower slice_rows"
        return Gate(name=name, outcome="warn", value=None, limit=limit, says=says)
    worst = max(enough, key=lambda change: change.low)
    where = f"{worst.slice} {worst.value} ({worst.rows} rows)"
    if worst.low > limit:
        says = f"the loss of {where} rose by at least {worst.low:.3f} nats per token (95 %): add rows of this kind"
        return Gate(name=name, outcome="reject", value=worst.low, limit=limit, says=says)
    says = f"of {len(enough)} slices none surely rose by more; the lower bound of the rise is highest for {where}"
    return Gate(name=name, outcome="pass", value=worst.low, limit=limit, says=says)


def _exact_match(change: float | None) -> Gate:
    remedy = "read the held-out answers in the report, and raise epochs or learning_rate if they fall short"
    return _not_worse("exact_match", change, 0.0, "answers that match exactly", remedy)


def _stop_rate(change: float | None) -> Gate:
    remedy = "raise max_new_tokens if answers were cut off; else see in the report that what was trained on holds the end of turn"
    return _not_worse("stop_rate", change, -_STOP_RATE_FALL, "answers that end by themselves", remedy)


def _not_worse(name: str, change: float | None, limit: float, what: str, remedy: str) -> Gate:
    if change is None:
        says = f"nothing was asked of held-out rows: {what} were not counted"
        return Gate(name=name, outcome="warn", value=None, limit=limit, says=says)
    says = f"the share of {what} changed by {change:+.2f}"
    if change >= limit:
        return Gate(name=name, outcome="pass", value=change, limit=limit, says=says)
    return Gate(name=name, outcome="warn", value=change, limit=limit, says=f"{says}: {remedy}")
