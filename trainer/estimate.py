"""How much memory a run will take at its peak, before anything of it is loaded. An estimate: allocators and kernels vary."""

from dataclasses import dataclass

from tunemill.trainer.machine import Machine
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.shape import Shape

KL_PER_ROW = 32  # positions of a row, at most, where the distance from the base is measured; by the row, so that packing leaves it
_FP32, _BF16 = 4, 2
_NF4 = 0.516  # bytes a weight: 4 bits, and the doubly quantised scale of each block of 64
_KEPT = {_FP32: (40, 16), _BF16: (38, 10)}  # bytes for the backward pass, for each hidden and inner number of a layer
_LOGITS = 3 * _FP32  # of a predicted token: the logarithms, and gradients on their way through them
_MERGING = 6  # bytes of a weight: in fp32, and as it is stored in bf16; about as much was measured
_RUNTIME_BYTES = 900 * 10**6  # interpreter and libraries; a CUDA context is as large
_HEAP = {
    "full": 1.3,
    "lora": 1.9,
    "qlora": 1.9,
}  # what glibc's heap holds for each byte in use: adapters' many small tensors tear it
_GPU_HEAP = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes at the peak of one process, by what they are for."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int
    merging_bytes: int  # more than those of the training but the weights, which are in memory still when it is over
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
            + self.merging_bytes
            + self.runtime_bytes
        )


def estimate(
    recipe: Recipe, shape: Shape, machine: Machine, *, longest_tokens: int = 0, logits_per_token: float = 1.0
) -> Estimate:
    """The memory that the recipe's training takes.

    Args:
        longest_tokens: the longest row's; it goes through the model in one piece, whatever `tokens_per_forward` says.
        logits_per_token: for how many of a forward pass's tokens logits are computed, on average.
    """
    tokens = max(recipe.tokens_per_forward, longest_tokens) if recipe.packing else longest_tokens
    width = compute_bytes(recipe, machine)
    trained = shape.parameters if recipe.method == "full" else shape.adapter
    shards = 1 if recipe.method == "qlora" else machine.devices  # 4-bit weights are not cut into shards
    heap = _HEAP[recipe.method] if machine.device == "cpu" else _GPU_HEAP
    gradients = _FP32 * trained // shards
    activations = int(heap * _activations(recipe, shape, tokens, width))
    logits = int(heap * tokens * logits_per_token * shape.vocabulary * _LOGITS)
    others = 3 * gradients + activations + logits
    weights = _weights(recipe, shape, width)
    return Estimate(
        # each process loads the whole model before it is cut into shards, and then there is nothing else yet
        weights_bytes=int(max(weights / shards, weights - others if shards > 1 else 0)),
        gradients_bytes=gradients,
        optimizer_bytes=2 * gradients,  # Adam's two means
        activations_bytes=activations,
        logits_bytes=logits,
        merging_bytes=max(0, _merging(recipe, shape, machine) - others),
        runtime_bytes=_RUNTIME_BYTES,
    )


def compute_bytes(recipe: Recipe, machine: Machine) -> int:
    """Bytes of a number in the format that the run computes in."""
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and machine.native_bf16)
    return _BF16 if bf16 else _FP32


def _merging(recipe: Recipe, shape: Shape, machine: Machine) -> int:
    """What merging holds: a second base model, in the memory of the CPU, whatever trains."""
    merges = recipe.method != "full" and (recipe.merge or recipe.dora)
    return _MERGING * shape.parameters if merges and machine.device == "cpu" else 0


def _weights(recipe: Recipe, shape: Shape, width: int) -> float:
    if recipe.method == "qlora":  # what is not in 4 bits is held in fp32
        return _NF4 * shape.linear + _FP32 * (shape.parameters - shape.linear) + _FP32 * shape.adapter
    if recipe.method == "lora":
        return width * shape.parameters + _FP32 * shape.adapter
    in_bf16 = _BF16 * shape.parameters if width == _BF16 else 0  # a forward pass's copy of the fp32 weights
    frozen = _FP32 * shape.parameters if recipe.kl_to_base else 0
    return _FP32 * shape.parameters + in_bf16 + frozen


def _activations(recipe: Recipe, shape: Shape, tokens: int, width: int) -> int:
    """What is kept for the backward pass: of each layer, or of each layer its input and of two, being computed again, all."""
    if recipe.method == "qlora":
        width = _FP32  # what is not in 4 bits is in fp32, and so is what flows through it
    for_hidden, for_intermediate = _KEPT[width]
    mask = tokens * width  # of packed rows, for each token
    layer = for_hidden * shape.hidden + for_intermediate * shape.intermediate + mask
    if recipe.gradient_checkpointing:
        return tokens * (shape.layers * shape.hidden * width + 2 * layer)
    return tokens * shape.layers * layer
