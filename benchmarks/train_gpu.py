"""Training speed on one GPU: tokens per second, model FLOP utilisation and memory, beside TRL's SFTTrainer as it comes.

The model has the shape of a Llama of one billion parameters and random weights, the rows are random ids: nothing is downloaded and
nothing is learnt. `--shape tiny` runs the same on a CPU, to see that the script works. The first steps warm up and do not count.
TRL is left out where it is not installed; kernels (`--attention`, `--liger`) are those of the environment.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from benchmarks.harness import Figure, ratio, report
from tunemill.trainer.model import load_model
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import IGNORE, Example
from tunemill.trainer.train import train

H100_FLOPS = 989e12  # dense bf16, as the maker states it
FLOPS_PER_TOKEN = {"full": 6, "lora": 4}  # times parameters; an adapter's base needs no gradient of its weights
WARM_UP_STEPS = 3
SHAPES: dict[str, dict[str, int]] = {
    "1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
    },
}


def made_base(folder: Path, shape: str) -> Path:
    """A random model of that shape, as a folder of bf16 weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def made_rows(count: int, vocabulary: int) -> list[Example]:
    """Rows of 64 to 1,024 random ids, the last half of each an answer."""
    draw = random.Random(0)
    rows = []
    for row in range(count):
        length = draw.randint(64, 1024)
        ids = tuple(draw.randrange(1, vocabulary) for _ in range(length))
        rows.append(Example(row, ids, (IGNORE,) * (length // 2) + ids[length // 2 :], ((length // 2, length),)))
    return rows


def ours(recipe: Recipe, rows: list[Example], arguments: argparse.Namespace) -> list[float]:
    """Tokens per second of each step that counts."""
    if arguments.liger:
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        apply_liger_kernel_to_llama(
            fused_linear_cross_entropy=False
        )  # ours computes logits where they are asked for only
    model: Any = load_model(recipe, Path(recipe.base))
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.set_attn_implementation(arguments.attention)
    if arguments.compile:
        for layer in inner.model.layers:
            layer.compile(dynamic=True)
    found: list[float] = []
    fast = Path("/dev/shm")  # the checkpoint after the last step is no part of what is measured
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as checkpoints:
        train(
            model,
            rows,
            recipe,
            Path(checkpoints),
            packed=True,
            autocast=torch.bfloat16 if recipe.method == "full" else None,
            on_step=lambda metrics: found.append(metrics.tokens_per_s),
            should_stop=lambda: False,
        )
    return found[WARM_UP_STEPS:]


def trls(recipe: Recipe, rows: list[Example]) -> list[float]:
    """The same from TRL with its defaults; only the rows per optimizer step are ours."""
    import datasets
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    lengths = [len(row.ids) for row in rows]
    batch = SFTConfig.per_device_train_batch_size
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder,
            gradient_accumulation_steps=max(1, recipe.rows_per_step // batch),
            max_steps=recipe.max_steps or -1,
            train_sampling_strategy="sequential",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        data = datasets.Dataset.from_dict(
            {"input_ids": [list(r.ids) for r in rows], "labels": [list(r.labels) for r in rows]}
        )
        trainer = SFTTrainer(
            model=load_model(recipe, Path(recipe.base)),
            args=args,
            train_dataset=data,
            processing_class=_tokenizer(PreTrainedTokenizerFast),
            callbacks=[Clock()],
        )
        trainer.train()
    size = batch * args.gradient_accumulation_steps
    tokens = [sum(lengths[i : i + size]) for i in range(0, len(lengths), size)]
    speeds = [tokens[step] / (ends[step] - ends[step - 1]) for step in range(1, len(ends))]
    return speeds[WARM_UP_STEPS - 1 :]


def _tokenizer(kind: Any) -> Any:
    """TRL wants one, to pad with."""
    from tokenizers import Tokenizer, models

    return kind(tokenizer_object=Tokenizer(models.WordLevel({"0": 0}, unk_token="0")), pad_token="0", eos_token="0")


def main() -> None:
    """Measure ours, then TRL, and report."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        base = made_base(Path(folder), arguments.shape)
        recipe = resolve(
            {
                "method": arguments.method,
                "base": str(base),
                "precision": "bf16",
                "rows_per_step": arguments.rows_per_step,
                "tokens_per_forward": arguments.tokens_per_forward,
                "max_steps": arguments.steps,
                "checkpoint_steps": 10**6,
            }
        )
        rows = made_rows(arguments.rows_per_step * arguments.steps, SHAPES[arguments.shape]["vocab_size"])
        figures, memory = {}, {}
        for name in ("ours", *(() if arguments.no_trl else ("trl",))):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            speeds = ours(recipe, rows, arguments) if name == "ours" else trls(recipe, rows)
            figures[name] = Figure("tokens/s", tuple(speeds))
            memory[name] = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        parameters = sum(p.numel() for p in load_model(recipe, base).parameters() if p.ndim)
    flops = FLOPS_PER_TOKEN[arguments.method] * parameters
    mfu = {name: round(flops * statistics.median(of.values) / H100_FLOPS, 4) for name, of in figures.items()}
    ratios = {"ours / trl": ratio(figures["ours"], figures["trl"])} if "trl" in figures else {}
    settings = {**vars(arguments), "parameters": parameters, "device": _device()}
    also = {"mfu_of_an_h100": mfu, "peak_bytes": memory}
    report("train_gpu", figures, ratios, settings, as_json=arguments.json, also=also)


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=list(SHAPES), default="1b")
    parser.add_argument("--method", choices=list(FLOPS_PER_TOKEN), default="lora")
    parser.add_argument("--attention", choices=["sdpa", "flash_attention_2", "flex_attention"], default="sdpa")
    parser.add_argument("--compile", action="store_true", help="compile each layer")
    parser.add_argument("--liger", action="store_true", help="Liger's kernels for norm, rotary embedding and SwiGLU")
    parser.add_argument("--rows-per-step", type=int, default=32)
    parser.add_argument("--tokens-per-forward", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=12, help="the first three warm up")
    parser.add_argument("--no-trl", action="store_true", help="ours alone")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    main()
