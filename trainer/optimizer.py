"""How weights move: Adam with decoupled weight decay, and LoRA+'s faster B matrices (https://arxiv.org/abs/2402.12354)."""

import torch

from tunemill.trainer.model import trainable
from tunemill.trainer.recipe import Recipe


def optimizer_for(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of what is trained; each group keeps the rate that a schedule scales as `initial_lr`."""
    if recipe.lora_plus is None or recipe.method == "full":
        parameters = list(trainable(model).values())
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
    else:
        optimizer = _lora_plus(model, recipe, recipe.lora_plus)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def _lora_plus(model: torch.nn.Module, recipe: Recipe, ratio: float) -> torch.optim.Optimizer:
    from peft.optimizers import create_loraplus_optimizer

    optimizer: torch.optim.Optimizer = create_loraplus_optimizer(
        model=model,
        optimizer_cls=torch.optim.AdamW,
        lr=recipe.learning_rate,
        loraplus_lr_ratio=ratio,
        loraplus_weight_decay=recipe.weight_decay,
        fused=True,
    )
    optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]
    return optimizer
