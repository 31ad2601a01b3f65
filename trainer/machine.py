"""What this machine has for a run: memory that is free now, number formats, and how fast it multiplies."""

import time
from pathlib import Path
from typing import Any

import msgspec

_CGROUPS = Path("/sys/fs/cgroup")
_MEASURED_S = 0.2
_SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices that are multiplied


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as a run sees it."""

    device: str  # cpu or cuda
    memory_bytes: int  # free for each process of the run
    native_bf16: bool
    devices: int = 1  # processes of the run, one a device
    flops_per_s: float | None = None  # each device's, in the format that the run computes in


def this_machine(*, precision: str = "auto", devices: int = 1) -> Machine:
    """This machine, as free as it is now.

    Args:
        precision: the recipe's; its format is the one whose speed is measured.
    """
    import torch

    from tunemill.trainer.model import compute_dtype, device

    where, dtype = device(), compute_dtype(precision)
    on_gpu = where.type == "cuda"
    return Machine(
        device=where.type,
        memory_bytes=torch.cuda.mem_get_info()[0] if on_gpu else _free_memory() // devices,
        native_bf16=compute_dtype("auto") == torch.bfloat16,
        devices=devices,
        flops_per_s=_flops_per_s(where.type, dtype),
    )


def _free_memory() -> int:
    import psutil

    return min([int(psutil.virtual_memory().available), *cgroup_rooms(Path("/proc/self/cgroup"), _CGROUPS)])


def cgroup_rooms(membership: Path, root: Path) -> list[int]:
    """What the control groups of this process let it still take, each in bytes; groups without a limit say nothing.

    Args:
        membership: /proc/self/cgroup, or a copy.
        root: where the groups lie; version 2 has them there, version 1 in the folder `memory`.
    """
    if not membership.is_file():
        return []  # not Linux
    rooms = []
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            rooms += _rooms(root, path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            rooms += _rooms(root / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes")
    return rooms


def _rooms(root: Path, path: str, limit_file: str, used_file: str) -> list[int]:
    """Of the group and of all that it lies in."""
    inner = root / path.lstrip("/")
    rooms = []
    for group in (inner, *inner.parents):
        if group.is_relative_to(root) and (group / limit_file).is_file():
            limit = (group / limit_file).read_text().strip()
            if limit != "max":
                rooms.append(max(0, int(limit) - int((group / used_file).read_text()) + _cache(group)))
    return rooms


def _cache(group: Path) -> int:
    """Bytes of files that are kept in memory only because nobody else wanted it: they count as used, and give way."""
    lines = (group / "memory.stat").read_text().splitlines() if (group / "memory.stat").is_file() else []
    found = dict(line.split(maxsplit=1) for line in lines)
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))


def _flops_per_s(device: str, dtype: Any) -> float:
    """Of matrix products, which is most of what training computes."""
    import torch

    side = _SIDE[device]
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    started, products = 0.0, -1  # the first one warms up
    while products < 0 or time.perf_counter() - started < _MEASURED_S:
        torch.matmul(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        if products < 0:
            started = time.perf_counter()
        products += 1
    return 2.0 * side**3 * products / (time.perf_counter() - started)
