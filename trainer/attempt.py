"""One attempt at one run, as a straight line from the dataset to the artefact."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import PreTrainedTokenizerBase

from tunemill.trainer.artefact import Made, assemble
from tunemill.trainer.dataset import open_dataset
from tunemill.trainer.errors import Stopped
from tunemill.trainer.evaluate import Scores, evaluate
from tunemill.trainer.forward import isolates_rows
from tunemill.trainer.gates import Gate, Measured, judge, rejected
from tunemill.trainer.identity import identify_base
from tunemill.trainer.job import Order, Speaker, WorkFolder, write_whole
from tunemill.trainer.limits import limits_told
from tunemill.trainer.model import base_folder, compute_dtype, load_model, load_tokenizer
from tunemill.trainer.prepare import Prepared, prepare
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.render import Example
from tunemill.trainer.report import report
from tunemill.trainer.score import gain_lower_bound
from tunemill.trainer.train import StepMetrics, Trained, train

_SAMPLES = 3
_METRIC_LINES = 200  # per run; long runs tell every n-th step


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model to train, and how rows go through it."""

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype  # computed in
    autocast: torch.dtype | None  # where the weights are held in another format
    packed: bool  # whether rows share forward passes


def run(order: Order, folder: WorkFolder, speaker: Speaker, should_stop: Callable[[], bool]) -> None:
    """A run from its dataset to its artefact; each numbered step starts where a killed attempt got to.

    Args:
        should_stop: asked between forward passes of the training.
    """
    with limits_told(folder.path):
        _run(order, folder, speaker, should_stop)


def _run(order: Order, folder: WorkFolder, speaker: Speaker, should_stop: Callable[[], bool]) -> None:
    recipe = order.recipe
    # 1. What can be refused before anything large is read
    identify_base(recipe.base, recipe.revision)
    weights = base_folder(recipe.base, recipe.revision)
    tokenizer = load_tokenizer(weights)
    dataset = open_dataset(order.manifest_url, order.digest)

    # 2. Rows, rendered whole
    # 3. What the recipe leaves open, settled by rows, model and memory; refused where it does not fit
    # 4. Rows as the model will see them
    prepared = prepare(dataset.train, dataset.test, recipe, tokenizer)
    speaker.say("message", "the rows are ready", **prepared.counts)

    # 5. The model
    loaded = _load(recipe, weights, tokenizer, speaker)

    # 6. The base model's own answers to the general rows, where they are asked for
    # 7. Before: kept, for training changes the model
    before = _before(folder) or _score(loaded, prepared, recipe)
    write_whole(folder.before, msgspec.json.encode(before))
    if should_stop():
        raise Stopped("stopped before training", "the scores so far are kept")

    # 8. Training
    speaker.say("status", "running")
    done = _train(loaded, prepared, recipe, folder, speaker=speaker, should_stop=should_stop)

    # 9. After, and the judgement
    speaker.say("status", "evaluating")
    after = _score(loaded, prepared, recipe)
    gates = judge(_measured(before, after, recipe.seed), recipe.gates)
    status = "rejected" if rejected(gates) else "succeeded"
    result = _result(before, after, prepared.counts, gates)

    # 10. The artefact
    shown = [_sample(example, tokenizer) for example in prepared.train[:_SAMPLES]]
    asked = [question.expected for question in prepared.asked]
    answers = list(zip(asked, before.answers, after.answers, strict=True))[:_SAMPLES]
    result["notes"] = assemble(
        loaded.model,
        tokenizer,
        folder.artefact,
        order=order,
        status=status,
        result=result,
        report=report(order, status, result, gates, answers=answers, samples=shown),
        samples=[],
        made=Made(done, loaded.dtype, weights),
    )
    speaker.say("done", status, result=result, trained_tokens=done.trained_tokens, seconds=done.seconds)


def _load(recipe: Recipe, weights: Path, tokenizer: PreTrainedTokenizerBase, speaker: Speaker) -> Loaded:
    model = load_model(recipe, weights)
    dtype = compute_dtype(recipe.precision)
    autocast = dtype if recipe.method == "full" and dtype != torch.float32 else None
    packed = recipe.packing and isolates_rows(model, autocast)
    if recipe.packing and not packed:
        speaker.say("warn", "packed rows would see one another in this model: each row goes through it alone, slower")
    return Loaded(model, tokenizer, dtype, autocast, packed)


def _train(
    loaded: Loaded,
    prepared: Prepared,
    recipe: Recipe,
    folder: WorkFolder,
    *,
    speaker: Speaker,
    should_stop: Callable[[], bool],
) -> Trained:
    return train(
        loaded.model,
        prepared.train,
        recipe,
        folder.checkpoints,
        packed=loaded.packed,
        autocast=loaded.autocast,
        on_step=_metrics_teller(speaker),
        on_damaged=lambda count: speaker.say("warn", f"{count} damaged checkpoints are skipped", damaged=count),
        should_stop=should_stop,
    )


def _before(folder: WorkFolder) -> Scores | None:
    """What an earlier attempt measured."""
    return msgspec.json.decode(folder.before.read_bytes(), type=Scores) if folder.before.exists() else None


def _score(loaded: Loaded, prepared: Prepared, recipe: Recipe) -> Scores:
    return evaluate(
        loaded.model,
        loaded.tokenizer,
        prepared.held_out,
        asked=prepared.asked,
        retention=prepared.retention,
        recipe=recipe,
        packed=loaded.packed,
        autocast=loaded.autocast,
    )


def _measured(before: Scores, after: Scores, seed: int) -> Measured:
    def change(earlier: float | None, later: float | None) -> float | None:
        return None if earlier is None or later is None else later - earlier

    was, now = before.summary(), after.summary()
    return Measured(
        task_gain_lower_bound=gain_lower_bound(before.losses, after.losses, before.tokens, seed=seed),
        retention_rise=change(before.retention(), after.retention()),
        exact_match_change=change(was["exact_match"], now["exact_match"]),
        stop_rate_change=change(was["stop_rate"], now["stop_rate"]),
    )


def _result(before: Scores, after: Scores, counts: dict[str, int], gates: list[Gate]) -> dict[str, Any]:
    return {
        "before": before.summary(),
        "after": after.summary(),
        "retention": {"before": before.retention(), "after": after.retention()},
        "rows": counts,
        "gates": msgspec.to_builtins(gates),
    }


def _sample(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    trained = [tokenizer.decode(example.ids[a:b], skip_special_tokens=False) for a, b in example.spans]
    return tokenizer.decode(example.ids, skip_special_tokens=False), "\n".join(trained)


def _metrics_teller(speaker: Speaker) -> Callable[[StepMetrics], None]:
    def tell(metrics: StepMetrics) -> None:
        every = max(1, metrics.steps // _METRIC_LINES)
        if metrics.step % every == 0 or metrics.step == metrics.steps:
            speaker.say("metrics", f"step {metrics.step} of {metrics.steps}", **asdict(metrics))

    return tell
