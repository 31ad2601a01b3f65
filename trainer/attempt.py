"""One attempt at one run, as a straight line from the dataset to the artefact."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec.structs import replace as with_fields
from transformers import PreTrainedTokenizerBase

from tunemill.trainer.artefact import Made, assemble
from tunemill.trainer.dataset import open_dataset
from tunemill.trainer.errors import Stopped
from tunemill.trainer.evaluate import evaluate
from tunemill.trainer.forward import isolates_rows
from tunemill.trainer.identity import identify_base
from tunemill.trainer.job import Order, Speaker, WorkFolder, write_whole
from tunemill.trainer.limits import limits_told
from tunemill.trainer.machine import this_machine
from tunemill.trainer.mix import base_answers
from tunemill.trainer.model import base_folder, compute_dtype, load_model, load_tokenizer
from tunemill.trainer.plan import in_short, plan_data, settle
from tunemill.trainer.prepare import Prepared, Raw, prepare, render_all
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import Example
from tunemill.trainer.report import report
from tunemill.trainer.samples import side_by_side
from tunemill.trainer.score import Scores
from tunemill.trainer.shape import shape_of
from tunemill.trainer.slices import from_sources, seen
from tunemill.trainer.template import OWN, settle_template
from tunemill.trainer.train import StepMetrics, Trained, train
from tunemill.trainer.verdict import Verdict, verdict

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
    template = settle_template(tokenizer, recipe.template)
    if template != OWN:
        speaker.say("message", f"the chat template is {template}")
    dataset = open_dataset(order.manifest_url, order.digest)

    # 2. Rows, rendered whole
    raw = render_all(dataset, recipe, tokenizer)

    # 3. What the recipe leaves open, settled by rows, model and memory; refused where it does not fit
    recipe, plan = _settled(order, folder, raw, weights, speaker)
    order = with_fields(order, recipe=recipe)

    # 4. Rows as the model will see them
    prepared = prepare(raw, recipe, tokenizer)
    speaker.say("message", "the rows are ready", **prepared.counts)

    # 5. The model
    loaded = _load(recipe, weights, tokenizer, speaker)

    # 6. The base model's own answers to the general rows, where they are asked for
    prepared = _with_base_answers(loaded, prepared, recipe, folder, speaker)

    # 7. Before: kept, for training changes the model
    before = _before(folder) or _score(loaded, prepared, recipe, folder.answers("before"))
    write_whole(folder.before, msgspec.json.encode(before))
    if should_stop():
        raise Stopped("stopped before training", "the scores so far are kept")

    # 8. Training
    speaker.say("status", "running")
    done = _train(loaded, prepared, recipe, folder, speaker=speaker, should_stop=should_stop)

    # 9. After, and the judgement
    speaker.say("status", "evaluating")
    after = _score(loaded, prepared, recipe, folder.answers("after"))
    judged = _judged(order, before, after, prepared, speaker)
    result = {**judged.result, "plan": plan}

    # 10. The artefact
    samples = side_by_side("held_out", prepared.asked, before.answers, after.answers)
    samples += side_by_side("retention", prepared.asked_retention, before.retention_answers, after.retention_answers)
    trained = [_sample(example, tokenizer) for example in prepared.train[:_SAMPLES]]
    result["notes"] = assemble(
        loaded.model,
        tokenizer,
        folder.artefact,
        order=order,
        status=judged.status,
        result=result,
        report=report(order, judged.status, result, samples=samples, trained=trained),
        samples=samples,
        made=Made(done, loaded.dtype, weights),
    )
    speaker.say("done", judged.status, result=result, trained_tokens=done.trained_tokens, seconds=done.seconds)


def _settled(
    order: Order, folder: WorkFolder, raw: Raw, weights: Path, speaker: Speaker
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe without open knobs, and the plan. What an earlier attempt settled stays: this one goes on with its batches."""
    kept = msgspec.json.decode(folder.plan.read_bytes()) if folder.plan.exists() else None
    if kept is None or kept["squeeze"] != order.squeeze:
        machine = this_machine(precision=order.recipe.precision, devices=order.devices)
        shape = shape_of(weights, order.recipe)
        _, plan = settle(order.recipe, raw.facts(), shape, machine, squeeze=order.squeeze)
        kept = {**plan_data(plan), "squeeze": order.squeeze}
        write_whole(folder.plan, msgspec.json.encode(kept))
        speaker.say("message", in_short(plan), steps=plan.steps)
        for derived in plan.derived:
            speaker.say("message", f"{derived.name} {derived.value}: {derived.reason}")
    return resolve(kept["recipe"]), kept


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


def _with_base_answers(
    loaded: Loaded, prepared: Prepared, recipe: Recipe, folder: WorkFolder, speaker: Speaker
) -> Prepared:
    if not prepared.asked_replay:
        return prepared
    made, left_out = base_answers(
        loaded.model, loaded.tokenizer, prepared.asked_replay, recipe, autocast=loaded.autocast, kept=folder.replay
    )
    counts = prepared.counts | {"replay": len(made), "base_answers_left_out": left_out}
    speaker.say("message", "the base model has answered the general rows itself", replay=len(made), left_out=left_out)
    return replace(prepared, train=prepared.train[: prepared.replay_from] + made, counts=counts)


def _score(loaded: Loaded, prepared: Prepared, recipe: Recipe, kept: Path) -> Scores:
    return evaluate(
        loaded.model,
        loaded.tokenizer,
        prepared.held_out,
        asked=prepared.asked,
        retention=prepared.retention,
        asked_retention=prepared.asked_retention,
        recipe=recipe,
        packed=loaded.packed,
        autocast=loaded.autocast,
        kept=kept,
    )


def _judged(order: Order, before: Scores, after: Scores, prepared: Prepared, speaker: Speaker) -> Verdict:
    try:
        said = from_sources(order.manifest_url, order.sources_url, split="test")
    except (OSError, ValueError) as error:
        says = "the version's sources cannot be read: there are no slices by application, model and language"
        speaker.say("warn", says, error=type(error).__name__)
        said = {}
    rows = [prepared.test_rows[example.row] for example in prepared.held_out]
    return verdict(
        before,
        after,
        order.recipe,
        slices=[{**said.get(row["row_id"], {}), **shown} for row, shown in zip(rows, seen(rows), strict=True)],
        row_topics=[prepared.retention_rows[example.row].get("topic", "") for example in prepared.retention],
        question_topics=[question.topic for question in prepared.asked_retention],
        counts=prepared.counts,
    )


def _sample(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    trained = [tokenizer.decode(example.ids[a:b], skip_special_tokens=False) for a, b in example.spans]
    return tokenizer.decode(example.ids, skip_special_tokens=False), "\n".join(trained)


def _metrics_teller(speaker: Speaker) -> Callable[[StepMetrics], None]:
    def tell(metrics: StepMetrics) -> None:
        every = max(1, metrics.steps // _METRIC_LINES)
        if metrics.step % every == 0 or metrics.step == metrics.steps:
            speaker.say("metrics", f"step {metrics.step} of {metrics.steps}", **asdict(metrics))

    return tell
