"""How good the model is: the same held-out rows through the same code before and after training."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from tunemill.trainer.answers import Answer, answers
from tunemill.trainer.errors import Diverged
from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.forward import pack_rows, token_losses
from tunemill.trainer.model import inference
from tunemill.trainer.pack import pack
from tunemill.trainer.question import Question
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.render import Example
from tunemill.trainer.score import Answered, Scores, scores_of

_SPARE_TOKENS = 8  # room to ramble past the longest expected answer


def evaluate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[Example],
    *,
    asked: Sequence[Question],
    retention: Sequence[Example],
    asked_retention: Sequence[Question],
    recipe: Recipe,
    packed: bool,
    autocast: torch.dtype | None,
    kept: Path | None,
) -> Scores:
    """Score the model as it stands.

    Args:
        asked: questions of the held-out rows; `asked_retention`: of the retention rows.
        kept: where answers are kept as they come; None: nowhere.

    Raises:
        Diverged: a loss is no finite number.
    """
    capacity = recipe.tokens_per_forward if packed else 1
    with inference(model):
        losses = _row_losses(model, held_out, capacity, autocast)
        retention_losses = _row_losses(model, retention, capacity, autocast)
    if not all(map(math.isfinite, (*losses, *retention_losses))):
        raise Diverged(
            "a loss on held-out or general rows is no finite number",
            "lower learning_rate, or set precision to fp32; if it was so before training, take another base model",
        )
    answered = []
    for some in (asked, asked_retention):
        prompts = [question.prompt for question in some]
        limit = _answer_limit(some, recipe.max_new_tokens)
        given = answers(model, tokenizer, prompts, max_new_tokens=limit, autocast=autocast, kept=kept)
        answered.append(tuple(_scored(*pair, tokenizer) for pair in zip(some, given, strict=True)))
    return Scores(
        losses=tuple(losses),
        tokens=_row_tokens(held_out),
        retention_losses=tuple(retention_losses),
        retention_tokens=_row_tokens(retention),
        answers=answered[0],
        retention_answers=answered[1],
    )


def measured_rows(examples: Sequence[Example]) -> list[int]:
    """The rows that a loss is measured of, in its order: where a row has several examples, they are one."""
    return list(dict.fromkeys(example.row for example in examples))


def _answer_limit(asked: Sequence[Question], max_new_tokens: int) -> int:
    """How many tokens an answer to these questions may have: somewhat more than the longest expected one."""
    return min(max_new_tokens, max((question.expected_tokens for question in asked), default=0) + _SPARE_TOKENS)


def _row_losses(
    model: torch.nn.Module, examples: Sequence[Example], capacity: int, autocast: torch.dtype | None
) -> list[float]:
    """Of each row the sum over its trained tokens, in nats."""
    device = next(model.parameters()).device
    sums = dict.fromkeys(measured_rows(examples), 0.0)
    for places in pack(range(len(examples)), [len(example.ids) for example in examples], capacity):
        batch = pack_rows([examples[place] for place in places], device)
        if not len(batch.targets):
            continue
        losses = token_losses(model, batch, autocast)
        per_example = torch.zeros(len(places), dtype=losses.dtype, device=device).index_add_(0, batch.rows, losses)
        for place, value in zip(places, per_example.tolist(), strict=True):
            sums[examples[place].row] += value
    return list(sums.values())


def _row_tokens(examples: Sequence[Example]) -> tuple[int, ...]:
    tokens = dict.fromkeys(measured_rows(examples), 0)
    for example in examples:
        tokens[example.row] += trained_tokens(example)
    return tuple(tokens.values())


def _scored(question: Question, answer: Answer, tokenizer: PreTrainedTokenizerBase) -> Answered:
    text = answer.text(tokenizer).removeprefix(question.lead)
    scores = scores_of(question.expected, question.calls, text, stopped=answer.stopped, length_tokens=len(answer.ids))
    return Answered(text, scores)
