"""Several devices for one run: one process each, started by torchrun; rank 0 speaks and writes.

Full training and LoRA are sharded by FSDP2 (https://arxiv.org/abs/2304.11277); QLoRA's 4-bit weights are not made for that, so each
rank holds them whole, and only the adapter's gradients are added up. A run by itself is the world of one rank.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor

from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.pack import Bin, Step
from tunemill.trainer.recipe import Recipe

_PATIENCE = timedelta(hours=12)  # with a rank that has nothing to say yet: it may write a checkpoint of terabytes

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of the run."""

    rank: int = 0
    world: int = 1
    # What is said goes here; what is computed, by torch's own, less patient group.
    words: dist.ProcessGroup | None = None

    def share(self, bins: Step) -> list[tuple[Bin, bool]]:
        """This rank's bins of a step, and whether each counts.

        All ranks go through the model equally often: one that is short of a bin repeats the step's last, and it does not count.
        """
        rounds = range(self.rank, -(-len(bins) // self.world) * self.world, self.world)
        return [(bins[min(i, len(bins) - 1)], i < len(bins)) for i in rounds]

    def total(self, *values: float) -> list[float]:
        """Each value, summed over the ranks."""
        if self.world == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        return [float(value) for value in summed]

    def first_says(self, said: Said) -> Said:
        """What rank 0 says, on every rank; the others' values do not count."""
        if self.world == 1:
            return said
        box: list[Any] = [said]
        dist.broadcast_object_list(box, src=0, group=self.words)
        answer: Said = box[0]
        return answer

    def each_says(self, said: Said) -> list[Said]:
        """What every rank says, in their order."""
        if self.world == 1:
            return [said]
        box: list[Any] = [None] * self.world
        dist.all_gather_object(box, said, group=self.words)
        return box

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor whole and outside the GPU, on rank 0; the others take part and hold nothing."""
        value = whole(tensor.detach())
        return value.cpu() if self.rank == 0 else torch.empty(0)

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients of parameters that every rank holds whole; FSDP has seen to the sharded ones."""
        if self.world == 1:
            return
        for parameter in parameters:
            if not isinstance(parameter, DTensor) and parameter.grad is not None:
                dist.all_reduce(parameter.grad)


ALONE = Ranks()


def join(devices: int) -> Ranks:
    """This process's place, as torchrun has put it into the environment; a run on one device has no such thing."""
    if devices == 1:
        return ALONE
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=_PATIENCE))


def leave(ranks: Ranks) -> None:
    """Take leave of the other ranks."""
    if ranks.world > 1:
        dist.destroy_process_group()


def spread(model: Any, recipe: Recipe, ranks: Ranks) -> None:
    """Shard the model over the ranks, layer by layer, where its weights can be sharded.

    Raises:
        InvalidRun: the recipe asks for a second whole model, which is not sharded.
    """
    if ranks.world == 1 or recipe.method == "qlora":
        return
    if recipe.method == "full" and recipe.kl_to_base:
        raise InvalidRun(
            "kl_to_base with full training runs on one device only", "use lora, one device, or kl_to_base: 0"
        )
    from torch.distributed.fsdp import fully_shard

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = set(inner._no_split_modules or ())  # some models name none: then the whole is one shard
    for module in list(inner.modules()):
        if type(module).__name__ in layers:
            fully_shard(module)
    fully_shard(inner, reshard_after_forward=True)  # else weights that were only looked at stay, and are not updated


def gradient_scale(model: torch.nn.Module, ranks: Ranks) -> int:
    """What a loss is multiplied by before backward: FSDP gives the mean over the ranks, and the loss is a sum."""
    return ranks.world if any(isinstance(parameter, DTensor) for parameter in model.parameters()) else 1


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor's whole value, on every rank; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor, spread as the parameter is."""
    if not isinstance(parameter, DTensor):
        return tensor
    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
