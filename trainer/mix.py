"""General rows mixed into the training rows, so that the model keeps what it could do before."""

import random
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tunemill.trainer.answers import answers
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.question import Question
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.render import IGNORE, Example


def replay_wanted(train_rows: int, recipe: Recipe) -> int:
    """How many general rows the recipe asks for beside so many rows of the dataset."""
    return round(train_rows * recipe.replay_share / (1.0 - recipe.replay_share))


def replay_rows(train_rows: int, recipe: Recipe, *, test_ids: AbstractSet[str]) -> list[dict[str, Any]]:
    """So many general rows that they are `replay_share` of all rows trained on, or all there are; drawn by the seed.

    Args:
        test_ids: of the rows that the run is measured by; another version may train on what this one holds out.
    """
    wanted = replay_wanted(train_rows, recipe)
    if not wanted:
        return []
    rows = [row for row in general_rows("replay", recipe.replay) if row.get("row_id") not in test_ids]
    draw = random.Random(recipe.seed)  # noqa: S311  # a sample, not a secret
    return draw.sample(rows, min(wanted, len(rows)))


def base_answers(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Question],
    recipe: Recipe,
    *,
    autocast: torch.dtype | None,
    kept: Path | None,
) -> tuple[list[Example], int]:
    """The replay rows with the untrained model's own answers in place of those given, token for token as it wrote them.

    An answer that is empty or does not end by itself is no example of anything: it is left out. Gives how many were, too.

    Args:
        kept: where answers are kept as they come; None: nowhere.
    """
    given = answers(
        model,
        tokenizer,
        [question.prompt for question in asked],
        max_new_tokens=recipe.max_new_tokens,
        autocast=autocast,
        kept=kept,
    )
    examples = []
    for row, (question, answer) in enumerate(zip(asked, given, strict=True)):
        if answer.stopped and answer.text(tokenizer).removeprefix(question.lead).strip():
            start, ids = len(question.prompt), question.prompt + answer.ids
            examples.append(Example(row, ids, (IGNORE,) * start + answer.ids, ((start, len(ids)),)))
    return examples, len(asked) - len(examples)
