"""How large a model is: counted from its configuration alone, on torch's meta device, where a weight has a size and no content."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from tunemill.trainer.errors import BaseNotFound, InvalidRecipe
from tunemill.trainer.recipe import Recipe

_NAMES_SHOWN = 8
_UNBOUNDED = 2**20  # models without positions, such as state-space models, name no longest row


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a model that its memory and time depend on; parameters are counted once, however often they are used."""

    parameters: int
    linear: int  # parameters in linear layers, without the output layer: what NF4 holds in 4 bits
    adapter: int  # parameters of the adapter at the recipe's rank
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    context_tokens: int  # the longest row that the model was made for


def shape_of(folder: Path, recipe: Recipe) -> Shape:
    """The shape of the model in a folder; reads its config.json and no weight.

    Raises:
        BaseNotFound: the configuration is none, or of a model that transformers does not know.
        InvalidRecipe: the recipe asks for an adapter of layers that the model does not have.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    model = _without_weights(folder)
    output = model.get_output_embeddings()
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D | torch.nn.Embedding)
    }
    _refuse_strange_targets(recipe, layers)
    linear = {
        name: layer
        for name, layer in layers.items()
        if layer is not output and not isinstance(layer, torch.nn.Embedding)
    }
    text = model.config.get_text_config()
    return Shape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        linear=sum(layer.weight.numel() for layer in linear.values()),
        adapter=sum(_adapter(layer, recipe) for name, layer in linear.items() if is_target(name, recipe)),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
        context_tokens=getattr(text, "max_position_embeddings", None) or _UNBOUNDED,
    )


def _without_weights(folder: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # a configuration may be wrong in any way
        raise BaseNotFound(
            f"no model can be made of {folder}/config.json: {type(error).__name__}",
            "set base to a causal language model that the installed transformers knows",
        ) from error


def _refuse_strange_targets(recipe: Recipe, layers: Collection[str]) -> None:
    """Each pattern or name must mean a layer: peft passes over one that does not, where another does."""
    given = recipe.target_modules
    asked = {given: given} if isinstance(given, str) else {name: (name,) for name in given}
    try:
        strange = [
            said
            for said, targets in asked.items()
            if not any(is_target(name, replace(recipe, target_modules=targets)) for name in layers)
        ]
    except re.error as error:
        raise InvalidRecipe(
            f"target_modules is no regular expression: {error}", "all-linear, or a list of names"
        ) from error
    if strange or not asked:
        known = sorted({name.rpartition(".")[2] for name in layers})
        raise InvalidRecipe(
            f"target_modules means no layer of the model: {', '.join(strange) or 'it is empty'}",
            f"all-linear, or a list of names such as {', '.join(known[:_NAMES_SHOWN])}",
        )


def is_target(name: str, recipe: Recipe) -> bool:
    """Whether peft gives the linear layer of this name an adapter: all of them, a pattern for whole names, or ends of names."""
    targets = recipe.target_modules
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _adapter(layer: Any, recipe: Recipe) -> int:
    outputs = getattr(layer, "out_features", None) or layer.nf  # GPT-2's layers, which are linear too, say it otherwise
    inputs = layer.weight.numel() // outputs
    sizes = outputs if recipe.dora else 0  # DoRA learns each output's size, too
    return int(recipe.r * (inputs + outputs) + sizes)
