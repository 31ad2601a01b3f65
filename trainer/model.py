"""The model that a recipe asks for: loaded from safetensors, whole, with a LoRA adapter, or with one over 4-bit weights (QLoRA).

bitsandbytes' NF4 is the 4-bit format (https://arxiv.org/abs/2305.14314); it runs on CPUs, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase

from tunemill.trainer.errors import BaseNotFound
from tunemill.trainer.named_files import named
from tunemill.trainer.recipe import Recipe

_HUB_FILES = ("*.json", "*.jinja")  # no code
_HUB_WEIGHTS = ("*.safetensors",)


def base_folder(base: str, revision: str | None, *, weights: bool = True) -> Path:
    """The folder of the base model; a hub model is downloaded at its pinned commit, safetensors only.

    Args:
        weights: False: a hub model's configuration and tokenizer are enough.

    Raises:
        BaseNotFound: the hub does not answer or does not have it.
    """
    folder = named(base)
    if folder is not None and folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    wanted = [*_HUB_FILES, *(_HUB_WEIGHTS if weights else ())]
    try:
        return Path(snapshot_download(base, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub's client raises its own, httpx's and OSError; each means: not here
        remedy = "check the id, the revision and the network, or set base to a local folder"
        raise BaseNotFound(f"{base} at {revision} cannot be fetched: {type(error).__name__}", remedy) from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer as it lies there; `template.settle_template` gives it a chat template where it has none.

    Raises:
        BaseNotFound: its files are none of a tokenizer's.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # files may be wrong in any way
        raise _damaged("the tokenizer", folder, error) from error


def device() -> torch.device:
    """Where the run computes: the first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(precision: str) -> torch.dtype:
    """The number format to compute in; `auto` is bf16 where the machine computes it natively, else fp32.

    Measured on two cores with avx512_bf16: bf16 trains a 135M model 1.7 times as fast, and answers twice as fast.
    """
    if precision == "auto":
        return torch.bfloat16 if device().type == "cuda" or _cpu_computes_bf16() else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _cpu_computes_bf16() -> bool:
    capabilities: dict[str, bool] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # older releases of torch do not tell
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def load_model(recipe: Recipe, folder: Path) -> torch.nn.Module:
    """The model to train, in training mode; only what the method trains requires a gradient.

    Full training keeps fp32 weights (small updates vanish in bf16); LoRA's base is held in the compute format, its adapter in fp32.

    Raises:
        BaseNotFound: a file of weights is damaged.
    """
    torch.manual_seed(recipe.seed)  # the adapter's start
    weights_dtype = torch.float32 if recipe.method == "full" else compute_dtype(recipe.precision)
    options: dict[str, Any] = {"dtype": weights_dtype, "use_safetensors": True, "local_files_only": True}
    if recipe.method == "qlora":
        options |= {"quantization_config": _nf4(weights_dtype), "device_map": {"": str(device())}}
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, **options)
    except SafetensorError as error:
        raise _damaged("the weights", folder, error) from error
    if recipe.gradient_checkpointing:  # while training: in eval mode nothing is kept anyway
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if recipe.method != "full":
        model = _with_adapter(model, recipe)
    if recipe.method != "qlora":
        model = model.to(device())
    model.train()
    return model


def _damaged(what: str, folder: Path, error: Exception) -> BaseNotFound:
    remedy = "download it again, or set base to a whole model folder"
    return BaseNotFound(f"{what} in {folder} cannot be loaded: {type(error).__name__}", remedy)


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off and no gradients, for the length of the block."""
    model.eval()
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            # In eval mode bitsandbytes repacks the weights on some CPUs and computes otherwise than in training.
            module.training = True
    with torch.no_grad():
        yield
    model.train()


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _with_adapter(model: Any, recipe: Recipe) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if recipe.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    targets = recipe.target_modules if isinstance(recipe.target_modules, str) else list(recipe.target_modules)
    config = LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets,
        bias="none",
        use_rslora=recipe.rslora,
        use_dora=recipe.dora,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)
