"""An adapter merged into its base model: whole weights that anything loads."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM


def merge(base: Path, adapter: Path, target: Path, tokenizer: Any) -> None:
    """Write the base model with the adapter merged in, and its tokenizer, in the number format that the base is stored in.

    The base is loaded anew and the sum is made in fp32: a 4-bit or a bf16 base would lose part of what was learnt.
    """
    stored = AutoConfig.from_pretrained(base, local_files_only=True).dtype or torch.float32
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **options)
    whole = PeftModel.from_pretrained(model, adapter, torch_device="cpu").merge_and_unload(safe_merge=True)
    whole.to(stored).save_pretrained(target)
    tokenizer.save_pretrained(target)
