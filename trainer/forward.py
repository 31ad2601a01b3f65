"""Rows through the model: packed into one sequence, the loss computed only where something is trained on.

Each row's `position_ids` start at 0 and there is no attention mask: that is how transformers knows where a packed row begins
and masks the others out. With a mask of ones it would not
(huggingface/transformers#46634), so every model is checked before it is trusted.
"""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from tunemill.trainer.model import inference
from tunemill.trainer.render import IGNORE, Example

_UNSEEN_CHANGE = 1e-4  # of the logits' size; what a row may differ when its neighbour changes, were it isolated
_ALONE_CHANGE = 2e-2  # of the logits' size; other shapes round otherwise, most of all in bf16


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows as one sequence."""

    input_ids: torch.Tensor  # (1, T)
    position_ids: torch.Tensor  # (1, T)
    positions: torch.Tensor  # (K,) where a trained token is predicted
    targets: torch.Tensor  # (K,) the trained tokens
    rows: torch.Tensor  # (K,) which of the rows each belongs to


def pack_rows(examples: Sequence[Example], device: torch.device) -> Packed:
    """Put rows one after another."""
    ids: list[int] = []
    places: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    rows: list[int] = []
    for row, example in enumerate(examples):
        start = len(ids)
        trained = [t for t in range(1, len(example.ids)) if example.labels[t] != IGNORE]
        positions += [start + t - 1 for t in trained]
        targets += [example.labels[t] for t in trained]
        rows += [row] * len(trained)
        places += range(len(example.ids))
        ids += example.ids
    return Packed(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([places], device=device),
        positions=torch.tensor(positions, dtype=torch.long, device=device),
        targets=torch.tensor(targets, dtype=torch.long, device=device),
        rows=torch.tensor(rows, dtype=torch.long, device=device),
    )


def token_losses(model: torch.nn.Module, packed: Packed, autocast: torch.dtype | None = None) -> torch.Tensor:
    """The negative log likelihood of every trained token, in nats: (K,).

    Args:
        autocast: compute in this format over weights of another (full training in bf16).
    """
    logits = logits_at(model, packed, packed.positions, autocast)
    return cross_entropy(logits.float(), packed.targets, reduction="none")


def logits_at(
    model: torch.nn.Module, packed: Packed, at: torch.Tensor, autocast: torch.dtype | None = None
) -> torch.Tensor:
    """The logits at these positions, (K, V); with most models nothing else is computed."""
    inputs = {"input_ids": packed.input_ids, "position_ids": packed.position_ids, "use_cache": False}
    with _autocast(packed.input_ids.device, autocast):
        if _keeps_positions(model):
            logits: torch.Tensor = model(**inputs, logits_to_keep=at).logits[0]
        else:
            logits = model(**inputs).logits[0, at]
    return logits


def isolates_rows(model: torch.nn.Module, autocast: torch.dtype | None = None) -> bool:
    """Whether packed rows do not see one another: a row's logits stay when its neighbour changes, and equal those it has alone."""
    device = next(model.parameters()).device
    first, other, second = _made_row(11, 3), _made_row(11, 7), _made_row(9, 5)

    def logits(*rows: Example) -> torch.Tensor:
        batch = pack_rows(rows, device)
        return logits_at(model, batch, batch.positions, autocast).float()

    with inference(model):  # a model may have dropout of its own, and then no two passes are equal
        beside_first = logits(first, second)[-8:]
        beside_other = logits(other, second)[-8:]
        alone = logits(second)
    size = alone.abs().max()
    unseen = (beside_first - beside_other).abs().max() <= _UNSEEN_CHANGE * size
    same_as_alone = (beside_first - alone).abs().max() <= _ALONE_CHANGE * size
    return bool(unseen and same_as_alone)


def _made_row(length: int, step: int) -> Example:
    ids = tuple(1 + (step * i) % 61 for i in range(length))
    return Example(0, ids, ids, ((0, length),))


def _keeps_positions(model: torch.nn.Module) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def _autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
