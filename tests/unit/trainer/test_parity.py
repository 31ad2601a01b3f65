"""TRL is the oracle: the same ids, the same labels, and over eight steps the same losses."""

import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.real_chats import real_chats
from fakes.tiny_model import MARKED_TEMPLATE, TEMPLATE, chat

from tunemill.examples.smollm2 import cache_folder, fetch
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.model import load_model, load_tokenizer, trainable
from tunemill.trainer.pack import epoch_steps
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import Example, render
from tunemill.trainer.train import StepMetrics, train

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, datasets and their dependencies warn of one another
STEPS = 8
USUAL = {"precision": "fp32", "warmup_share": 0.0, "max_steps": STEPS, "checkpoint_steps": 1000}


def made_chats(count: int) -> list[dict[str, Any]]:
    """Chats of one to four exchanges, some with a system message, some with tool calls, odd white space and letters."""
    draw = random.Random(5)
    pairs = [[message["content"] for message in row["messages"]] for row in general_rows("replay", "packaged")]
    odd = [
        "  indented\n\ttabs ",
        "\n\nblank lines\n",
        "größer Ōsaka 東京 🙂",
        "<b>&amp;</b>",
    ]  # none empty: TRL trains on those
    chats = []
    for _ in range(count):
        turns = [text for pair in draw.sample(pairs, draw.randint(1, 4)) for text in pair]
        if draw.random() < 0.3:
            turns[draw.randrange(len(turns))] = draw.choice(odd)
        row = chat(*turns, system=draw.choice([None, "Be brief."]))
        if draw.random() < 0.2:
            call = {"type": "function", "function": {"name": "look_up", "arguments": {"q": draw.choice(odd)}}}
            row["messages"][-1]["tool_calls"] = [call]
        chats.append(row)
    return chats


def trl_trainer(base: Path, tokenizer: Any, rows: list[dict[str, Any]], out: Path, model: Any, **config: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
        from trl import SFTConfig, SFTTrainer

        datasets.disable_progress_bars()
        args = SFTConfig(
            output_dir=str(out),
            assistant_only_loss=True,
            max_length=None,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            gradient_checkpointing=False,
            disable_tqdm=True,
            **config,
        )
        data = datasets.Dataset.from_list([{"messages": row["messages"]} for row in rows])
        return SFTTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)


@pytest.fixture
def marked_tokenizer(tiny_base: Path) -> Any:
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.chat_template = MARKED_TEMPLATE
    return tokenizer


def test_ids_and_labels_are_trls(tiny_base: Path, tokenizer: Any, marked_tokenizer: Any, tmp_path: Path) -> None:
    rows = made_chats(300)
    model = load_model(resolve({"method": "full", "base": str(tiny_base), "precision": "fp32"}), tiny_base)
    theirs = trl_trainer(tiny_base, marked_tokenizer, rows, tmp_path, model).train_dataset

    ours = render(rows, tokenizer).examples

    assert len(ours) == len(theirs) == 300
    assert [list(example.ids) for example in ours] == [row["input_ids"] for row in theirs]
    assert [list(example.labels) for example in ours] == [_labels(row) for row in theirs]


def test_ids_and_labels_of_real_chats_are_trls(
    tiny_base: Path, tokenizer: Any, marked_tokenizer: Any, tmp_path: Path
) -> None:
    """Every second of the 4,017; `benchmarks.prepare` compares them all."""
    rows = real_chats()[::2]
    model = load_model(resolve({"method": "full", "base": str(tiny_base), "precision": "fp32"}), tiny_base)
    theirs = trl_trainer(tiny_base, marked_tokenizer, rows, tmp_path, model).train_dataset

    rendered = render(rows, tokenizer)

    assert rendered.counts() == {}, "there is nothing on which we differ on purpose"
    assert len(rendered.examples) == len(theirs) == 2009
    different = [
        example.row
        for example, row in zip(rendered.examples, theirs, strict=True)
        if list(example.ids) != row["input_ids"] or list(example.labels) != _labels(row)
    ]
    assert different == []


def _labels(row: dict[str, Any]) -> list[int]:
    if "labels" in row:
        return list(row["labels"])
    return [token if on else -100 for token, on in zip(row["input_ids"], row["assistant_masks"], strict=True)]


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_losses_are_trls(tiny_base: Path, tokenizer: Any, marked_tokenizer: Any, tmp_path: Path, method: str) -> None:
    recipe = resolve({"method": method, "base": str(tiny_base), "learning_rate": 1e-3, "rows_per_step": 8, **USUAL})

    ours, theirs = both_losses(recipe, made_chats(8 * STEPS), tokenizer, marked_tokenizer, tmp_path)

    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours[-1] < ours[0] - 0.01, "something was learnt, else equal losses would prove nothing"


@pytest.mark.model
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_losses_of_a_real_model_are_trls(tmp_path: Path, method: str) -> None:
    base = fetch(cache_folder())
    recipe = resolve({"method": method, "base": str(base), "learning_rate": 2e-4, "rows_per_step": 2, **USUAL})
    tokenizer, marked = load_tokenizer(base), load_tokenizer(base)
    tokenizer.chat_template, marked.chat_template = TEMPLATE, MARKED_TEMPLATE
    rows = general_rows("replay", "packaged")[: 2 * STEPS]

    ours, theirs = both_losses(recipe, rows, tokenizer, marked, tmp_path)

    assert ours == pytest.approx(theirs, abs=1e-4)
    assert min(ours[-2:]) < ours[0] - 0.1, "something was learnt, else equal losses would prove nothing"


def both_losses(
    recipe: Recipe, rows: list[dict[str, Any]], tokenizer: Any, marked_tokenizer: Any, folder: Path
) -> tuple[list[float], list[float]]:
    """The losses of each step of the first epoch, ours and TRL's."""
    examples = render(rows, tokenizer).examples
    order = [row for step in _first_epoch(examples, recipe) for bins in step for row in bins]
    ours: list[float] = []
    train(
        load_model(recipe, Path(recipe.base)),
        examples,
        recipe,
        folder / "ours",
        packed=True,
        autocast=None,
        on_step=lambda metrics: ours.append(metrics.loss),
        should_stop=lambda: False,
    )
    return ours, _trl_losses(marked_tokenizer, [rows[row] for row in order], folder / "trl", recipe)


def _first_epoch(examples: list[Example], recipe: Recipe) -> list[list[list[int]]]:
    return epoch_steps(
        [len(example.ids) for example in examples],
        rows_per_step=recipe.rows_per_step,
        tokens_per_forward=recipe.tokens_per_forward,
        seed=recipe.seed,
        epoch=0,
    )


def _trl_losses(tokenizer: Any, rows: list[dict[str, Any]], out: Path, recipe: Recipe) -> list[float]:
    """TRL pads two batches per optimizer step, we pack all its rows: the loss must not know."""
    model = load_model(recipe, Path(recipe.base))
    ours = [parameter.detach().clone() for parameter in trainable(model).values()]
    trainer = trl_trainer(
        Path(recipe.base),
        tokenizer,
        rows,
        out,
        model,
        per_device_train_batch_size=recipe.rows_per_step // 2,
        gradient_accumulation_steps=2,
        max_steps=STEPS,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        logging_steps=1,
        weight_decay=0.0,
        max_grad_norm=recipe.max_grad_norm,
        train_sampling_strategy="sequential",
    )
    for parameter, value in zip(trainable(trainer.model).values(), ours, strict=True):
        parameter.data = value  # TRL turns the adapter of a 4-bit model into bf16; ours stays fp32
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_qlora_trains_and_its_loss_falls(tiny_base: Path, tokenizer: Any, tmp_path: Path) -> None:
    recipe = resolve(
        {
            "method": "qlora",
            "base": str(tiny_base),
            "precision": "fp32",
            "learning_rate": 5e-3,
            "rows_per_step": 8,
            "max_steps": 24,
        }
    )
    examples = render(general_rows("replay", "packaged")[:24], tokenizer).examples
    steps: list[StepMetrics] = []

    model = load_model(recipe, tiny_base)
    train(
        model,
        examples,
        recipe,
        tmp_path,
        packed=True,
        autocast=None,
        on_step=steps.append,
        should_stop=lambda: False,
    )

    assert any(type(module).__name__ == "Linear4bit" for module in model.modules())
    assert steps[-1].loss < steps[0].loss - 0.2
    assert torch.isfinite(torch.tensor([step.loss for step in steps])).all()
