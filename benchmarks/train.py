"""Tokens per second of our training loop against TRL's SFTTrainer, on the same rows, model and optimizer batches.

Both train from the same weights in the same format. Their losses are printed too: without equal losses, speed is worth nothing.
"""

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from benchmarks.harness import ratio, report, take_turns
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.model import compute_dtype, load_model, load_tokenizer
from tunemill.trainer.pack import epoch_steps
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import Example, render
from tunemill.trainer.train import train

ROWS_PER_STEP = 16


def ours(base: Path, recipe: Recipe, examples: list[Example]) -> tuple[list[float], float]:
    """Losses per step, and seconds of the loop alone."""
    losses: list[float] = []
    model = load_model(recipe, base)
    with tempfile.TemporaryDirectory() as checkpoints:
        done = train(
            model,
            examples,
            recipe,
            Path(checkpoints),
            packed=True,
            autocast=None,
            on_step=lambda metrics: losses.append(metrics.loss),
            should_stop=lambda: False,
        )
    return losses, done.seconds


def trls(base: Path, recipe: Recipe, ordered: list[Example]) -> tuple[list[float], float]:
    """The same from TRL, given the rows in the order in which our loop takes them."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    rows = {"input_ids": [list(e.ids) for e in ordered], "labels": [list(e.labels) for e in ordered]}
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=ROWS_PER_STEP,
            max_steps=recipe.max_steps or -1,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="linear",
            logging_steps=1,
            weight_decay=0.0,
            max_grad_norm=recipe.max_grad_norm,
            train_sampling_strategy="sequential",
            max_length=None,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=load_model(recipe, base),
            args=args,
            train_dataset=datasets.Dataset.from_dict(rows),
            processing_class=load_tokenizer(base),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], seconds


def in_our_order(examples: list[Example], recipe: Recipe) -> list[Example]:
    """The first epoch's rows, step after step."""
    lengths = [len(example.ids) for example in examples]
    steps = epoch_steps(
        lengths, rows_per_step=ROWS_PER_STEP, tokens_per_forward=recipe.tokens_per_forward, seed=recipe.seed, epoch=0
    )
    return [examples[row] for step in steps for rows in step for row in rows]


def main() -> None:
    """Take turns, compare, report."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        base = arguments.base or _tiny_base(Path(folder))
        knobs = {"rows_per_step": ROWS_PER_STEP, "max_steps": arguments.steps, "warmup_share": 0.0}
        recipe = resolve(
            {
                "method": arguments.method,
                "base": str(base),
                "checkpoint_steps": 10**6,
                "precision": arguments.precision,
                **knobs,
            }
        )
        rows = (general_rows("replay", "packaged") + general_rows("retention", "packaged"))[
            : ROWS_PER_STEP * arguments.steps
        ]
        examples = render(rows, load_tokenizer(base)).examples
        tokens = sum(len(example.ids) for example in examples)
        ordered = in_our_order(examples, recipe)
        losses: dict[str, list[float]] = {}

        def measure(name: str) -> float:
            side = ours(base, recipe, examples) if name == "ours" else trls(base, recipe, ordered)
            losses[name], seconds = side
            return tokens / seconds

        figures = take_turns(
            {name: (lambda name=name: measure(name)) for name in ("ours", "trl")},  # type: ignore[misc]
            unit="tokens/s",
            rounds=arguments.rounds,
        )
    for step, (mine, theirs) in enumerate(zip(losses["ours"], losses["trl"], strict=True), start=1):
        print(f"step {step}: loss {mine:.4f} ours, {theirs:.4f} TRL")
    apart = max(abs(a - b) for a, b in zip(losses["ours"], losses["trl"], strict=True))
    settings = _settings(arguments, recipe, tokens, apart)
    report("train", figures, {"ours / trl": ratio(figures["ours"], figures["trl"])}, settings, as_json=arguments.json)


def _settings(arguments: argparse.Namespace, recipe: Recipe, tokens: int, apart: float) -> dict[str, Any]:
    return {
        "method": recipe.method,
        "base": "tiny random Llama" if arguments.base is None else Path(arguments.base).name,
        "steps": arguments.steps,
        "rows_per_step": ROWS_PER_STEP,
        "tokens": tokens,
        "computed_in": str(compute_dtype(recipe.precision)),
        "largest_loss_difference": round(apart, 6),
    }


def _tiny_base(folder: Path) -> Path:
    from fakes.tiny_model import save_tiny_model

    rows = general_rows("replay", "packaged")
    return save_tiny_model(folder / "base", [message["content"] for row in rows for message in row["messages"]])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a model folder; without it a tiny random model")
    parser.add_argument("--method", choices=["full", "lora"], default="lora")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps, at most 8: one epoch of the rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    main()
