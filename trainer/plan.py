"""What a run will be, and whether the machine can hold it: known before any weight is read.

Pure: the rows' counts, the model's shape and the machine come in as values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from msgspec.structs import replace

from tunemill.trainer.derive import Case, Derived, Facts, derive, steps_of, steps_of_epoch
from tunemill.trainer.errors import DoesNotFit, InvalidRun, NothingToTrain
from tunemill.trainer.estimate import Estimate, compute_bytes
from tunemill.trainer.machine import Machine
from tunemill.trainer.pack import epoch_steps
from tunemill.trainer.recipe import Recipe, spelled
from tunemill.trainer.shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a person may change so that less memory is needed."""

    what: str
    saves_bytes: int
    fits: bool  # whether that alone is enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run before it runs."""

    recipe: Recipe  # settled
    derived: tuple[Derived, ...]
    rows: int
    replay: int
    held_out: int
    overlong: int  # trained rows that are longer than max_length_tokens
    tokens: int  # an epoch's
    trained_tokens: int  # an epoch's; about, where rows are left out or cut
    steps: int
    fill: float  # how full the forward passes are, of tokens_per_forward
    estimate: Estimate
    available_bytes: int
    seconds: float | None  # of the steps alone, within a factor of two
    changes: tuple[Change, ...]
    fits: bool


def settle(recipe: Recipe, facts: Facts, shape: Shape, machine: Machine, *, squeeze: int = 0) -> tuple[Recipe, Plan]:
    """The recipe with every knob settled, and the plan.

    Args:
        squeeze: how many attempts ran out of memory; each halves the tokens of a forward pass.

    Raises:
        NothingToTrain: no row is left to train on.
        DoesNotFit: the machine's memory does not hold it.
    """
    plan = make_plan(recipe, facts, shape, machine, squeeze=squeeze)
    if not plan.fits:
        raise DoesNotFit(too_much(plan), what_to_change(plan))
    return plan.recipe, plan


def make_plan(recipe: Recipe, facts: Facts, shape: Shape, machine: Machine, *, squeeze: int = 0) -> Plan:
    """The plan, whether or not it fits.

    Raises:
        NothingToTrain: no row is left to train on.
        InvalidRun: the tokenizer is not the model's, or rows may be longer than it reads.
    """
    if facts.highest_id >= shape.vocabulary:
        raise InvalidRun(
            f"the tokenizer writes token {facts.highest_id}, and the model knows {shape.vocabulary:,} tokens",
            "set base to a folder whose tokenizer and weights belong together",
        )
    case = Case(facts, shape, machine)
    settled, derived = derive(recipe, case, squeeze=squeeze)
    if settled.max_length_tokens > shape.context_tokens:
        raise InvalidRun(
            f"max_length_tokens is {settled.max_length_tokens:,}, and the model reads {shape.context_tokens:,} tokens",
            f"set max_length_tokens to {shape.context_tokens} or less, or to auto",
        )
    through = case.through(settled)
    if not through:
        besides = ", beside those that early_stopping sets aside," if settled.early_stopping else ""
        raise NothingToTrain(
            f"of {facts.rows} training rows{besides} none is within max_length_tokens ({settled.max_length_tokens})",
            "raise max_length_tokens, or set overlong to truncate_left",
        )
    kept = sum(through) / (facts.sides * sum(facts.lengths))
    steps = steps_of(settled, len(through))
    fits = case.fits(settled)
    return Plan(
        recipe=settled,
        derived=derived,
        rows=facts.rows,
        replay=facts.replay,
        held_out=facts.held_out,
        overlong=sum(length > settled.max_length_tokens for length in facts.lengths),
        tokens=sum(through),
        trained_tokens=round(kept * facts.trained_tokens),
        steps=steps,
        fill=_fill(settled, through),
        estimate=case.estimate(settled),
        available_bytes=machine.memory_bytes,
        seconds=_seconds(settled, case, steps * sum(through) / steps_of_epoch(settled, len(through))),
        changes=() if fits else tuple(_changes(settled, case)),
        fits=fits,
    )


def plan_data(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, as it is kept with the run."""
    data = asdict(plan)
    data["recipe"] = spelled(plan.recipe)
    data["estimate"]["total_bytes"] = plan.estimate.total_bytes
    return data


def in_short(plan: Plan) -> str:
    """The plan in one sentence."""
    took = "" if plan.seconds is None else f", about {_duration(plan.seconds)} within a factor of two"
    memory = f"{readable(plan.estimate.total_bytes)} of {readable(plan.available_bytes)} of memory"
    return f"{plan.steps:,} steps over {plan.tokens:,} tokens an epoch, about {memory}{took}"


def too_much(plan: Plan) -> str:
    """Why it does not fit, line by line of the estimate."""
    parts = asdict(plan.estimate)
    said = ", ".join(f"{name.removesuffix('_bytes')} {readable(value)}" for name, value in parts.items())
    total, available = readable(plan.estimate.total_bytes), readable(plan.available_bytes)
    return f"the run needs about {total} of memory and {available} are free ({said})"


def what_to_change(plan: Plan) -> str:
    """What would need less, and how much less."""
    said = [f"{c.what} saves {readable(c.saves_bytes)}{' and fits' if c.fits else ''}" for c in plan.changes]
    return "; ".join(said)


def readable(count: int) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.2f} GB" if count >= 10**8 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _fill(recipe: Recipe, lengths: Sequence[int]) -> float:
    capacity = recipe.tokens_per_forward if recipe.packing else 1
    steps = epoch_steps(
        lengths, rows_per_step=recipe.rows_per_step, tokens_per_forward=capacity, seed=recipe.seed, epoch=0
    )
    passes = [sum(lengths[row] for row in rows) for step in steps for rows in step]
    return sum(lengths) / sum(max(recipe.tokens_per_forward, tokens) for tokens in passes)  # a longer row fills its own


def _seconds(recipe: Recipe, case: Case, tokens: float) -> float | None:
    """Two operations a weight forward, two for the activations' gradient, two for the weights' where those are trained."""
    if case.machine.flops_per_s is None:
        return None
    share = case.facts.trained_tokens / max(1, case.facts.sides * sum(case.facts.lengths))
    beside = recipe.kl_to_base or recipe.objective == "dpo"  # the base model reads them, too
    weights = case.shape.linear + share * case.shape.hidden * case.shape.vocabulary
    passes = (6 if recipe.method == "full" else 4) + 2 * recipe.gradient_checkpointing + 2 * bool(beside)
    return tokens * passes * weights / (case.machine.flops_per_s * case.machine.devices)


def _changes(recipe: Recipe, case: Case) -> Iterator[Change]:
    """What would need less memory, what saves the most first."""
    needed = case.estimate(recipe).total_bytes
    options = [
        *((what, replace(recipe, **knobs), case) for what, knobs in _other_knobs(recipe, case)),
        *((what, recipe, other) for what, other in _other_cases(recipe, case)),
    ]
    for what, changed, other in sorted(options, key=lambda option: option[2].estimate(option[1]).total_bytes):
        saved = needed - other.estimate(changed).total_bytes
        if saved > 0:
            yield Change(what=what, saves_bytes=saved, fits=other.fits(changed))


def _other_knobs(recipe: Recipe, case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    if recipe.method == "full":
        yield "method lora", {"method": "lora"}
    if recipe.method != "qlora":
        yield "method qlora", {"method": "qlora"}
    if compute_bytes(recipe, case.machine) == 4:
        yield "precision bf16", {"precision": "bf16"}
    if not recipe.gradient_checkpointing:
        yield "gradient_checkpointing true", {"gradient_checkpointing": True}
    if recipe.merge:
        yield "merge false", {"merge": False}
    if recipe.kl_to_base and recipe.method == "full":
        yield "kl_to_base 0", {"kl_to_base": 0.0}
    longest = case.longest(recipe)
    if recipe.packing and recipe.tokens_per_forward > longest:
        yield f"tokens_per_forward {longest}", {"tokens_per_forward": longest}
    half = longest // (2 * case.facts.sides)
    if half >= 8:
        yield (
            f"max_length_tokens {half}",
            {"max_length_tokens": half, "tokens_per_forward": case.facts.sides * half},
        )


def _other_cases(recipe: Recipe, case: Case) -> Iterator[tuple[str, Case]]:
    shape, machine = case.shape, case.machine
    half = Shape(
        parameters=shape.parameters // 2,
        linear=shape.linear // 2,
        adapter=shape.adapter // 2,
        layers=max(1, shape.layers // 2),
        hidden=shape.hidden,
        intermediate=shape.intermediate,
        vocabulary=shape.vocabulary,
        context_tokens=shape.context_tokens,
    )
    yield "a base model of half the size", Case(case.facts, half, machine)
    if machine.device != "cpu" and recipe.method != "qlora":  # processes on one CPU share its memory
        yield f"{2 * machine.devices} devices", Case(case.facts, shape, replace(machine, devices=2 * machine.devices))
