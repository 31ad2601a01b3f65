"""How good the model is: the same held-out rows through the same code before and after training."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.forward import pack_rows, token_losses
from tunemill.trainer.model import inference
from tunemill.trainer.pack import pack
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.render import ChatTemplate, Example, encode_prompts
from tunemill.trainer.score import exact_match, json_fields, mean_loss, share

_SPARE_TOKENS = 8  # room to ramble past the longest expected answer
_PROMPT_TOKENS_PER_BATCH = 4096


class Question(msgspec.Struct, frozen=True):
    """One held-out row to be answered."""

    prompt: tuple[int, ...]
    expected: str
    expected_tokens: int


class Scores(msgspec.Struct, frozen=True):
    """One model's scores, row by row so that two models can be compared in pairs."""

    losses: tuple[float, ...]  # per held-out row: the sum over its trained tokens, in nats
    tokens: tuple[int, ...]
    retention_losses: tuple[float, ...]
    retention_tokens: tuple[int, ...]
    matches: tuple[bool, ...]  # per question
    stops: tuple[bool, ...]  # whether the answer ended by itself
    fields: tuple[float | None, ...]
    answers: tuple[str, ...]
    seconds: float

    def summary(self) -> dict[str, float | None]:
        """The scores as one number each."""
        fields = [value for value in self.fields if value is not None]
        return {
            "exact_match": share(self.matches),
            "loss": mean_loss(self.losses, self.tokens),
            "stop_rate": share(self.stops),
            "json_fields": sum(fields) / len(fields) if fields else None,
        }

    def retention(self) -> float | None:
        """Loss per token on the retention set, in nats."""
        return mean_loss(self.retention_losses, self.retention_tokens)


def questions(
    rows: Sequence[dict[str, Any]], examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> list[Question]:
    """The last answer of each of these rows as a question; examples are the rows' renderings, the last one per row counts."""
    last = {example.row: example for example in examples}
    prompts = encode_prompts([rows[row] for row in last], tokenizer)
    end_of_turn = ChatTemplate(tokenizer).end_of_turn
    asked = []
    for prompt, example in zip(prompts, last.values(), strict=True):
        a, b = example.spans[-1]
        expected = tokenizer.decode(example.ids[a:b], skip_special_tokens=False).removesuffix(end_of_turn)
        asked.append(Question(tuple(prompt), expected, b - a))
    return asked


def evaluate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[Example],
    *,
    asked: Sequence[Question],
    retention: Sequence[Example],
    recipe: Recipe,
    packed: bool,
    autocast: torch.dtype | None,
) -> Scores:
    """Score the model as it stands."""
    started = time.perf_counter()
    capacity = recipe.tokens_per_forward if packed else 1
    with inference(model):
        losses = _row_losses(model, held_out, capacity, autocast)
        kept = _row_losses(model, retention, capacity, autocast)
        answers = _answers(model, tokenizer, asked, recipe.max_new_tokens, autocast)
    texts = [text for text, _ in answers]
    pairs = list(zip(asked, texts, strict=True))
    return Scores(
        losses=tuple(losses),
        tokens=tuple(trained_tokens(example) for example in held_out),
        retention_losses=tuple(kept),
        retention_tokens=tuple(trained_tokens(example) for example in retention),
        matches=tuple(exact_match(question.expected, text) for question, text in pairs),
        stops=tuple(stopped for _, stopped in answers),
        fields=tuple(json_fields(question.expected, text) for question, text in pairs),
        answers=tuple(texts),
        seconds=time.perf_counter() - started,
    )


def _row_losses(
    model: torch.nn.Module, examples: Sequence[Example], capacity: int, autocast: torch.dtype | None
) -> list[float]:
    device = next(model.parameters()).device
    sums = [0.0] * len(examples)
    for rows in pack(range(len(examples)), [len(example.ids) for example in examples], capacity):
        batch = pack_rows([examples[row] for row in rows], device)
        if not len(batch.targets):
            continue
        losses = token_losses(model, batch, autocast)
        per_row = torch.zeros(len(rows), dtype=losses.dtype, device=device).index_add_(0, batch.rows, losses)
        for row, value in zip(rows, per_row.tolist(), strict=True):
            sums[row] = value
    return sums


def _answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Question],
    max_new_tokens: int,
    autocast: torch.dtype | None,
) -> list[tuple[str, bool]]:
    """Greedy answers and whether each ended by itself, in the order asked; prompts of like length share a batch."""
    if not asked:
        return []
    stops = stop_tokens(model, tokenizer)
    limit = min(max_new_tokens, max(question.expected_tokens for question in asked) + _SPARE_TOKENS)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    config = GenerationConfig(do_sample=False, max_new_tokens=limit, eos_token_id=stops, pad_token_id=pad)
    answers: list[tuple[str, bool]] = [("", False)] * len(asked)
    lengths = [len(question.prompt) + limit for question in asked]
    for rows in _batches(lengths):
        for row, ids in zip(rows, _generate(model, [asked[row].prompt for row in rows], config, autocast), strict=True):
            end = next((i for i, token in enumerate(ids) if token in stops), None)
            answers[row] = (tokenizer.decode(ids[:end], skip_special_tokens=False), end is not None)
    return answers


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the template's end of turn, and what the model calls the end of text."""
    end_of_turn = tokenizer.encode(ChatTemplate(tokenizer).end_of_turn, add_special_tokens=False)
    named = model.generation_config.eos_token_id
    also = named if isinstance(named, list) else [named]
    found = [end_of_turn[-1] if end_of_turn else None, tokenizer.eos_token_id, *also]
    return sorted({token for token in found if token is not None})


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Longest first, each batch within its budget of tokens, padding included."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= _PROMPT_TOKENS_PER_BATCH:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _generate(
    model: Any, prompts: Sequence[tuple[int, ...]], config: GenerationConfig, autocast: torch.dtype | None
) -> list[list[int]]:
    device = next(model.parameters()).device
    width = max(len(prompt) for prompt in prompts)
    padding = [width - len(prompt) for prompt in prompts]  # on the left: the answer follows the prompt at once
    ids = torch.tensor([[config.pad_token_id] * p + list(prompt) for p, prompt in zip(padding, prompts, strict=True)])
    mask = torch.tensor([[0] * p + [1] * (width - p) for p in padding])
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        out = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config)
    return [list(row) for row in out[:, width:].tolist()]
