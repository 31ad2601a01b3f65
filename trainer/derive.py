"""The values of the knobs that a person leaves to us, each with its reason: rules over the rows, the model and the machine.

Only what memory asks for (`tokens_per_forward`, `gradient_checkpointing`) depends on the machine, and that changes rounding alone.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from tunemill.trainer.estimate import KL_PER_ROW, Estimate, estimate
from tunemill.trainer.machine import Machine
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.shape import Shape

FITS_SHARE = 0.9  # of the free memory: the rest is for what an estimate does not see
_SMALL_MODEL = 10**9  # parameters; smaller ones want higher rates, and bear them
_LONGEST_ROW = 8192  # tokens
_MOST_PER_FORWARD = {"cpu": 2048, "cuda": 16384}  # tokens; more gains no speed
_FEWEST_PER_FORWARD = 8  # tokens
_CHECKPOINTS = 20  # of a run
_SPREAD = 1.5  # a forward pass may hold so many times the average's share of answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a run's rows are like, rendered and not yet fitted."""

    rows: int  # of the dataset's train split that can be trained on
    replay: int  # general rows beside them
    held_out: int
    lengths: tuple[int, ...]  # what must fit of each row that is trained on, replay too, in tokens; sorted
    trained_tokens: int  # of all those, the answers'
    longest_tokens: int  # of all rows, held-out and retention too
    highest_id: int = 0  # of all their tokens
    sides: int = 1  # how often that length a row goes through the model: of a pair, both answers behind its prompt
    aside: tuple[int, ...] = ()  # the lengths of those among them that early stopping would look at instead


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A knob that was left to us."""

    name: str
    value: float
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """What the rules look at."""

    facts: Facts
    shape: Shape
    machine: Machine

    def lengths(self, recipe: Recipe) -> list[int]:
        """The trained rows' lengths once rows were set aside, and the policy for long ones was applied."""
        limit, lengths = recipe.max_length_tokens, list(self.facts.lengths)
        if recipe.early_stopping:
            lengths = sorted((Counter(lengths) - Counter(self.facts.aside)).elements())
        if recipe.overlong == "drop":
            return [length for length in lengths if length <= limit]
        if recipe.overlong == "truncate_left":
            return [min(length, limit) for length in lengths]
        if recipe.overlong == "split":  # about: pieces end with an answer, and what stands before it comes again
            return [piece for length in lengths for piece in _pieces(length, limit)]
        return lengths

    def through(self, recipe: Recipe) -> list[int]:
        """The tokens that each trained row has go through the model."""
        return [self.facts.sides * length for length in self.lengths(recipe)]

    def longest(self, recipe: Recipe) -> int:
        """The most tokens that go through the model in one piece: of a row, or of a pair."""
        limit = recipe.max_length_tokens
        trained = self.facts.sides * min(max(self.facts.lengths, default=0), limit)
        return max(trained, min(self.facts.longest_tokens, limit))

    def estimate(self, recipe: Recipe) -> Estimate:
        """The memory at the peak."""
        rows, tokens = len(self.facts.lengths), max(1, self.facts.sides * sum(self.facts.lengths))
        logits = min(1.0, _SPREAD * self.facts.trained_tokens / tokens)
        if recipe.kl_to_base:  # of both models
            logits += 2 * min(1.0, KL_PER_ROW * rows / tokens)
        longest = self.longest(recipe)
        return estimate(recipe, self.shape, self.machine, longest_tokens=longest, logits_per_token=logits)

    def fits(self, recipe: Recipe) -> bool:
        """Whether the machine's free memory holds it."""
        return self.estimate(recipe).total_bytes <= FITS_SHARE * self.machine.memory_bytes


def derive(recipe: Recipe, case: Case, *, squeeze: int = 0) -> tuple[Recipe, tuple[Derived, ...]]:
    """The recipe with every knob settled, and what was settled here.

    Args:
        squeeze: how many attempts ran out of memory; each halves the tokens of a forward pass.
    """
    derived = []
    for name, rule in _RULES.items():
        if name in recipe.auto:
            value, reason = rule(recipe, case)
            recipe = replace(recipe, **{name: value})
            derived.append(Derived(name=name, value=value, reason=reason))
    recipe, for_memory = _for_memory(recipe, case, squeeze)
    return replace(recipe, auto=()), (*derived, *for_memory)


def steps_of(recipe: Recipe, rows: int) -> int:
    """Optimizer steps of the whole run."""
    return recipe.max_steps or math.ceil(steps_of_epoch(recipe, rows) * recipe.epochs)


def steps_of_epoch(recipe: Recipe, rows: int) -> int:
    """Optimizer steps that see each row once."""
    return math.ceil(rows / recipe.rows_per_step)


def _pieces(length: int, limit: int) -> list[int]:
    return [length] if length <= limit else [limit] * math.ceil(length / limit)


def _max_length_tokens(recipe: Recipe, case: Case) -> tuple[float, str]:
    longest, context = case.facts.longest_tokens, case.shape.context_tokens
    limit = min(context, _LONGEST_ROW)
    if longest <= limit:
        return max(_FEWEST_PER_FORWARD, longest), "the longest row"
    why = "the model's context" if context == limit else "more must be asked for"
    return limit, f"{why}; the longest row has {longest:,} tokens, see overlong"


def _epochs(recipe: Recipe, case: Case) -> tuple[float, str]:
    rows = len(case.lengths(recipe))
    return 3.0 if rows <= 2_000 else 2.0 if rows <= 20_000 else 1.0, f"{rows:,} rows to train on"


def _rows_per_step(recipe: Recipe, case: Case) -> tuple[float, str]:
    rows = len(case.lengths(recipe))
    value = min(16, max(4, rows // 20))
    return value, f"{math.ceil(rows / value):,} steps an epoch of {rows:,} rows"


def _learning_rate(recipe: Recipe, case: Case) -> tuple[float, str]:
    small = case.shape.parameters < _SMALL_MODEL
    rate = (5e-5 if small else 1e-5) if recipe.method == "full" else 2e-4
    what = {"full": "full training", "lora": "LoRA", "qlora": "QLoRA"}[recipe.method]
    reason = f"{what} on a model of {_large(case.shape.parameters)} parameters"
    if recipe.objective == "dpo":
        return rate / 20, f"{reason}; pairs want a twentieth of what answers want"
    return rate, reason


def _large(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count >= 10**9 else f"{count / 1e6:.0f} M" if count >= 10**7 else f"{count:,}"


def _checkpoint_steps(recipe: Recipe, case: Case) -> tuple[float, str]:
    steps = steps_of(recipe, len(case.lengths(recipe)))
    return max(1, steps // _CHECKPOINTS), f"a {_CHECKPOINTS}th of {steps:,} steps"


_RULES: dict[
    str, Callable[[Recipe, Case], tuple[float, str]]
] = {  # in this order: later rules see what earlier ones chose
    "max_length_tokens": _max_length_tokens,
    "epochs": _epochs,
    "rows_per_step": _rows_per_step,
    "learning_rate": _learning_rate,
    "checkpoint_steps": _checkpoint_steps,
}


def _for_memory(recipe: Recipe, case: Case, squeeze: int) -> tuple[Recipe, list[Derived]]:
    """Fewer tokens at once, then checkpointing, until it fits: the first of the choices that does, else the last."""
    choices = _choices(recipe, case, squeeze)
    chosen = next((choice for choice in choices if case.fits(choice)), choices[-1])
    squeezed = f"{squeeze} attempt{'s' if squeeze > 1 else ''} ran out of memory"
    derived = []
    if "tokens_per_forward" in recipe.auto or chosen.tokens_per_forward != recipe.tokens_per_forward:
        reason = squeezed if squeeze else _why_tokens(chosen, choices[0], case)
        derived.append(Derived(name="tokens_per_forward", value=chosen.tokens_per_forward, reason=reason))
    if "gradient_checkpointing" in recipe.auto or chosen.gradient_checkpointing != recipe.gradient_checkpointing:
        reason = (
            squeezed if squeeze else "it does not fit without" if chosen.gradient_checkpointing else "it fits without"
        )
        derived.append(Derived(name="gradient_checkpointing", value=chosen.gradient_checkpointing, reason=reason))
    return chosen, derived


def _choices(recipe: Recipe, case: Case, squeeze: int) -> list[Recipe]:
    """Every pair of the two knobs that may be taken, the fastest first."""
    floor = max(_FEWEST_PER_FORWARD, case.longest(recipe))
    tokens = [recipe.tokens_per_forward]
    if "tokens_per_forward" in recipe.auto:
        tokens = _powers(floor, min(_MOST_PER_FORWARD[case.machine.device], _a_step(recipe, case)))
    checkpointing = [recipe.gradient_checkpointing]
    if "gradient_checkpointing" in recipe.auto:
        checkpointing = [False, True]
    if squeeze:
        tokens = [max(floor, count >> squeeze) for count in tokens]
        checkpointing = [True]
    return [replace(recipe, tokens_per_forward=t, gradient_checkpointing=c) for c in checkpointing for t in tokens]


def _a_step(recipe: Recipe, case: Case) -> int:
    """No optimizer step has more tokens than these."""
    return sum(case.through(recipe)[-recipe.rows_per_step :])


def _powers(floor: int, most: int) -> list[int]:
    """Powers of two, the largest first: from the first that holds `most`, down to the last that holds `floor`, then `floor`."""
    first = math.ceil(math.log2(max(most, 1)))
    return [2**power for power in range(first, 0, -1) if 2**power > floor] + [floor]


def _why_tokens(chosen: Recipe, fastest: Recipe, case: Case) -> str:
    tokens = chosen.tokens_per_forward
    if tokens == case.longest(chosen):
        return "the longest row"
    if tokens < fastest.tokens_per_forward:
        return "what the memory holds"
    return "more gains no speed" if tokens >= _MOST_PER_FORWARD[case.machine.device] else "a whole step"
