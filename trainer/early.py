"""When to stop before the last step: the loss of rows set aside is looked at, and no longer falls."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.forward import pack_rows, token_losses
from tunemill.trainer.model import inference
from tunemill.trainer.pack import pack
from tunemill.trainer.recipe import EarlyStopping
from tunemill.trainer.render import Example


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
