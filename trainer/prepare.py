"""Dataset rows -> examples: rendered, fitted, and every row that is not used as it was counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunemill.trainer.errors import NothingToTrain
from tunemill.trainer.fit import Fitted, fit
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.mix import replay_rows
from tunemill.trainer.question import Question, questions
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.render import Example, render


@dataclass(frozen=True, slots=True)
class Prepared:
    """All rows of a run, as the model will see them."""

    train: list[Example]
    held_out: list[Example]
    retention: list[Example]
    asked: list[Question]  # of the held-out rows
    asked_retention: list[Question]
    asked_replay: list[Question]  # whose answers the base model is to give itself
    test_rows: Sequence[dict[str, Any]]  # what `row` of a held-out example counts in
    retention_rows: Sequence[dict[str, Any]]
    replay_from: int  # train[replay_from:] are general rows
    counts: dict[str, int]


def prepare(
    train_rows: Sequence[dict[str, Any]],
    test_rows: Sequence[dict[str, Any]],
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
) -> Prepared:
    """Render and fit every row; every row that is not used as it was is counted.

    Raises:
        NothingToTrain: no training row is left.
    """
    replay = replay_rows(len(train_rows), recipe)
    rendered = render(train_rows, tokenizer)
    fitted = fit(rendered.examples, recipe.max_length_tokens, recipe.overlong)
    if not fitted.examples:
        raise NothingToTrain(
            f"of {len(train_rows)} training rows none can be used: {_said(rendered.counts())}, {fitted.dropped} too long",
            "look at the dataset's rows, its split and max_length_tokens",
        )
    held_out = _fitted(test_rows[: recipe.eval_loss_rows], recipe, tokenizer)
    retention_rows = general_rows("retention", recipe.retention)
    retention = _fitted(retention_rows, recipe, tokenizer)
    asked_of, asked_retention_of = (
        [example for example in examples if example.row < recipe.eval_generate_rows]
        for examples in (held_out.examples, retention.examples)
    )
    replayed = _fitted(replay, recipe, tokenizer).examples
    own_answers = recipe.replay_answers == "base"
    return Prepared(
        train=fitted.examples + replayed,
        held_out=held_out.examples,
        retention=retention.examples,
        asked=questions(test_rows, asked_of, tokenizer),
        asked_retention=questions(retention_rows, asked_retention_of, tokenizer),
        asked_replay=questions(replay, replayed, tokenizer) if own_answers else [],
        test_rows=test_rows,
        retention_rows=retention_rows,
        replay_from=len(fitted.examples),
        counts={
            "train": len(train_rows),
            "trained_examples": len(fitted.examples),
            "replay": len(replayed),
            "test": len(test_rows),
            "held_out_examples": len(held_out.examples),
            "retention": len(retention.examples),
            **rendered.counts(),
            "dropped_overlong": fitted.dropped,
            "truncated": fitted.truncated,
            "truncated_tokens": fitted.truncated_tokens,
            "held_out_dropped_overlong": held_out.dropped,
        },
    )


def _said(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none not renderable"


def _fitted(rows: Sequence[dict[str, Any]], recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Fitted:
    return fit(render(rows, tokenizer).examples, recipe.max_length_tokens, recipe.overlong)
