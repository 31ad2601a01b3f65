"""Whether vLLM could load an adapter folder, held to its documented rules: https://docs.vllm.ai/en/latest/features/lora/."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes
_DEFAULT_RANK = 16
_TENSOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_[AB]\.weight")


def obstacles(folder: Path) -> list[str]:
    """Why vLLM could not load the adapter; empty where it could."""
    config = _config(folder)
    rules = {
        "it is a DoRA adapter": config.get("use_dora"),
        "it has whole modules beside its matrices (modules_to_save)": config.get("modules_to_save"),
        "it has biases": config.get("bias") != "none",
        "it names no base model": not config.get("base_model_name_or_path"),
        f"its rank {config['r']} is above {_RANKS[-1]}": config["r"] > _RANKS[-1],
        "its ranks differ by layer (rank_pattern)": config.get("rank_pattern"),
    }
    found = [what for what, broken in rules.items() if broken]
    with safe_open(folder / "adapter_model.safetensors", framework="numpy") as tensors:
        layers = [_TENSOR.fullmatch(name) for name in tensors.keys()]  # noqa: SIM118  # it is no mapping
    if strange := layers.count(None):
        found.append(f"{strange} of its tensors are no matrices of linear layers")
    if any(layer["layer"].endswith("lm_head") for layer in layers if layer):
        found.append("it adapts the output layer (lm_head)")
    return found


def serving_notes(folder: Path) -> list[str]:
    """What a person should know before serving the adapter; empty when nothing."""
    rank = _config(folder)["r"]
    needed = next((limit for limit in _RANKS if rank <= limit), rank)
    if needed <= _DEFAULT_RANK:
        return []
    return [f"start vLLM with --max-lora-rank {needed}: its default is {_DEFAULT_RANK}"]


def _config(folder: Path) -> Mapping[str, Any]:
    config: Mapping[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return config
