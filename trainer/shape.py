"""How large a model is: counted from its configuration alone, on torch's meta device, where a weight has a size and no content."""

import re
from pathlib import Path
from typing import Any

import msgspec

from tunemill.trainer.recipe import Recipe

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
    """The shape of the model in a folder; reads its config.json and no weight."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    output = model.get_output_embeddings()
    linear = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not output
    }
    text = config.get_text_config()
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


def is_target(name: str, recipe: Recipe) -> bool:
    """Whether peft gives the linear layer of this name an adapter: all of them, a pattern for whole names, or ends of names."""
    targets = recipe.target_modules
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _adapter(layer: Any, recipe: Recipe) -> int:
    sizes = layer.out_features if recipe.dora else 0  # DoRA learns each output's size, too
    return int(recipe.r * (layer.in_features + layer.out_features) + sizes)
