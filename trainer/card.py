"""The model card of a run's folder: `README.md` with the front matter that the hub reads. It holds no text of a row."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tunemill.trainer.identity import HUB_ID
from tunemill.trainer.job import Order

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|])")


def card(order: Order, status: str, result: Mapping[str, Any], notes: Sequence[str], *, whole: bool) -> str:
    """The card's text.

    Args:
        result: what `runs.result` holds.
        notes: what a person should know before serving the model.
        whole: the folder holds whole weights and no adapter.
    """
    sections = (
        _made(order, status),
        _use(order, notes, whole=whole),
        _scores(result),
        _limits(status, result),
    )
    page = "\n\n".join("\n".join(section) for section in sections)
    return f"---\n{_front_matter(order, whole=whole)}---\n\n# {order.name}, run {order.run_id}\n\n{page}\n"


def _front_matter(order: Order, *, whole: bool) -> str:
    base = order.recipe.base
    front = {
        "base_model": base if HUB_ID.fullmatch(base) else Path(base).name,
        "base_model_relation": "finetune" if whole else "adapter",
        "library_name": "transformers" if whole else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["tunemill", order.recipe.method, order.recipe.objective],
    }
    text: str = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return text


def _made(order: Order, status: str) -> list[str]:
    recipe = order.recipe
    at = f" at `{recipe.revision}`" if recipe.revision else ""
    return [
        f"`{recipe.method}` on `{recipe.base}`{at}; the run {status}.",
        "",
        *_table(
            ("made from", ""),
            [
                ("dataset", f"`{order.name}@v{order.version}` of project `{order.project}`"),
                ("its manifest, SHA-256", f"`{order.digest}`"),
                ("seed", recipe.seed),
            ],
        ),
        "",
        "`manifest.json` has the whole recipe, the environment, and where it is said from which logs the rows came.",
    ]


def _use(order: Order, notes: Sequence[str], *, whole: bool) -> list[str]:
    base = order.recipe.base
    load = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    if whole:
        load += ['model = AutoModelForCausalLM.from_pretrained("FOLDER")']
    else:
        load = ["from peft import PeftModel", *load, f'base = AutoModelForCausalLM.from_pretrained("{base}")']
        load += ['model = PeftModel.from_pretrained(base, "FOLDER")']
    load += ['tokenizer = AutoTokenizer.from_pretrained("FOLDER")']
    return ["## Use", "", "```python", *load, "```", *[line for note in notes for line in ("", f"- {_plain(note)}")]]


def _scores(result: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            _score(name, one["unit"]),
            one["before"],
            one["after"],
            f"{one['low']:+.3f} to {one['high']:+.3f}",
            one["rows"],
        )
        for name, one in result["metrics"].items()
    ]
    kept = result["retention"]
    rows.append(("loss on general rows, nats per trained token", kept["before"], kept["after"], "", ""))
    gates = [f"- {_plain(gate['name'])}: {gate['outcome']}: {_plain(gate['says'])}" for gate in result["gates"]]
    shown = [(what, _number(was), _number(now), *sure) for what, was, now, *sure in rows]
    columns = ("on the same held-out rows", "before", "after", "change, 95 %", "rows")
    return ["## Scores", "", *_table(columns, shown), "", *gates]


def _score(name: str, unit: str) -> str:
    return name.replace("_", " ") + (f", {unit}" if unit else "")


def _limits(status: str, result: Mapping[str, Any]) -> list[str]:
    lines = [
        "- The scores are of this dataset's held-out rows and of a small general set: nothing else was measured.",
        "- The licence of the base model and the terms of the dataset hold for it.",
        "- A model may repeat what it was trained on.",
    ]
    if status != "succeeded":
        lines.insert(0, f"- The run {status}: a gate speaks against its use.")
    return ["## Limits", "", *lines, *[f"- {_plain(sentence)}" for sentence in result["forgetting"]["says"]]]


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
