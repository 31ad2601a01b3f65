"""The training loop: examples and a model in, a trained model out. A straight line; every quantity is derived once.

An optimizer step's loss is the sum over its trained tokens divided by their number, however they were spread over forward passes
and devices. With `kl_to_base` the mean distance from the base model is added, over the positions that `kl.positions` chooses.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from tunemill.trainer import checkpoint, kl
from tunemill.trainer.derive import steps_of
from tunemill.trainer.early import looks_of, validation_loss
from tunemill.trainer.errors import Diverged, NothingToTrain, Stopped
from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.forward import logits_at, pack_rows, token_losses
from tunemill.trainer.optimizer import optimizer_for
from tunemill.trainer.pack import Step, Steps
from tunemill.trainer.ranks import ALONE, Ranks, gradient_scale, whole
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.render import Example


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One optimizer step."""

    step: int  # 1, 2, ...
    steps: int  # of the whole run
    epoch: float
    loss: float  # nats per trained token, before the step
    learning_rate: float
    grad_norm: float  # before clipping
    trained_tokens: int  # so far
    tokens_per_s: float  # all tokens through the model, this step
    kl_to_base: float | None = None  # nats per position compared
    validation_loss: float | None = None  # nats per trained token of the rows set aside, after the step


@dataclass(frozen=True, slots=True)
class Trained:
    """What the loop did, over all attempts."""

    steps: int
    trained_tokens: int
    seconds: float
    best_step: int | None = None  # whose weights the model has, with early stopping


def train(
    model: torch.nn.Module,
    examples: Sequence[Example],
    recipe: Recipe,
    checkpoints: Path,
    *,
    packed: bool,
    autocast: torch.dtype | None,
    on_step: Callable[[StepMetrics], None],
    should_stop: Callable[[], bool],
    on_damaged: Callable[[int], None] = lambda _count: None,
    replay_from: int | None = None,
    validation: Sequence[Example] = (),
    ranks: Ranks = ALONE,
) -> Trained:
    """Train, going on from the newest whole checkpoint.

    Args:
        packed: whether rows may share a forward pass (`forward.isolates_rows`).
        should_stop: asked after every forward pass; a step that is not whole is thrown away.
        on_damaged: told how many checkpoints were passed over, if any.
        replay_from: examples from here on are general rows.
        validation: the rows that early stopping looks at.

    Raises:
        NothingToTrain: no example has a trained token.
        Diverged: the loss or the gradient is not finite.
        Stopped: `should_stop` said so; the checkpoint is written.
    """
    # 1. Plan
    if not any(trained_tokens(example) for example in examples):
        raise NothingToTrain(
            "no row has an answer to train on", "look at the dataset's rows and at the counts in the report"
        )
    capacity = recipe.tokens_per_forward if packed else 1
    plan = Steps([len(e.ids) for e in examples], recipe.rows_per_step, tokens_per_forward=capacity, seed=recipe.seed)
    steps = steps_of(recipe, len(examples))
    rule = recipe.early_stopping if validation else None

    # 2. The base model beside it, optimizer and checkpoint
    reference = kl.Reference(model) if recipe.kl_to_base else None
    task_rows = len(examples) if replay_from is None else replay_from
    compared = [kl.positions(e, is_task=row < task_rows) if reference else () for row, e in enumerate(examples)]
    torch.manual_seed(recipe.seed + ranks.rank)  # dropout
    optimizer = optimizer_for(model, recipe)
    restored = checkpoint.restore(checkpoints, model, optimizer, ranks)
    if restored.damaged:
        on_damaged(restored.damaged)
    totals = {"trained_tokens": 0, "seconds": 0.0, **restored.totals}
    looks = looks_of(totals)
    done = restored.step
    through = _Through(model, examples, compared, reference, recipe.kl_to_base, autocast, ranks)

    # 3. Steps
    while done < steps and not (rule and looks.without_fall >= rule.patience):
        started = time.perf_counter()
        random = checkpoint.random_state()

        # 3a. Forward and backward, one pass per bin
        sums = through.backward(plan[done], should_stop)
        if sums is None:
            checkpoint.save(checkpoints, model, optimizer, ranks, step=done, totals=totals, random=random)
            raise Stopped(f"stopped after step {done}", "it goes on from there")

        # 3b. Update
        share = rate_share(recipe.schedule, done, steps, recipe.warmup_share)
        grad_norm = _update(optimizer, share, recipe.max_grad_norm, ranks)
        done += 1
        if not math.isfinite(sums.loss) or not math.isfinite(grad_norm):
            raise Diverged(f"the loss is no finite number at step {done}", "lower learning_rate or raise warmup_share")
        took_s = time.perf_counter() - started

        # 3c. Look at the rows set aside
        seen = None
        if rule and (done % rule.every_steps == 0 or done == steps):
            seen = validation_loss(model, validation, capacity, autocast)
            looks = looks.after(done, seen, rule)

        # 3d. Tell, and keep
        totals["trained_tokens"] += sums.trained_tokens
        totals["seconds"] += took_s
        totals |= looks.as_totals() if rule else {}
        on_step(
            StepMetrics(
                step=done,
                steps=steps,
                epoch=done / plan.per_epoch,
                loss=sums.loss,
                learning_rate=recipe.learning_rate * share,
                grad_norm=grad_norm,
                trained_tokens=int(totals["trained_tokens"]),
                tokens_per_s=sums.tokens / took_s,
                kl_to_base=sums.kl_to_base,
                validation_loss=seen,
            )
        )
        if done % recipe.checkpoint_steps == 0 or done == steps or seen is not None:
            random = checkpoint.random_state()
            checkpoint.save(checkpoints, model, optimizer, ranks, step=done, totals=totals, random=random)

    # 4. Done
    best_step = looks.best_step or None
    if best_step and best_step != done:
        checkpoint.load_weights(checkpoints, best_step, model)
    return Trained(done, int(totals["trained_tokens"]), totals["seconds"], best_step)


@dataclass(frozen=True, slots=True)
class _Sums:
    """A step's forward passes, over all ranks."""

    loss: float  # nats per trained token
    kl_to_base: float | None  # nats per position compared
    trained_tokens: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Through:
    """How rows go through the model, and where in each the base model is asked, too."""

    model: torch.nn.Module
    examples: Sequence[Example]
    compared: Sequence[Sequence[int]]
    reference: kl.Reference | None
    kl_weight: float
    autocast: torch.dtype | None
    ranks: Ranks

    def backward(self, bins: Step, should_stop: Callable[[], bool]) -> _Sums | None:
        """Leave the gradient of a step's loss in the parameters; None when it was to stop half-way."""
        rows_of_step = [row for rows in bins for row in rows]
        trained = sum(trained_tokens(self.examples[row]) for row in rows_of_step)
        compared = sum(len(self.compared[row]) for row in rows_of_step)
        scale = gradient_scale(self.model, self.ranks)
        nats_sum = divergence_sum = 0.0
        for rows, counts in self.ranks.share(bins):
            nats, divergence = self._sums(rows)
            loss = nats / max(1, trained) + self.kl_weight * divergence / max(1, compared)
            (loss * (scale * counts)).backward()
            nats_sum += nats.item() * counts
            divergence_sum += divergence.item() * counts
            if self.ranks.first_says(should_stop()):
                return None
        nats_sum, divergence_sum = self.ranks.total(nats_sum, divergence_sum)
        return _Sums(
            loss=nats_sum / max(1, trained),
            kl_to_base=divergence_sum / max(1, compared) if self.reference else None,
            trained_tokens=trained,
            tokens=sum(len(self.examples[row].ids) for row in rows_of_step),
        )

    def _sums(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Over one forward pass: the loss of its trained tokens, and the distance from the base model."""
        packed = [self.examples[row] for row in rows]
        batch = pack_rows(packed, next(self.model.parameters()).device)
        if self.reference is None:
            return token_losses(self.model, batch, self.autocast).sum(), torch.zeros(())
        places = kl.places(packed, [self.compared[row] for row in rows])
        at = torch.tensor(places, dtype=torch.long, device=batch.positions.device)
        base_logits = self.reference.logits(batch, at, self.autocast)
        logits = logits_at(self.model, batch, torch.cat([batch.positions, at]), self.autocast)
        trained, beside = logits.split([len(batch.positions), len(at)])
        nats = cross_entropy(trained.float(), batch.targets, reduction="sum")
        return nats, kl.divergence(base_logits, beside)


def _update(optimizer: torch.optim.Optimizer, share: float, max_grad_norm: float, ranks: Ranks) -> float:
    """One optimizer step at that share of the learning rate; gives the gradient's norm before clipping."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * share
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    ranks.add_gradients(parameters)
    grad_norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)))
    optimizer.step()
    optimizer.zero_grad()
    return grad_norm


def rate_share(schedule: str, step: int, steps: int, warmup_share: float) -> float:
    """The share of the learning rate that step number `step` (from 0) uses: up from 0 in the warm-up, then as the schedule says."""
    warmup = math.ceil(steps * warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)  # never 0: a step without an update would be a waste
    progress = (step - warmup) / max(1, steps - warmup)
    if schedule == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0
