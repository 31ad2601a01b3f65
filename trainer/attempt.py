"""One attempt at one run, as a straight line from the dataset to the artefact."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec.structs import replace as with_fields
from transformers import PreTrainedTokenizerBase

from tunemill.schemas.row_scores import RowScores
from tunemill.trainer.artefact import Made, assemble
from tunemill.trainer.dataset import SHAPES, open_dataset
from tunemill.trainer.dpo import margins, refuse_impossible, train_pairs
from tunemill.trainer.errors import Stopped
from tunemill.trainer.evaluate import evaluate, measured_rows
from tunemill.trainer.forward import isolates_rows
from tunemill.trainer.identity import identify, identify_base, refuse_changed
from tunemill.trainer.job import Order, Speaker, WorkFolder, write_whole
from tunemill.trainer.judge import configured, judge_answers
from tunemill.trainer.limits import limits_told
from tunemill.trainer.machine import this_machine
from tunemill.trainer.mix import base_answers
from tunemill.trainer.model import base_folder, compute_dtype, load_model, load_tokenizer, trainable
from tunemill.trainer.plan import in_short, plan_data, settle
from tunemill.trainer.prepare import Prepared, Raw, prepare, render_all
from tunemill.trainer.ranks import Ranks, join, leave, spread
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import Example
from tunemill.trainer.report import report
from tunemill.trainer.row_scores import Measured, row_scores
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
    ranks: Ranks


def run(order: Order, folder: WorkFolder, speaker: Speaker, should_stop: Callable[[], bool]) -> None:
    """A run from its dataset to its artefact; each numbered step starts where a killed attempt got to.

    Args:
        should_stop: asked between forward passes of the training.
    """
    ranks = join(order.devices)
    with limits_told(folder.path):
        _run(order, folder, speaker, should_stop, ranks)
    leave(ranks)


def _run(order: Order, folder: WorkFolder, speaker: Speaker, should_stop: Callable[[], bool], ranks: Ranks) -> None:
    recipe = order.recipe
    speaker.say("message", "the worker is ready to read the dataset and the base model")
    # 1. What can be refused before anything large is read
    if recipe.objective == "dpo":
        refuse_impossible(order.devices)
    found = identify(recipe, identify_base(recipe.base, recipe.revision))
    refuse_changed(order.identity or found, found, recipe)
    weights = base_folder(recipe.base, recipe.revision)
    tokenizer = load_tokenizer(weights)
    template = settle_template(tokenizer, recipe.template)
    if template != OWN:
        speaker.say("message", f"the chat template is {template}")
    dataset = open_dataset(order.manifest_url, order.digest, shape=SHAPES[recipe.objective])

    # 2. Rows, rendered whole
    raw = render_all(dataset, recipe, tokenizer)

    # 3. What the recipe leaves open, settled by rows, model and memory; refused where it does not fit
    plan = ranks.first_says({} if ranks.rank else _plan(order, folder, raw, weights, speaker))
    recipe = resolve(plan["recipe"])
    order = with_fields(order, recipe=recipe)

    # 4. Rows as the model will see them
    prepared = prepare(raw, recipe, tokenizer)
    speaker.say("message", "the rows are ready", **prepared.counts)

    # 5. The model
    loaded = _load(recipe, weights, tokenizer, speaker, ranks)

    # 6. The base model's own answers to the general rows, where they are asked for
    prepared = _with_base_answers(loaded, prepared, recipe, folder, speaker)

    # 7. Before: kept, for training changes the model
    before = ranks.first_says(_before(folder)) or _score(loaded, prepared, recipe, folder.answers("before"))
    if ranks.rank == 0:
        write_whole(folder.before, msgspec.json.encode(before))
    if ranks.first_says(should_stop()):
        raise Stopped("stopped before training", "the scores so far are kept")

    # 8. Training
    speaker.say("status", "running")
    done = _train(loaded, prepared, recipe, folder, speaker=speaker, should_stop=should_stop)

    # 9. After, and the judgement
    speaker.say("status", "evaluating")
    after = _score(loaded, prepared, recipe, folder.answers("after"))
    judged = _judged(order, before, after, prepared, speaker)
    judged = with_fields(judged, result={**judged.result, "plan": plan})

    # 10. The artefact
    loaded = replace(loaded, model=_whole_model(loaded, recipe, weights))
    if ranks.rank == 0:
        scores, made = (before, after), Made(done, loaded.dtype, weights)
        judged.result["judge"] = _heard(recipe, prepared, before, after, speaker)
        rows = _row_scores(order, prepared, before, after, retention_digest=found.retention)
        notes = _assemble(order, folder, loaded, prepared, scores=scores, rows=rows, judged=judged, made=made)
        judged.result["notes"] = notes
        told = {"result": judged.result, "trained_tokens": done.trained_tokens, "seconds": done.seconds}
        speaker.say("done", judged.status, **told)


def _plan(order: Order, folder: WorkFolder, raw: Raw, weights: Path, speaker: Speaker) -> dict[str, Any]:
    """The plan, with the recipe without open knobs. What an earlier attempt settled stays: this one goes on with its batches."""
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
    return kept


def _load(recipe: Recipe, weights: Path, tokenizer: PreTrainedTokenizerBase, speaker: Speaker, ranks: Ranks) -> Loaded:
    model = load_model(recipe, weights)
    spread(model, recipe, ranks)
    dtype = compute_dtype(recipe.precision)
    autocast = dtype if recipe.method == "full" and dtype != torch.float32 else None
    packed = recipe.packing and isolates_rows(model, autocast)
    if recipe.packing and not packed:
        speaker.say("warn", "packed rows would see one another in this model: each row goes through it alone, slower")
    return Loaded(model, tokenizer, dtype, autocast, packed, ranks)


def _whole_model(loaded: Loaded, recipe: Recipe, weights: Path) -> torch.nn.Module:
    """The trained model, not sharded: on the first of several ranks it is loaded anew, and what was trained is put into it."""
    if loaded.ranks.world == 1:
        return loaded.model
    trained = {name: loaded.ranks.gather(parameter) for name, parameter in trainable(loaded.model).items()}
    if loaded.ranks.rank:
        return loaded.model
    model = load_model(recipe, weights)
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(trained[name])
    return model


def _train(
    loaded: Loaded,
    prepared: Prepared,
    recipe: Recipe,
    folder: WorkFolder,
    *,
    speaker: Speaker,
    should_stop: Callable[[], bool],
) -> Trained:
    def damaged(count: int) -> None:
        speaker.say("warn", f"damaged checkpoints are passed over: {count}", damaged=count)

    if recipe.objective == "dpo":
        return train_pairs(
            loaded.model,
            prepared.pairs,
            recipe,
            folder.checkpoints,
            tokenizer=loaded.tokenizer,
            on_step=_metrics_teller(speaker),
            on_damaged=damaged,
            should_stop=should_stop,
        )
    return train(
        loaded.model,
        prepared.train,
        recipe,
        folder.checkpoints,
        packed=loaded.packed,
        autocast=loaded.autocast,
        on_step=_metrics_teller(speaker),
        on_damaged=damaged,
        should_stop=should_stop,
        replay_from=prepared.replay_from,
        validation=prepared.validation,
        ranks=loaded.ranks,
    )


def _before(folder: WorkFolder) -> Scores | None:
    """What an earlier attempt measured."""
    return msgspec.json.decode(folder.before.read_bytes(), type=Scores) if folder.before.exists() else None


def _with_base_answers(
    loaded: Loaded, prepared: Prepared, recipe: Recipe, folder: WorkFolder, speaker: Speaker
) -> Prepared:
    if not prepared.asked_replay:
        return prepared
    kept = folder.replay if loaded.ranks.world == 1 else None
    made, left_out = base_answers(
        loaded.model, loaded.tokenizer, prepared.asked_replay, recipe, autocast=loaded.autocast, kept=kept
    )
    counts = prepared.counts | {"replay": len(made), "base_answers_left_out": left_out}
    speaker.say("message", "the base model has answered the general rows itself", replay=len(made), left_out=left_out)
    return replace(prepared, train=prepared.train[: prepared.replay_from] + made, counts=counts)


def _score(loaded: Loaded, prepared: Prepared, recipe: Recipe, kept: Path) -> Scores:
    scores = evaluate(
        loaded.model,
        loaded.tokenizer,
        prepared.held_out,
        asked=prepared.asked,
        retention=prepared.retention,
        asked_retention=prepared.asked_retention,
        recipe=recipe,
        packed=loaded.packed,
        autocast=loaded.autocast,
        kept=kept if loaded.ranks.world == 1 else None,  # else one rank would read what another computes
    )
    return with_fields(scores, margins=tuple(margins(loaded.model, prepared.held_out_pairs, autocast=loaded.autocast)))


def _judged(order: Order, before: Scores, after: Scores, prepared: Prepared, speaker: Speaker) -> Verdict:
    try:
        said = from_sources(order.manifest_url, order.sources_url, split="test")
    except (OSError, ValueError) as error:
        says = "the version's sources cannot be read: there are no slices by application, model and language"
        speaker.say("warn", says, error=type(error).__name__)
        said = {}
    rows = [prepared.test_rows[row] for row in measured_rows(prepared.held_out)]
    general = [prepared.retention_rows[row] for row in measured_rows(prepared.retention)]
    return verdict(
        before,
        after,
        order.recipe,
        slices=[{**said.get(row["row_id"], {}), **shown} for row, shown in zip(rows, seen(rows), strict=True)],
        row_topics=[row.get("topic", "") for row in general],
        questions=prepared.asked_retention,
        counts=prepared.counts,
    )


def _heard(
    recipe: Recipe, prepared: Prepared, before: Scores, after: Scores, speaker: Speaker
) -> dict[str, Any] | None:
    """What the operator's judge says, if there is one and the recipe asks for it."""
    if not recipe.judge_rows:
        return None
    judge = configured(os.environ)
    if judge is None:
        speaker.say(
            "warn", "the recipe asks for a judge, and this trainer has none: docs/evaluation.md says how it gets one"
        )
        return None
    said = judge_answers(judge, prepared.asked, before.answers, after.answers, rows=recipe.judge_rows)
    if said["failed"]:
        speaker.say(
            "warn", f"the judge failed on {said['failed']} of {said['rows']} answers", failures=said["failures"]
        )
    return said


def _assemble(
    order: Order,
    folder: WorkFolder,
    loaded: Loaded,
    prepared: Prepared,
    *,
    scores: tuple[Scores, Scores],
    rows: list[RowScores],
    judged: Verdict,
    made: Made,
) -> list[str]:
    before, after = scores
    samples = side_by_side("held_out", prepared.asked, before.answers, after.answers)
    samples += side_by_side("retention", prepared.asked_retention, before.retention_answers, after.retention_answers)
    trained = [_sample(example, loaded.tokenizer) for example in prepared.train[:_SAMPLES]]
    return assemble(
        loaded.model,
        loaded.tokenizer,
        folder.artefact,
        order=order,
        status=judged.status,
        result=judged.result,
        report=report(order, judged.status, judged.result, samples=samples, trained=trained),
        samples=samples,
        rows=rows,
        made=made,
    )


def _row_scores(
    order: Order, prepared: Prepared, before: Scores, after: Scores, *, retention_digest: str
) -> list[RowScores]:
    held_out = Measured(
        of="held_out",
        rows_of=order.digest,
        rows=measured_rows(prepared.held_out),
        asked=prepared.asked,
        pairs=[pair.row for pair in prepared.held_out_pairs],
    )
    retention = Measured(
        of="retention",
        rows_of=retention_digest,
        rows=measured_rows(prepared.retention),
        asked=prepared.asked_retention,
    )
    return row_scores(before, after, held_out=held_out, retention=retention, beta=order.recipe.dpo.beta)


def _sample(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    trained = [tokenizer.decode(example.ids[a:b], skip_special_tokens=False) for a, b in example.spans]
    return tokenizer.decode(example.ids, skip_special_tokens=False), "\n".join(trained)


def _metrics_teller(speaker: Speaker) -> Callable[[StepMetrics], None]:
    def tell(metrics: StepMetrics) -> None:
        every = max(1, metrics.steps // _METRIC_LINES)
        if metrics.step % every == 0 or metrics.step == metrics.steps or metrics.validation_loss is not None:
            speaker.say("metrics", f"step {metrics.step} of {metrics.steps}", **asdict(metrics))

    return tell
