"""A run's state on disk: what is trained, the optimizer, the random numbers and the step. Written whole or not at all.

`checkpoint.json` comes last and holds every file's SHA-256: a checkpoint that a disk or a crash has damaged is passed over
for the one before it. The order of rows is no part of it: that is a pure function of (seed, epoch).
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file

from tunemill.trainer.limits import no_room
from tunemill.trainer.model import trainable

_KEEP = 2  # the newest, and one before it
_WEIGHTS, _STATE, _INDEX = "weights.safetensors", "state.pt", "checkpoint.json"


class _Index(msgspec.Struct, frozen=True):
    """What a whole checkpoint consists of."""

    step: int
    best: int | None  # the step whose weights are the best so far: its checkpoint is kept, too
    files: dict[str, str]  # name -> SHA-256


@dataclass(frozen=True, slots=True)
class Restored:
    """Where a run goes on."""

    step: int = 0
    totals: Mapping[str, float] = field(default_factory=dict)
    damaged: int = 0  # checkpoints that were removed because they are not whole


def save(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    totals: Mapping[str, float],
    random: Mapping[str, Any],
    best: int | None = None,
) -> None:
    """1. write into a folder of another name; 2. fsync each file; 3. rename; 4. fsync the parent; 5. remove old ones.

    Args:
        random: `random_state()` at the end of that step.
        best: the step whose checkpoint is the result so far, with early stopping.

    Raises:
        DiskFull: there is no room for it; the checkpoints before it stay.
    """
    final = _place(folder, step)
    if final.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_without_room(folder, model, optimizer)
    unfinished = folder / f"{final.name}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    save_file({name: p.detach().contiguous() for name, p in trainable(model).items()}, unfinished / _WEIGHTS)
    torch.save({"optimizer": optimizer.state_dict(), "totals": dict(totals), "random": random}, unfinished / _STATE)
    digests = {name: _sha256(unfinished / name) for name in (_WEIGHTS, _STATE)}
    (unfinished / _INDEX).write_bytes(msgspec.json.encode(_Index(step, best, digests)))
    for path in unfinished.iterdir():
        sync(path)
    unfinished.rename(final)
    sync(folder)
    _remove_old(folder)


def restore(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Restored:
    """Go on from the newest whole checkpoint; those after it are damaged and are removed."""
    damaged = 0
    for found in reversed(_finished(folder)):
        index = _whole(found)
        if index is None or (index.best is not None and _whole(_place(folder, index.best)) is None):
            shutil.rmtree(found)
            damaged += 1
            continue
        load_weights(folder, index.step, model)
        state = torch.load(found / _STATE, weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        set_random_state(state["random"])
        return Restored(index.step, state["totals"], damaged)
    return Restored(damaged=damaged)


def load_weights(folder: Path, step: int, model: torch.nn.Module) -> None:
    """Put the weights of that step's checkpoint into the model."""
    weights = load_file(_place(folder, step) / _WEIGHTS)
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(weights[name])


def random_state() -> dict[str, Any]:
    """Torch's generators: the loop draws from no others."""
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": on_gpu}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go on drawing where that state was taken."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".tmp") if folder.is_dir() else []


def _refuse_without_room(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    moments = [tensor for of in optimizer.state.values() for tensor in of.values() if isinstance(tensor, torch.Tensor)]
    needed = sum(tensor.nbytes for tensor in (*trainable(model).values(), *moments))
    if shutil.disk_usage(folder).free < needed:
        raise no_room(folder, needed)


def _index(found: Path) -> _Index | None:
    try:
        return msgspec.json.decode((found / _INDEX).read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError):
        return None


def _whole(found: Path) -> _Index | None:
    """The checkpoint's index, where every file is there as it was written, and at the place of its own step."""
    index = _index(found)
    if index is None or _place(found.parent, index.step) != found:
        return None
    try:
        digests = {name: _sha256(found / name) for name in (_WEIGHTS, _STATE)}
    except OSError:
        return None
    return index if digests == index.files else None


def _remove_old(folder: Path) -> None:
    finished = _finished(folder)
    kept = set(finished[-_KEEP:])
    bests = {_place(folder, index.best) for found in kept if (index := _index(found)) and index.best is not None}
    for old in finished:
        if old not in kept | bests:
            shutil.rmtree(old)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
