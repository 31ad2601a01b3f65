"""Tokens per second and peak memory of our training loop against TRL's SFTTrainer, and the time from an order to its first step.

Both sides train from the same weights in the same number format, on the same rows in each optimizer step; their losses are compared,
too: without equal losses, speed is worth nothing. Each measurement is a process of its own, forked from one that has imported torch
and not used it. TRL gets what serves it best on a CPU: each step's rows sorted by length, so that little is padded, its chunked loss
where it takes it (full training), no checkpointing. Its packing wants flash attention, which no CPU has.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import cache_from_source
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import msgspec
import peft  # noqa: F401  # once here, and not in each process that is forked
import torch

from benchmarks.harness import Figure, ratio, report, take_turns
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.job import Line, Listener, Order, WorkFolder
from tunemill.trainer.model import compute_dtype, load_model, load_tokenizer, trainable
from tunemill.trainer.pack import epoch_steps
from tunemill.trainer.recipe import METHODS, Recipe, resolve
from tunemill.trainer.render import Example, render
from tunemill.trainer.train import train

ROWS_PER_STEP = 16
_TRL_BATCHES = 2  # forward passes per optimizer step: 8 rows of these, about as many tokens as ours takes at once


@dataclass(frozen=True, slots=True)
class Side:
    """One measurement of one side."""

    losses: list[float]
    seconds: float  # of the steps alone
    peak_bytes: int


def ours(recipe: Recipe, examples: list[Example]) -> tuple[list[float], float]:
    """Losses per step, and seconds of the loop alone."""
    losses: list[float] = []
    model = load_model(recipe, Path(recipe.base))
    with tempfile.TemporaryDirectory() as checkpoints:
        done = train(
            model,
            examples,
            recipe,
            Path(checkpoints),
            packed=True,
            autocast=_autocast(recipe),
            on_step=lambda metrics: losses.append(metrics.loss),
            should_stop=lambda: False,
        )
    return losses, done.seconds


def trls(recipe: Recipe, examples: list[Example]) -> tuple[list[float], float]:
    """The same from TRL, given each step's rows sorted by length."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    ordered = [example for step in steps_by_length(examples, recipe) for example in step]
    rows = {"input_ids": [list(e.ids) for e in ordered], "labels": [list(e.labels) for e in ordered]}
    model = load_model(recipe, Path(recipe.base))
    weights = (
        [parameter.detach().clone() for parameter in trainable(model).values()] if recipe.method == "qlora" else []
    )
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=ROWS_PER_STEP // _TRL_BATCHES,
            gradient_accumulation_steps=_TRL_BATCHES,
            max_steps=recipe.max_steps or -1,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="linear",
            logging_steps=1,
            weight_decay=0.0,
            max_grad_norm=recipe.max_grad_norm,
            train_sampling_strategy="sequential",
            loss_type="chunked_nll" if recipe.method == "full" else "nll",
            max_length=None,
            use_cpu=True,
            bf16=_autocast(recipe) is not None,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        data = datasets.Dataset.from_dict(rows)
        trainer = SFTTrainer(
            model=model, args=args, train_dataset=data, processing_class=load_tokenizer(Path(recipe.base))
        )
        for parameter, value in zip(trainable(trainer.model).values(), weights, strict=False):
            parameter.data = value  # TRL turns the adapter of a 4-bit model into bf16; ours stays fp32
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], seconds


def steps_by_length(examples: Sequence[Example], recipe: Recipe) -> list[list[Example]]:
    """The first epoch's steps, longest row first."""
    lengths = [len(example.ids) for example in examples]
    steps = epoch_steps(
        lengths, rows_per_step=ROWS_PER_STEP, tokens_per_forward=recipe.tokens_per_forward, seed=recipe.seed, epoch=0
    )
    rows = [[examples[row] for rows in step for row in rows] for step in steps]
    return [sorted(step, key=lambda example: -len(example.ids)) for step in rows]


def padded_share(examples: Sequence[Example], recipe: Recipe) -> float:
    """Which share of what TRL computes is padding; ours pads nothing."""
    size = ROWS_PER_STEP // _TRL_BATCHES
    batches = [s[i : i + size] for s in steps_by_length(examples, recipe) for i in range(0, len(s), size)]
    computed = sum(len(batch) * len(batch[0].ids) for batch in batches)
    return 1.0 - sum(len(example.ids) for batch in batches for example in batch) / computed


def in_a_process(side: Callable[[Recipe, list[Example]], tuple[list[float], float]], *given: Any) -> Side:
    """Measure in a fork of this process: what one side leaves behind does not help or burden the other."""
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def measure() -> None:
        losses, seconds = side(*given)
        sender.send(Side(losses, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))

    process = context.Process(target=measure)
    process.start()
    sender.close()
    try:
        found: Side = receiver.recv()
    except EOFError:
        raise SystemExit("a side has ended without a result: see above") from None
    process.join()
    return found


def compare(recipe: Recipe, examples: list[Example], rounds: int) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Both sides in turns: tokens per second, and what stands in the result for this method."""
    tokens = sum(len(example.ids) for example in examples)
    last: dict[str, Side] = {}

    def measure(name: str) -> float:
        last[name] = in_a_process(ours if name == "ours" else trls, recipe, examples)
        return tokens / last[name].seconds

    figures = take_turns(
        {name: (lambda name=name: measure(name)) for name in ("ours", "trl")},  # type: ignore[misc]
        unit="tokens/s",
        rounds=rounds,
    )
    pairs = list(zip(last["ours"].losses, last["trl"].losses, strict=True))
    for step, (mine, theirs) in enumerate(pairs, start=1):
        print(f"{recipe.method}, step {step}: loss {mine:.5f} ours, {theirs:.5f} TRL")
    return figures, {
        "tokens_per_s": round(figures["ours"].median, 1),
        "tokens_ratio_trl": round(ratio(figures["ours"], figures["trl"]), 4),
        "max_loss_difference": round(max(abs(mine - theirs) for mine, theirs in pairs), 7),
        "peak_bytes": last["ours"].peak_bytes,
        "peak_bytes_trl": last["trl"].peak_bytes,
    }


def event_to_first_step(base: Path, precision: str) -> dict[str, Any]:
    """Seconds from an order to its first step told, less what loading the model takes, and of its stages, which include that.

    Next to nothing is measured before. Where Python neither has compiled modules nor may keep them, most of it is compiling torch.
    """
    from fakes.tiny_model import publish_dataset, tickets

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        url, digest = publish_dataset(place / "files", "tickets", {"train": tickets(160)})
        one_row = place / "retention.jsonl"
        one_row.write_text(json.dumps(general_rows("retention", "packaged")[0]) + "\n")
        knobs = {"max_steps": 2, "rows_per_step": ROWS_PER_STEP, "retention": str(one_row), "precision": precision}
        recipe = resolve({"method": "lora", "base": str(base), **knobs, "eval_generate_rows": 0})
        folder = WorkFolder(place / "work")
        folder.path.mkdir()
        ids = {"run_id": "run-1", "attempt": 1, "project": "default", "name": "tickets", "version": 1}
        started_ms = time.time_ns() // 1_000_000
        order = Order(**ids, manifest_url=url, digest=digest, recipe=recipe, lease_s=600.0)  # type: ignore[arg-type]
        folder.order.write_bytes(msgspec.json.encode(order))
        folder.say_alive()
        lines = _until_a_step(folder)
    loading = in_a_process(_load_only, recipe).seconds
    stages = _stages(started_ms, lines)
    return {
        "event_to_first_step_s": round(sum(stages.values()) - loading, 2),
        "model_load_s": round(loading, 2),
        "stages_s": stages,
        "modules_compiled": Path(cache_from_source(torch.__file__)).exists() or not sys.dont_write_bytecode,
    }


def _until_a_step(folder: WorkFolder) -> list[Line]:
    """What a worker says up to its first step; it is stopped there."""
    command = [sys.executable, "-P", "-m", "tunemill.trainer.worker", str(folder.path), str(os.getpid())]
    listener, lines = Listener(folder.progress(1)), list[Line]()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        while not any(line.kind == "metrics" for line in lines):
            if worker.poll() is not None:
                raise SystemExit("the worker ended without a step")
            lines += listener.lines()
            time.sleep(0.005)
        worker.terminate()
    return lines


def _stages(started_ms: int, lines: Sequence[Line]) -> dict[str, float]:
    """Seconds of each stage up to the first step told, by the first line that is said after it."""
    first = {line.message if line.kind == "message" else line.kind: line.ts_ms for line in reversed(lines)}
    ends = {
        "start": lines[0].ts_ms,  # of Python, with all imports; the base model is hashed meanwhile
        "read_and_render": first["the rows are ready"],
        "load_and_measure": first["status"],
        "first_step": first["metrics"],
    }
    starts = [started_ms, *ends.values()]
    return {name: round((end - start) / 1000, 2) for (name, end), start in zip(ends.items(), starts, strict=False)}


def _load_only(recipe: Recipe) -> tuple[list[float], float]:
    started = time.perf_counter()
    load_model(recipe, Path(recipe.base))
    return [], time.perf_counter() - started


def _autocast(recipe: Recipe) -> torch.dtype | None:
    dtype = compute_dtype(recipe.precision)
    return dtype if recipe.method == "full" and dtype != torch.float32 else None


def main() -> None:
    """Take turns, compare, report."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    figures: dict[str, Figure] = {}
    methods: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = arguments.base or _tiny_base(Path(folder))
        rows = general_rows("replay", "packaged") + general_rows("retention", "packaged")
        examples = render(rows[: ROWS_PER_STEP * arguments.steps], load_tokenizer(base)).examples
        for method in arguments.methods:
            recipe = resolve(
                {
                    "method": method,
                    "base": str(base),
                    "checkpoint_steps": 10**6,
                    "precision": arguments.precision,
                    "rows_per_step": ROWS_PER_STEP,
                    "max_steps": arguments.steps,
                    "warmup_share": 0.0,
                    "learning_rate": 2e-4,
                }
            )
            found, methods[method] = compare(recipe, examples, arguments.rounds)
            figures |= {f"{method}: {name}": figure for name, figure in found.items()}
        also = {"methods": methods, "padding_trl": round(padded_share(examples, recipe), 4)}
        also |= event_to_first_step(base, arguments.precision)
    for method, of in methods.items():
        print(f"{method}: {of['tokens_ratio_trl']:.2f} of TRL, losses within {of['max_loss_difference']:.1e}")
    settings = {
        "base": "tiny random Llama" if arguments.base is None else Path(arguments.base).name,
        "steps": arguments.steps,
        "rows_per_step": ROWS_PER_STEP,
        "tokens": sum(len(example.ids) for example in examples),
        "computed_in": str(compute_dtype(arguments.precision)),
    }
    report("train", figures, {}, settings, as_json=arguments.json, also=also)


def _tiny_base(folder: Path) -> Path:
    from fakes.tiny_model import save_tiny_model

    rows = general_rows("replay", "packaged")
    texts = [message["content"] for row in rows for message in row["messages"]]
    making = get_context("fork").Process(target=save_tiny_model, args=(folder / "base", texts))
    making.start()  # elsewhere: a process whose torch has begun to compute must not be forked
    making.join()
    return folder / "base"


def _methods(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(METHODS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: known are {', '.join(METHODS)}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a model folder; without it a tiny random model")
    parser.add_argument("--methods", type=_methods, default=list(METHODS), help="of full,lora,qlora")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps, at most 8: one epoch of the rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    main()
