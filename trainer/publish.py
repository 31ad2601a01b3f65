"""The result as files: a PEFT adapter (or whole weights), a report and a manifest, put together here and copied to the files URL.

The worker assembles; the supervisor uploads while it holds the lease, the manifest last: a folder without one is unfinished.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from safetensors import safe_open

from tunemill.schemas.ids import canonical_json
from tunemill.schemas.run_report import REPORT, manifest_with, without_samples
from tunemill.trainer.errors import TrainerError
from tunemill.trainer.job import write_whole

FORMAT = "tunemill-adapter/1"
MANIFEST = "manifest.json"
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank of vLLM takes


class NotServable(TrainerError):
    """The adapter is not one that vLLM could load."""

    code = "not_servable"
    retryable = False


def save_weights(model: Any, tokenizer: Any, folder: Path, *, base: str) -> None:
    """Write the adapter, or for full training the model with its tokenizer, as safetensors."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if hasattr(model, "peft_config"):
        model.peft_config["default"].base_model_name_or_path = base
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours is report.md
    else:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def check_servable(folder: Path) -> list[str]:
    """What a person should know before serving the adapter with vLLM; empty when nothing.

    Raises:
        NotServable: vLLM could not load it: DoRA, biases, whole modules beside the adapter, or other tensors than LoRA's.
    """
    config_file = folder / "adapter_config.json"
    if not config_file.exists():
        return []
    config = json.loads(config_file.read_text(encoding="utf-8"))
    wrong = [key for key in ("use_dora", "modules_to_save") if config.get(key)]
    if wrong or config.get("bias") != "none" or not config.get("base_model_name_or_path"):
        raise NotServable(
            f"adapter_config.json: {wrong or 'bias or base model'}", "merge the adapter into its base model"
        )
    with safe_open(folder / "adapter_model.safetensors", framework="numpy") as tensors:
        if strange := [name for name in tensors.keys() if ".lora_A." not in name and ".lora_B." not in name]:  # noqa: SIM118
            raise NotServable(f"{len(strange)} tensors are no LoRA matrices", "leave embeddings out of target_modules")
    rank = config["r"]
    needed = next((limit for limit in _VLLM_RANKS if rank <= limit), rank)
    return [f"start vLLM with --max-lora-rank {needed}: its default is 16"] if needed > 16 else []


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest with the SHA-256 of every other file: after it the folder is complete."""
    files = {
        str(path.relative_to(folder)): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_whole(folder / MANIFEST, canonical_json({"format": FORMAT, **content, "files": files}))


def hide_rows(folder: Path) -> None:
    """Take the rows out of the report that lies here, where some were erased while the run was under way."""
    shorter = without_samples((folder / REPORT).read_text(encoding="utf-8"))
    if shorter is not None:
        write_whole(folder / REPORT, shorter.encode())
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        write_whole(folder / MANIFEST, canonical_json(manifest_with(manifest, shorter.encode())))


def upload(folder: Path, files_url: str, *, project: str, run_id: str) -> str:
    """Copy the folder to `runs/<project>/<run_id>` under the files URL, the manifest last. Gives its URL.

    Doing it again replaces each file by the same bytes.
    """
    target = f"{files_url.rstrip('/')}/runs/{project}/{run_id}"
    filesystem, root = fsspec.url_to_fs(target)
    names = sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST
    )
    filesystem.makedirs(root, exist_ok=True)
    for name in [*names, MANIFEST]:
        filesystem.put_file(str(folder / name), f"{root}/{name}")
    return target
