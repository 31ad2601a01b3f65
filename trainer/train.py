"""The training loop: examples and a model in, a trained model out. A straight line; every quantity is derived once.

An optimizer step's loss is the sum over its trained tokens divided by their number, however they were spread over forward passes.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tunemill.trainer import checkpoint
from tunemill.trainer.errors import Diverged, NothingToTrain, Stopped
from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.forward import pack_rows, token_losses
from tunemill.trainer.model import trainable
from tunemill.trainer.pack import Step, epoch_steps
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


@dataclass(frozen=True, slots=True)
class Trained:
    """What the loop did, over all attempts."""

    steps: int
    trained_tokens: int
    seconds: float


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
) -> Trained:
    """Train, going on from the newest whole checkpoint.

    Args:
        packed: whether rows may share a forward pass (`forward.isolates_rows`).
        should_stop: asked after every forward pass; a step that is not whole is thrown away.
        on_damaged: told how many checkpoints were passed over, if any.

    Raises:
        NothingToTrain: no example has a trained token.
        Diverged: the loss or the gradient is not finite.
        Stopped: `should_stop` said so; the checkpoint is written.
    """
    # 1. Plan
    lengths = [len(example.ids) for example in examples]
    tokens = [trained_tokens(example) for example in examples]
    if not sum(tokens):
        raise NothingToTrain(
            "no row has an answer to train on", "look at the dataset's rows and at the counts in the report"
        )
    capacity = recipe.tokens_per_forward if packed else 1
    steps_per_epoch = math.ceil(len(examples) / recipe.rows_per_step)
    steps = recipe.max_steps or math.ceil(steps_per_epoch * recipe.epochs)

    # 2. Optimizer and checkpoint
    torch.manual_seed(recipe.seed)  # dropout
    parameters = list(trainable(model).values())
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    restored = checkpoint.restore(checkpoints, model, optimizer)
    if restored.damaged:
        on_damaged(restored.damaged)
    totals = {"trained_tokens": 0, "seconds": 0.0, **restored.totals}
    epoch_of_plan, plan = -1, list[Step]()

    # 3. Steps
    for step in range(restored.step, steps):
        started = time.perf_counter()
        random = checkpoint.random_state()
        epoch, place = divmod(step, steps_per_epoch)
        if epoch != epoch_of_plan:
            plan = epoch_steps(
                lengths, rows_per_step=recipe.rows_per_step, tokens_per_forward=capacity, seed=recipe.seed, epoch=epoch
            )
            epoch_of_plan = epoch
        bins = plan[place]
        step_tokens = max(1, sum(tokens[row] for rows in bins for row in rows))

        # 3a. Forward and backward, one pass per bin
        loss_sum = 0.0
        for rows in bins:
            batch = pack_rows([examples[row] for row in rows], device)
            if len(batch.targets):
                loss = token_losses(model, batch, autocast).sum()
                (loss / step_tokens).backward()
                loss_sum += loss.item()
            if should_stop():
                checkpoint.save(checkpoints, model, optimizer, step=step, totals=totals, random=random)
                raise Stopped(f"stopped after step {step}", "it goes on from there")

        # 3b. Update
        learning_rate = recipe.learning_rate * rate_share(recipe.schedule, step, steps, recipe.warmup_share)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm))
        if not math.isfinite(loss_sum) or not math.isfinite(grad_norm):
            raise Diverged(
                f"the loss is no finite number at step {step + 1}", "lower learning_rate or raise warmup_share"
            )
        optimizer.step()
        optimizer.zero_grad()

        # 3c. Tell, and keep
        took_s = time.perf_counter() - started
        totals = {"trained_tokens": totals["trained_tokens"] + step_tokens, "seconds": totals["seconds"] + took_s}
        through = sum(lengths[row] for rows in bins for row in rows)
        on_step(
            StepMetrics(
                step=step + 1,
                steps=steps,
                epoch=(step + 1) / steps_per_epoch,
                loss=loss_sum / step_tokens,
                learning_rate=learning_rate,
                grad_norm=grad_norm,
                trained_tokens=int(totals["trained_tokens"]),
                tokens_per_s=through / took_s,
            )
        )
        if (step + 1) % recipe.checkpoint_steps == 0 or step + 1 == steps:
            random = checkpoint.random_state()
            checkpoint.save(checkpoints, model, optimizer, step=step + 1, totals=totals, random=random)

    # 4. Done
    return Trained(steps=steps, trained_tokens=int(totals["trained_tokens"]), seconds=totals["seconds"])


def rate_share(schedule: str, step: int, steps: int, warmup_share: float) -> float:
    """The share of the learning rate that step number `step` (from 0) uses: up from 0 in the warm-up, then as the schedule says."""
    warmup = math.ceil(steps * warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)  # never 0: a step without an update would be a waste
    progress = (step - warmup) / max(1, steps - warmup)
    if schedule == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0
