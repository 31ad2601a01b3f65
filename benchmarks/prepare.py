"""Rows per second from chats to packed ids and labels: ours against TRL's preparation, on the same 4,017 real chats.

Both render, encode, label what the assistant wrote and pack. That the ids and labels are the same is checked on every row: a fast
preparation of something else is worth nothing.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from benchmarks.harness import ratio, report, take_turns
from tunemill.trainer.fit import fit
from tunemill.trainer.model import load_tokenizer
from tunemill.trainer.pack import pack
from tunemill.trainer.render import Example, render

CAPACITY_TOKENS = 4096
BATCH_ROWS = 8
TRL_SIDES = {"trl, 1 process": 1, "trl, 2 processes": 2}


def ours(rows: Sequence[dict[str, Any]], tokenizer: Any) -> list[Example]:
    """Render, encode, label, cut what is too long, and pack."""
    examples = fit(render(rows, tokenizer).examples, CAPACITY_TOKENS, "truncate_left").examples
    pack(range(len(examples)), [len(example.ids) for example in examples], CAPACITY_TOKENS)
    return examples


def trls(rows: Sequence[dict[str, Any]], tokenizer: Any, model: Any, *, packing: bool, processes: int) -> Any:
    """TRL's data set, prepared."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder,
            max_length=CAPACITY_TOKENS if packing else None,
            packing=packing,
            assistant_only_loss=True,
            dataset_num_proc=processes,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
        )
        data = datasets.Dataset.from_list([{"messages": row["messages"]} for row in rows])
        return SFTTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer).train_dataset


def equal_rows(examples: Sequence[Example], theirs: Any) -> int:
    """How many rows have the same ids and labels on both sides."""
    return sum(
        list(example.ids) == row["input_ids"] and list(example.labels) == _labels(row)
        for example, row in zip(examples, theirs, strict=True)
    )


def waste(lengths: Sequence[int]) -> dict[str, float]:
    """The share of tokens that are padding, by how rows are put together; rows over the capacity are cut to it."""
    lengths = [min(length, CAPACITY_TOKENS) for length in lengths]
    batches = [lengths[i : i + BATCH_ROWS] for i in range(0, len(lengths), BATCH_ROWS)]
    through = {
        "each row padded to the longest allowed": len(lengths) * CAPACITY_TOKENS,
        f"batches of {BATCH_ROWS}, padded to their longest": sum(len(batch) * max(batch) for batch in batches),
        "ours, forward passes filled to the capacity": len(pack(range(len(lengths)), lengths, CAPACITY_TOKENS))
        * CAPACITY_TOKENS,
    }
    return {name: round(1 - sum(lengths) / tokens, 4) for name, tokens in through.items()}


def _labels(row: dict[str, Any]) -> list[int]:
    if "labels" in row:
        return list(row["labels"])
    return [token if on else -100 for token, on in zip(row["input_ids"], row["assistant_masks"], strict=True)]


def main() -> None:
    """Take turns, compare, report."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    import datasets
    from fakes.real_chats import real_chats
    from fakes.tiny_model import MARKED_TEMPLATE, TEMPLATE

    datasets.disable_caching()
    datasets.disable_progress_bars()
    rows = real_chats()[: arguments.rows]
    with tempfile.TemporaryDirectory() as folder:
        base = arguments.base or _tiny_base(Path(folder), rows)
        tokenizer, marked = load_tokenizer(base), load_tokenizer(base)
        tokenizer.chat_template, marked.chat_template = TEMPLATE, MARKED_TEMPLATE
        model = _tiny_model(tokenizer)
        cpu_s: dict[str, list[float]] = {}

        def measure(name: str) -> float:
            started, cpu = time.perf_counter(), sum(os.times()[:4])
            if name == "ours":
                # As in a worker: the other side's fork has turned it off here.
                os.environ["TOKENIZERS_PARALLELISM"] = "true"
                ours(rows, tokenizer)
                del os.environ["TOKENIZERS_PARALLELISM"]
            else:
                trls(rows, marked, model, packing=True, processes=TRL_SIDES[name])
            cpu_s.setdefault(name, []).append(sum(os.times()[:4]) - cpu)
            return len(rows) / (time.perf_counter() - started)

        figures = take_turns(
            {name: (lambda name=name: measure(name)) for name in ("ours", *TRL_SIDES)},  # type: ignore[misc]
            unit="rows/s",
            rounds=arguments.rounds,
        )
        examples = render(rows, tokenizer).examples
        same = equal_rows(examples, trls(rows, marked, model, packing=False, processes=1))
    lengths = [len(example.ids) for example in examples]
    ratios = {f"ours / {name}": ratio(figures["ours"], figures[name]) for name in TRL_SIDES}
    found = {
        "rows_per_s": {name: round(figure.median, 1) for name, figure in figures.items()},
        "ratio_trl": round(min(ratios.values()), 3),
        "cpu_s": {name: round(sorted(values)[len(values) // 2], 2) for name, values in cpu_s.items()},
        "equal_rows": same,
        "waste": waste(lengths),
    }
    print(f"{same} of {len(rows)} rows have the same ids and labels")
    for name, share in found["waste"].items():
        print(f"padding, {name}: {share:.2%}")
    settings = {
        "rows": len(rows),
        "tokens": sum(lengths),
        "tokenizer": "tiny, 512 tokens" if arguments.base is None else Path(arguments.base).name,
        "capacity_tokens": CAPACITY_TOKENS,
        "rounds": arguments.rounds,
    }
    report("prepare", figures, ratios, settings, as_json=arguments.json, also=found)


def _tiny_base(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    from fakes.tiny_model import save_tiny_model

    return save_tiny_model(folder / "base", [message["content"] for row in rows[:400] for message in row["messages"]])


def _tiny_model(tokenizer: Any) -> Any:
    """TRL prepares rows for a model: one that is small."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a model folder, for its tokenizer; without it a tiny one is made")
    parser.add_argument("--rows", type=int, default=4017)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    main()
