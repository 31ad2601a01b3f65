"""When to stop before the last step: the loss of rows set aside is looked at, and no longer falls."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.forward import pack_rows, token_losses
from tunemill.trainer.model import inference
from tunemill.trainer.pack import pack
from tunemill.trainer.recipe import EarlyStopping
from tunemill.trainer.render import Example

_SHARE = 20  # one row in so many is set aside
_MOST_ROWS = 128


@dataclass(frozen=True, slots=True)
class Looks:
    """What the looks so far have shown; plain numbers, for they are part of a checkpoint."""

    best_step: int = 0  # 0 before the first look
    best_loss: float = float("inf")
    without_fall: int = 0

    def after(self, step: int, loss: float, rule: EarlyStopping) -> "Looks":
        """With one more look."""
        if loss < self.best_loss - rule.min_fall_nats:
            return Looks(step, loss, 0)
        return Looks(self.best_step, self.best_loss, self.without_fall + 1)

    def as_totals(self) -> dict[str, float]:
        """For a checkpoint."""
        return asdict(self)


def looks_of(totals: Mapping[str, float]) -> Looks:
    """The looks that a checkpoint holds."""
    if "best_step" not in totals:
        return Looks()
    return Looks(int(totals["best_step"]), totals["best_loss"], int(totals["without_fall"]))


def set_aside(row_ids: Sequence[str]) -> list[int]:
    """Which rows are looked at and never trained on: those whose id's digest falls into the first twentieth, at most 128.

    A function of the id alone, so that a row that is added moves no other.
    """
    bound = 2**64 // _SHARE
    found = [i for i, row_id in enumerate(row_ids) if _number(row_id) < bound]
    return sorted(sorted(found, key=lambda i: _number(row_ids[i]))[:_MOST_ROWS])


def validation_loss(
    model: torch.nn.Module, examples: Sequence[Example], capacity: int, autocast: torch.dtype | None
) -> float:
    """Nats per trained token of these rows, as the model stands."""
    device = next(model.parameters()).device
    total = 0.0
    with inference(model):
        for rows in pack(range(len(examples)), [len(example.ids) for example in examples], capacity):
            total += float(token_losses(model, pack_rows([examples[row] for row in rows], device), autocast).sum())
    return total / max(1, sum(trained_tokens(example) for example in examples))


def _number(row_id: str) -> int:
    return int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:8])
