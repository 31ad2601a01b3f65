"""Direct preference optimisation (https://arxiv.org/abs/2305.18290) by TRL's trainer, over our ids: the extra `dpo`.

TRL would tokenise the rows itself and cut them at 1,024 tokens; it is given ours, and told to cut nothing.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from tunemill.trainer.checkpoint import is_sealed, seal
from tunemill.trainer.derive import steps_of, steps_of_epoch
from tunemill.trainer.errors import Diverged, InvalidRun, Stopped
from tunemill.trainer.forward import pack_rows, token_losses
from tunemill.trainer.model import compute_dtype, device, inference, trainable
from tunemill.trainer.optimizer import optimizer_for
from tunemill.trainer.pairs import Pair
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.render import IGNORE, Example
from tunemill.trainer.train import StepMetrics, Trained

_KEEP = 2  # checkpoints


def refuse_impossible(devices: int) -> None:
    """What can be said before anything is read.

    Raises:
        InvalidRun: the run has several devices, or TRL is not installed.
    """
    if devices > 1:
        raise InvalidRun("objective dpo runs on one device", "give this run to a trainer without --devices")
    if find_spec("trl") is None:
        raise InvalidRun("objective dpo needs TRL, which is not installed", "pip install 'tunemill[dpo]'")


def train_pairs(
    model: Any,
    pairs: Sequence[Pair],
    recipe: Recipe,
    checkpoints: Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    on_step: Callable[[StepMetrics], None],
    should_stop: Callable[[], bool],
    on_damaged: Callable[[int], None] = lambda _count: None,
) -> Trained:
    """Train, going on from the newest whole checkpoint. The reference is the base model: the adapter off, or measured beforehand.

    Args:
        should_stop: asked after every step.
        on_damaged: told how many checkpoints were passed over, if any.

    Raises:
        Diverged: the loss is not finite.
        Stopped: `should_stop` said so; the checkpoint is written.
    """
    trainer_of = _trainer_class()
    teller = _Teller(recipe, pairs, on_step, should_stop)
    checkpoints.mkdir(parents=True, exist_ok=True)
    newest, damaged = _newest_whole(checkpoints)
    if damaged:
        on_damaged(damaged)
    with _as_it_was(model):
        trainer = trainer_of(
            model=model,
            args=_arguments(recipe, pairs, checkpoints, steps=teller.steps),
            train_dataset=_dataset(pairs),
            processing_class=tokenizer,
            callbacks=[teller],
            optimizers=(optimizer_for(model, recipe), None),
        )
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")  # TRL's copy of an adapter that is still zero: the same as the adapter off
        if recipe.method != "full":
            for parameter in trainable(model).values():
                parameter.data = parameter.data.float()  # TRL puts QLoRA's in bf16, in which small updates vanish
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    if teller.diverged:
        raise Diverged(
            f"the loss is no finite number at step {teller.step}", "lower learning_rate or raise warmup_share"
        )
    if teller.step < teller.steps:
        raise Stopped(f"stopped after step {teller.step}", "it goes on from there")
    return Trained(steps=teller.steps, trained_tokens=teller.trained(teller.step), seconds=teller.seconds)


def margins(model: torch.nn.Module, pairs: Sequence[Pair], *, autocast: torch.dtype | None) -> list[float]:
    """By how many nats each better answer is likelier than the worse one, whole answers compared."""
    found = []
    where = next(model.parameters()).device
    with inference(model):
        for pair in pairs:
            sides = [_side(pair, answer) for answer in (pair.chosen_ids, pair.rejected_ids)]
            chosen, rejected = (float(token_losses(model, pack_rows([side], where), autocast).sum()) for side in sides)
            found.append(rejected - chosen)
    return found


def _side(pair: Pair, answer: tuple[int, ...]) -> Example:
    start = len(pair.prompt_ids)
    return Example(pair.row, pair.prompt_ids + answer, (IGNORE,) * start + answer, ((start, start + len(answer)),))


def _trainer_class() -> Any:
    from trl import DPOTrainer

    class Trainer(DPOTrainer):  # type: ignore[misc]  # TRL has no types
        """TRL's, over rows that are encoded already."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    return Trainer


def _dataset(pairs: Sequence[Pair]) -> Any:
    import datasets

    return datasets.Dataset.from_dict(
        {
            "prompt_ids": [list(pair.prompt_ids) for pair in pairs],
            "chosen_ids": [list(pair.chosen_ids) for pair in pairs],
            "rejected_ids": [list(pair.rejected_ids) for pair in pairs],
        }
    )


def _arguments(recipe: Recipe, pairs: Sequence[Pair], checkpoints: Path, *, steps: int) -> Any:
    from trl import DPOConfig

    at_once = _pairs_at_once(recipe, pairs)
    full = recipe.method == "full"
    return DPOConfig(
        output_dir=str(checkpoints),
        beta=recipe.dpo.beta,
        max_length=None,
        precompute_ref_log_probs=full,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=recipe.rows_per_step // at_once,
        max_steps=steps,
        lr_scheduler_type="constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        warmup_steps=math.ceil(steps * recipe.warmup_share),
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        use_cpu=device().type == "cpu",
        bf16=full and compute_dtype(recipe.precision) == torch.bfloat16,
        gradient_checkpointing=False,  # `load_model` has turned it on where the recipe says so
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=recipe.checkpoint_steps,
        save_total_limit=_KEEP,
        report_to="none",
        disable_tqdm=True,
    )


def _pairs_at_once(recipe: Recipe, pairs: Sequence[Pair]) -> int:
    """As many as fit a forward pass, and divide a step evenly: each pair then counts alike."""
    if not recipe.packing:
        return 1
    longest = max(pair.length_tokens for pair in pairs)
    room = max(1, recipe.tokens_per_forward // (2 * longest))
    return max(n for n in range(1, recipe.rows_per_step + 1) if recipe.rows_per_step % n == 0 and n <= room)


def _newest_whole(checkpoints: Path) -> tuple[Path | None, int]:
    """The checkpoint to go on from, if there is one, and how many newer ones were not whole; those are removed."""
    damaged = 0
    for found in sorted(checkpoints.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        if is_sealed(found):
            return found, damaged
        shutil.rmtree(found)
        damaged += 1
    return None, damaged


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """TRL and accelerate put a `forward` of their own on a model: it is taken off again."""
    patched = [model, model.get_base_model()] if hasattr(model, "get_base_model") else [model]
    before = [one.__dict__.get("forward") for one in patched]
    yield
    for one, forward in zip(patched, before, strict=True):
        one.__dict__.pop("forward", None)
        if forward is not None:
            one.forward = forward


class _Teller(TrainerCallback):  # type: ignore[misc]  # transformers does not say its type
    """What TRL's trainer does, told as our loop tells it; and our word to stop, passed on to it."""

    def __init__(
        self,
        recipe: Recipe,
        pairs: Sequence[Pair],
        on_step: Callable[[StepMetrics], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._per_epoch = steps_of_epoch(recipe, len(pairs))
        self._answer_tokens = sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs)
        self._tokens = sum(pair.tokens for pair in pairs)
        self._on_step = on_step
        self._should_stop = should_stop
        self._started = 0.0
        self.steps = steps_of(recipe, len(pairs))
        self.step = 0
        self.seconds = 0.0
        self.diverged = False

    def trained(self, step: int) -> int:
        """Trained tokens up to this step, all steps taken as alike."""
        return round(self._answer_tokens * step / self._per_epoch)

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Where it goes on."""
        self.step = state.global_step

    def on_step_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """The clock of a step."""
        self._started = time.perf_counter()

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        """The step is whole: stop here, with a checkpoint, if asked to."""
        self.step = state.global_step
        self.seconds += time.perf_counter() - self._started
        if self._should_stop() and self.step < self.steps:
            control.should_save = control.should_training_stop = True
        return control

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """The checkpoint is written."""
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_log(self, _args: Any, _state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> Any:
        """A step's numbers; those at the end of the training have no loss of a step."""
        if not logs or "loss" not in logs or "learning_rate" not in logs:
            return control
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs.get("grad_norm", 0.0)):
            self.diverged = control.should_training_stop = True
            return control
        self._on_step(
            StepMetrics(
                step=self.step,
                steps=self.steps,
                epoch=self.step / self._per_epoch,
                loss=float(logs["loss"]),
                learning_rate=float(logs["learning_rate"]),
                grad_norm=float(logs.get("grad_norm", 0.0)),
                trained_tokens=self.trained(self.step),
                tokens_per_s=self._tokens / self._per_epoch / max(1e-9, time.perf_counter() - self._started),
            )
        )
        return control
