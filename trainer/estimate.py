"""How much memory a run will take at its peak, before anything of it is loaded. An estimate: allocators and kernels vary."""

from dataclasses import dataclass

from tunemill.trainer.machine import Machine
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.shape import Shape

KL_POSITIONS = 256  # of a forward pass, at most, where the distance from the base model is measured
_FP32, _BF16 = 4, 2
_NF4 = 0.516  # bytes a weight: 4 bits, and the doubly quantised scale of each block of 64
_HIDDEN_KEPT, _INTERMEDIATE_KEPT = 16, 3  # activations of a layer that are kept for the backward pass, in its widths
_RUNTIME_BYTES = {"cpu": 630 * 10**6, "cuda": 900 * 10**6}  # interpreter and libraries; a CUDA context


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes at the peak of one process, by what they are for."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int
    runtime_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return (
            self.weights_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.logits_bytes
            + self.runtime_bytes
        )


def estimate(
    recipe: Recipe, shape: Shape, machine: Machine, *, longest_tokens: int = 0, trained_share: float = 1.0
) -> Estimate:
    """The memory that the recipe's training takes.

    Args:
        longest_tokens: the longest row's; it goes through the model in one piece, whatever `tokens_per_forward` says.
        trained_share: of a forward pass's tokens, those whose logits are computed because they are trained on.
    """
    tokens = max(recipe.tokens_per_forward, longest_tokens) if recipe.packing else longest_tokens
    width = compute_bytes(recipe, machine)
    trained = shape.parameters if recipe.method == "full" else shape.adapter
    shards = 1 if recipe.method == "qlora" else machine.devices  # 4-bit weights are not cut into shards
    positions = tokens * min(1.0, trained_share) + 2 * KL_POSITIONS * bool(recipe.kl_to_base)
    return Estimate(
        weights_bytes=int(_weights(recipe, shape, width) / shards),
        gradients_bytes=_FP32 * trained // shards,
        optimizer_bytes=2 * _FP32 * trained // shards,  # Adam's two means
        activations_bytes=tokens * _activations_per_token(recipe, shape) * width,
        logits_bytes=int(positions * shape.vocabulary * 2 * _FP32),  # and their gradient
        runtime_bytes=_RUNTIME_BYTES[machine.device],
    )


def compute_bytes(recipe: Recipe, machine: Machine) -> int:
    """Bytes of a number in the format that the run computes in."""
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and machine.native_bf16)
    return _BF16 if bf16 else _FP32


def _weights(recipe: Recipe, shape: Shape, width: int) -> float:
    if recipe.method == "qlora":  # what is not in 4 bits is held in fp32
        return _NF4 * shape.linear + _FP32 * (shape.parameters - shape.linear) + _FP32 * shape.adapter
    if recipe.method == "lora":
        return width * shape.parameters + _FP32 * shape.adapter
    in_bf16 = _BF16 * shape.parameters if width == _BF16 else 0  # a forward pass's copy of the fp32 weights
    frozen = _FP32 * shape.parameters if recipe.kl_to_base else 0
    return _FP32 * shape.parameters + in_bf16 + frozen


def _activations_per_token(recipe: Recipe, shape: Shape) -> int:
    """Numbers that are kept for the backward pass."""
    layer = _HIDDEN_KEPT * shape.hidden + _INTERMEDIATE_KEPT * shape.intermediate
    return shape.layers * shape.hidden + layer if recipe.gradient_checkpointing else shape.layers * layer
