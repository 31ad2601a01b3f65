"""A run's state on disk: what is trained, the optimizer, the random numbers and the step. Written whole or not at all.

`checkpoint.json` comes last and holds every file's SHA-256: a checkpoint that a disk or a crash has damaged is passed over
for the one before it. The order of rows is no part of it: that is a pure function of (seed, epoch).
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file

from tunemill.trainer.limits import no_room
from tunemill.trainer.model import trainable
from tunemill.trainer.ranks import ALONE, Ranks, sharded_like

_KEEP = 2  # the newest, and one before it
_WEIGHTS, _STATE, _INDEX = "weights.safetensors", "state.pt", "checkpoint.json"


class _Index(msgspec.Struct, frozen=True):
    """What a whole checkpoint consists of."""

    step: int
    best_step: int  # whose weights are the best so far: its checkpoint is kept, too; 0 where nothing looks
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
    ranks: Ranks = ALONE,
    *,
    step: int,
    totals: Mapping[str, float],
    random: Mapping[str, Any],
) -> None:
    """1. write into a folder of another name; 2. fsync each file; 3. rename; 4. fsync the parent; 5. remove old ones.

    Every rank takes part, rank 0 writes: what is sharded is written whole, so that any number of ranks may go on from it.

    Args:
        totals: numbers that go on being summed up; `best_step` among them names a checkpoint that is kept, too.
        random: `random_state()` at the end of that step.

    Raises:
        DiskFull: there is no room for it; the checkpoints before it stay.
    """
    final = _place(folder, step)
    if ranks.first_says(final.exists()):
        return
    randoms = ranks.each_says(dict(random))
    weights = {name: ranks.gather(parameter).contiguous() for name, parameter in trainable(model).items()}
    moments = _map_tensors(optimizer.state_dict(), ranks.gather)
    state = {"optimizer": moments, "totals": dict(totals), "random": randoms}
    if ranks.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_without_room(folder, weights, moments)
        _write(final, weights, state, _Index(step, int(totals.get("best_step", 0)), {}))
        _remove_old(folder)
    ranks.first_says(None)  # nobody goes on before it is there


def restore(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE) -> Restored:
    """Go on from the newest whole checkpoint; those after it are damaged and are removed."""
    step, damaged = ranks.first_says(_newest_whole(folder) if ranks.rank == 0 else (0, 0))
    if not step:
        return Restored(damaged=damaged)
    load_weights(folder, step, model)
    state = torch.load(_place(folder, step) / _STATE, weights_only=True)
    optimizer.load_state_dict(_sharded(state["optimizer"], optimizer))
    if ranks.world == len(state["random"]):
        set_random_state(state["random"][ranks.rank])
    return Restored(step, state["totals"], damaged)


def load_weights(folder: Path, step: int, model: torch.nn.Module) -> None:
    """Put the weights of that step's checkpoint into the model."""
    weights = load_file(_place(folder, step) / _WEIGHTS)
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(sharded_like(weights[name], parameter))


def random_state() -> dict[str, Any]:
    """Torch's generators: the loop draws from no others."""
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": on_gpu}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go on drawing where that state was taken."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def seal(place: Path) -> None:
    """Write every file's SHA-256 into a folder that somebody else has filled, so that `is_sealed` can tell whether it is whole."""
    (place / _INDEX).unlink(missing_ok=True)
    digests = _digests(place)
    for name in digests:
        sync(place / name)
    unfinished = place / f"{_INDEX}.tmp"
    unfinished.write_bytes(msgspec.json.encode(digests))
    sync(unfinished)
    unfinished.rename(place / _INDEX)
    sync(place)


def is_sealed(place: Path) -> bool:
    """Whether the folder's files are those that were sealed, each as it was."""
    try:
        sealed = msgspec.json.decode((place / _INDEX).read_bytes(), type=dict[str, str])
        return sealed == _digests(place)
    except (OSError, msgspec.DecodeError):
        return False


def _digests(place: Path) -> dict[str, str]:
    files = (path for path in sorted(place.rglob("*")) if path.is_file() and path.name != _INDEX)
    return {str(path.relative_to(place)): _sha256(path) for path in files}


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


def _write(final: Path, weights: dict[str, torch.Tensor], state: dict[str, Any], index: _Index) -> None:
    unfinished = final.with_name(f"{final.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    save_file(weights, unfinished / _WEIGHTS)
    torch.save(state, unfinished / _STATE)
    digests = {name: _sha256(unfinished / name) for name in (_WEIGHTS, _STATE)}
    (unfinished / _INDEX).write_bytes(msgspec.json.encode(msgspec.structs.replace(index, files=digests)))
    for path in unfinished.iterdir():
        sync(path)
    unfinished.rename(final)
    sync(final.parent)


def _refuse_without_room(folder: Path, weights: dict[str, torch.Tensor], optimizer_state: dict[str, Any]) -> None:
    tensors = [tensor for of in optimizer_state["state"].values() for tensor in of.values()]
    needed = sum(tensor.nbytes for tensor in (*weights.values(), *tensors) if isinstance(tensor, torch.Tensor))
    if shutil.disk_usage(folder).free < needed:
        raise no_room(folder, needed)


def _newest_whole(folder: Path) -> tuple[int, int]:
    """Its step, 0 where there is none, and how many newer ones were damaged; those are removed."""
    damaged = 0
    for found in reversed(_finished(folder)):
        index = _whole(found)
        if index is not None and (not index.best_step or _whole(_place(folder, index.best_step)) is not None):
            return index.step, damaged
        shutil.rmtree(found)
        damaged += 1
    return 0, damaged


def _map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_tensors(item, change) for key, item in value.items()}
    return [_map_tensors(item, change) for item in value] if isinstance(value, list) else value


def _sharded(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's saved state, each parameter's moments spread as the parameter is; a step counter is no such moment."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {
            name: sharded_like(value, parameters[number]) if value.shape == parameters[number].shape else value
            for name, value in of.items()
        }
        for number, of in saved["state"].items()
    }
    return {**saved, "state": state}


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
    bests = {_place(folder, index.best_step) for found in kept if (index := _index(found)) and index.best_step}
    for old in finished:
        if old not in kept | bests:
            shutil.rmtree(old)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
