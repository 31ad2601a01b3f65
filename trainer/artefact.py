"""The result as files: a PEFT adapter or whole weights with their tokenizer, a report, samples, a card and a manifest."""

import hashlib
import platform
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import torch

from tunemill.schemas.row_scores import ROW_SCORES_FILE, RowScores
from tunemill.schemas.run_report import REPORT, SAMPLES_FILE
from tunemill.trainer.card import card
from tunemill.trainer.identity import identify_base
from tunemill.trainer.job import Order
from tunemill.trainer.model import device
from tunemill.trainer.publish import FORMAT, MANIFEST, MERGED, write_manifest
from tunemill.trainer.recipe import spelled
from tunemill.trainer.servable import obstacles, serving_notes
from tunemill.trainer.train import Trained

_PACKAGES = ("tunemill", "torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors", "tokenizers")


@dataclass(frozen=True, slots=True)
class Made:
    """How the model came to be, as far as the recipe does not say it."""

    trained: Trained
    dtype: torch.dtype  # computed in
    base_folder: Path  # where the base model lies here


def assemble(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    order: Order,
    status: str,
    result: Mapping[str, Any],
    report: str,
    samples: Sequence[Mapping[str, Any]],
    rows: Sequence[RowScores],
    made: Made,
) -> list[str]:
    """Write everything that the run leaves, the manifest last; what an earlier attempt left here goes. Gives notes for who serves it.

    1. weights and tokenizer; 2. merged weights, where asked for or where no server would load the adapter; 3. report, samples,
    scores by row, and card; 4. the manifest.

    Args:
        result: what `runs.result` will hold; no text of rows.
        report: for a person; may show rows, from its heading `run_report.SAMPLES` on.
        samples: rows with the answers before and after.
        rows: the scores after training row by row; no text of rows.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    is_adapter = save_weights(model, tokenizer, folder, base=order.recipe.base)
    notes: list[str] = []
    if is_adapter:
        wrong = obstacles(folder)
        notes = _notes(order, wrong) or serving_notes(folder)
        if wrong or order.recipe.merge:
            from tunemill.trainer.merge import merge  # and with it peft, which full training does without

            merge(made.base_folder, folder, folder / MERGED, tokenizer)
    (folder / REPORT).write_text(report, encoding="utf-8")
    (folder / SAMPLES_FILE).write_bytes(b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples))
    (folder / ROW_SCORES_FILE).write_bytes(msgspec.json.encode(rows))
    (folder / "README.md").write_text(card(order, status, result, notes, whole=not is_adapter), encoding="utf-8")
    write_manifest(folder, {"status": status, **_about(order, tokenizer, made), "scores": result, "serving": notes})
    return notes


def save_weights(model: Any, tokenizer: Any, folder: Path, *, base: str) -> bool:
    """Write the adapter, or for full training the model, as safetensors, and the tokenizer. Says whether it is an adapter."""
    is_adapter = hasattr(model, "peft_config")
    if is_adapter:
        model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return is_adapter


def _notes(order: Order, wrong: Sequence[str]) -> list[str]:
    if wrong:
        return [f"vLLM does not load this adapter ({'; '.join(wrong)}): serve `{MERGED}/`, which holds whole weights"]
    if order.recipe.merge and order.recipe.method == "qlora":
        return [f"the scores are of the 4-bit base with the adapter; `{MERGED}/` is merged into the full weights"]
    return []


def _about(order: Order, tokenizer: Any, made: Made) -> dict[str, Any]:
    """What the manifest says of the making: of what, by what recipe, where and with which packages."""
    recipe = order.recipe
    base = identify_base(recipe.base, recipe.revision)
    return {
        "run_id": order.run_id,
        "base": {
            "name": recipe.base,
            "revision": recipe.revision,
            "weights": base.weights,
            "tokenizer": base.tokenizer,
            "run": _parent(made.base_folder),
        },
        "dataset": {
            "project": order.project,
            "name": order.name,
            "version": order.version,
            "revision": order.revision,
            "digest": order.digest,
            "manifest_url": order.manifest_url,
            "sources_url": order.sources_url,
        },
        "recipe": spelled(recipe),
        "template": hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest(),
        "seeds": dict.fromkeys(("adapter", "dropout", "order", "bootstrap"), recipe.seed),
        "environment": environment(made.dtype),
        "training": asdict(made.trained),
    }


def environment(dtype: torch.dtype) -> dict[str, Any]:
    """On what the result was made: two results are only the same where this is."""
    where = device()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if where.type == "cuda" else "cpu",
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # the extra that brings it is not installed
        return None


def _parent(base_folder: Path) -> dict[str, str] | None:
    """The run that made the base, where it is such a run's folder or the merged weights in one."""
    place = base_folder.resolve()  # a link's neighbours are others
    for folder in (place, place.parent):
        path = folder / MANIFEST
        if path.is_file():
            content = path.read_bytes()
            with suppress(msgspec.DecodeError):  # somebody else's file of that name
                made = msgspec.json.decode(content)
                if isinstance(made, dict) and made.get("format") == FORMAT:
                    return {"run_id": made["run_id"], "manifest_sha256": hashlib.sha256(content).hexdigest()}
    return None
