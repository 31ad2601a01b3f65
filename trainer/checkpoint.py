"""A run's state on disk: what is trained, the optimizer, the random numbers and the step. Written whole or not at all.

The order of rows is no part of it: that is a pure function of (seed, epoch).
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tunemill.trainer.model import trainable

_KEEP = 2  # the newest, and one before it


def save(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, step: int, totals: dict[str, float]
) -> None:
    """1. write into a folder of another name; 2. fsync each file; 3. rename; 4. fsync the parent; 5. remove old ones."""
    final = folder / f"step-{step:08d}"
    if final.exists():
        return
    unfinished = folder / f"{final.name}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(
        {name: p.detach().contiguous() for name, p in trainable(model).items()}, unfinished / "weights.safetensors"
    )
    state = {"optimizer": optimizer.state_dict(), "step": step, "totals": totals, "random": _random_state()}
    torch.save(state, unfinished / "state.pt")
    for path in unfinished.iterdir():
        sync(path)
    unfinished.rename(final)
    sync(folder)
    for old in _finished(folder)[:-_KEEP]:
        shutil.rmtree(old)


def restore(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, float]]:
    """Go on from the newest checkpoint: its step and totals; (0, {}) when there is none."""
    finished = _finished(folder)
    if not finished:
        return 0, {}
    weights = load_file(finished[-1] / "weights.safetensors")
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(weights[name])
    state = torch.load(finished[-1] / "state.pt", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    _set_random_state(state["random"])
    return int(state["step"]), dict(state["totals"])


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".tmp") if folder.is_dir() else []


def _random_state() -> dict[str, Any]:
    """Torch's generators: the loop draws from no others."""
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": on_gpu}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
