"""A model's own greedy answers, a batch at a time; each batch is kept as it comes, so that a killed attempt need not repeat it."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tunemill.trainer.model import inference
from tunemill.trainer.template import ChatTemplate

_TOKENS_PER_BATCH = 4096  # prompts, padding and answers: what the cache of keys and values may hold

Prompt = tuple[int, ...]


class Answer(msgspec.Struct, frozen=True):
    """One answer."""

    ids: tuple[int, ...]  # the token that ended it included
    stopped: bool  # whether it ended by itself

    def text(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """What was said, without what ended it."""
        said = self.ids[:-1] if self.stopped else self.ids
        return str(tokenizer.decode(list(said), skip_special_tokens=False))


class _Line(msgspec.Struct, frozen=True):
    """An answer in the file."""

    prompt: str
    answer: Answer


def answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    autocast: torch.dtype | None,
    kept: Path | None,
) -> list[Answer]:
    """Greedy answers in the order of the prompts.

    Batches depend on the prompts alone, so that an attempt which goes on computes what the killed one would have computed.

    Args:
        kept: a file of answers that were given before, and to which new ones are added; None: nothing is kept.
    """
    if not prompts:
        return []
    config = _config(model, tokenizer, max_new_tokens)
    keys = [_key(prompt, max_new_tokens) for prompt in prompts]
    done = {line.prompt: line.answer for line in _whole_lines(kept)} if kept else {}
    with inference(model):
        for batch in _batches([len(prompt) + max_new_tokens for prompt in prompts]):
            if all(keys[row] in done for row in batch):
                continue
            new = [
                _Line(keys[row], answer)
                for row, answer in zip(
                    batch, _generate(model, [prompts[row] for row in batch], config, autocast), strict=True
                )
                if keys[row] not in done
            ]
            done.update((line.prompt, line.answer) for line in new)
            if kept:
                with kept.open("ab") as file:
                    file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in new))
    return [done[key] for key in keys]


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the template's end of turn, and what the model calls the end of text."""
    end_of_turn = tokenizer.encode(ChatTemplate(tokenizer).end_of_turn, add_special_tokens=False)
    named = model.generation_config.eos_token_id
    also = named if isinstance(named, list) else [named]
    found = [end_of_turn[-1] if end_of_turn else None, tokenizer.eos_token_id, *also]
    return sorted({token for token in found if token is not None})


def _config(model: Any, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> GenerationConfig:
    stops = stop_tokens(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    return GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stops, pad_token_id=pad)


def _key(prompt: Prompt, max_new_tokens: int) -> str:
    return hashlib.sha256(f"{max_new_tokens}:{prompt}".encode()).hexdigest()


def _whole_lines(path: Path) -> Iterator[_Line]:
    """The answers in a file; a line that a killed writer left unfinished is taken out of it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole, newline, rest = content.rpartition(b"\n")
    if rest:
        with path.open("r+b") as file:
            file.truncate(len(whole) + len(newline))
    for line in whole.split(b"\n"):
        if line:
            yield msgspec.json.decode(line, type=_Line)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Longest first, each batch within its budget of tokens, padding included."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= _TOKENS_PER_BATCH:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _generate(
    model: Any, prompts: Sequence[Prompt], config: GenerationConfig, autocast: torch.dtype | None
) -> list[Answer]:
    device = next(model.parameters()).device
    width = max(len(prompt) for prompt in prompts)
    padding = [width - len(prompt) for prompt in prompts]  # on the left: the answer follows the prompt at once
    ids = torch.tensor([[config.pad_token_id] * p + list(prompt) for p, prompt in zip(padding, prompts, strict=True)])
    mask = torch.tensor([[0] * p + [1] * (width - p) for p in padding])
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        out = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config)
    return [_until(row, config.eos_token_id) for row in out[:, width:].tolist()]


def _until(ids: Sequence[int], stops: Sequence[int]) -> Answer:
    end = next((place + 1 for place, token in enumerate(ids) if token in stops), None)
    return Answer(tuple(ids[:end]), end is not None)
