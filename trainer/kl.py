"""How far the tuned model has moved from its base, where no task answer is: the sum of KL(base || tuned) over chosen positions.

Kept small, it keeps what the base could do: what it would say in prompts and in answers to general rows, which are not the task's.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import kl_div, log_softmax

from tunemill.trainer.estimate import KL_PER_ROW
from tunemill.trainer.forward import Packed, logits_at
from tunemill.trainer.render import IGNORE, Example


def positions(example: Example, *, is_task: bool) -> tuple[int, ...]:
    """Where in a row the base is compared with, evenly spread: what predicts no task answer."""
    free = [
        t for t in range(len(example.ids) - 1) if not is_task or example.labels[t + 1] == IGNORE
    ]  # the last token predicts nothing of this row
    if len(free) <= KL_PER_ROW:
        return tuple(free)
    return tuple(free[i * len(free) // KL_PER_ROW] for i in range(KL_PER_ROW))


def divergence(base_logits: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The sum over positions of KL(base || tuned), in nats: two tensors (K, V) in, a scalar out."""
    base, tuned = log_softmax(base_logits.float(), dim=-1), log_softmax(logits.float(), dim=-1)
    return kl_div(tuned, base, log_target=True, reduction="sum")


class Reference:
    """The base model: the trained one with its adapter off, or for full training a frozen copy, made before the first step."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._has_adapter = hasattr(model, "disable_adapter")
        self._copy = None if self._has_adapter else copy.deepcopy(model).requires_grad_(False).eval()

    def logits(self, batch: Packed, at: torch.Tensor, autocast: torch.dtype | None) -> torch.Tensor:
        """What the base says there: (K, V)."""
        with torch.no_grad():
            if self._copy is not None:
                return logits_at(self._copy, batch, at, autocast)
            with self._model.disable_adapter():
                return logits_at(self._model, batch, at, autocast)


def places(rows: Sequence[Example], chosen: Sequence[Sequence[int]]) -> list[int]:
    """The chosen positions of each row, in the sequence in which the rows lie one after another."""
    found: list[int] = []
    start = 0
    for row, at in zip(rows, chosen, strict=True):
        found += [start + t for t in at]
        start += len(row.ids)
    return found
