"""A checkpoint is whole or is passed over, and a full disk is said as such."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tunemill.trainer import checkpoint
from tunemill.trainer.errors import DiskFull, OutOfMemory
from tunemill.trainer.limits import limits_told


class Trained:
    """A layer that takes a step and writes it down."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.model = torch.nn.Linear(3, 2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)

    def step(self, step: int, *, best: int | None = None) -> torch.Tensor:
        self.optimizer.zero_grad()
        self.model(torch.rand(5, 3)).square().sum().backward()
        self.optimizer.step()
        random = checkpoint.random_state()
        totals = {"seconds": step, **({"best_step": best} if best else {})}
        checkpoint.save(self.folder, self.model, self.optimizer, step=step, totals=totals, random=random)
        return self.model.weight.detach().clone()

    def restore(self) -> checkpoint.Restored:
        return checkpoint.restore(self.folder, self.model, self.optimizer)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights cut short": lambda found: cut(found / "weights.safetensors"),
    "a bit of the weights": lambda found: flip(found / "weights.safetensors"),
    "state cut short": lambda found: cut(found / "state.pt"),
    "no weights": lambda found: (found / "weights.safetensors").unlink(),
    "no state": lambda found: (found / "state.pt").unlink(),
    "no index": lambda found: (found / "checkpoint.json").unlink(),
    "index cut short": lambda found: cut(found / "checkpoint.json"),
    "another step's files": lambda found: shutil.copytree(found.with_name("step-00000001"), found, dirs_exist_ok=True),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    trained = Trained(tmp_path)
    first = trained.step(1)
    second = trained.step(2)
    damage(tmp_path / "step-00000002")

    restored = trained.restore()

    assert (restored.step, restored.totals, restored.damaged) == (1, {"seconds": 1}, 1)
    assert torch.equal(trained.model.weight, first)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"], "else it would be counted at each start"
    assert torch.equal(trained.step(2), second), "optimizer and random numbers are those of step 1, too"


def test_where_no_checkpoint_is_whole_the_run_begins_anew(tmp_path: Path) -> None:
    trained = Trained(tmp_path)
    for step in (1, 2):
        trained.step(step)
        cut(tmp_path / f"step-{step:08d}" / "state.pt")

    restored = trained.restore()

    assert (restored.step, restored.damaged) == (0, 2)


def test_the_newest_two_are_kept_and_the_best(tmp_path: Path) -> None:
    trained = Trained(tmp_path)
    for step in range(1, 6):
        trained.step(step, best=2 if step >= 2 else 1)

    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["2", "4", "5"]


def test_a_checkpoint_whose_best_is_damaged_is_no_checkpoint(tmp_path: Path) -> None:
    trained = Trained(tmp_path)
    for step in range(1, 5):
        trained.step(step, best=2 if step >= 2 else 1)
    cut(tmp_path / "step-00000002" / "weights.safetensors")

    assert trained.restore().step == 0
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_was_not_finished_is_none(tmp_path: Path) -> None:
    trained = Trained(tmp_path)
    trained.step(1)
    (tmp_path / "step-00000001").rename(tmp_path / "step-00000001.tmp")

    assert trained.restore() == checkpoint.Restored()


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=10))

    with pytest.raises(DiskFull, match=r"10 bytes are left at") as told:
        Trained(tmp_path).step(1)

    assert "free 94 bytes there" in told.value.remedy
    assert list(tmp_path.iterdir()) == []


FAILURES: dict[str, tuple[Exception, type[Exception]]] = {
    "the disk": (OSError(errno.ENOSPC, "No space left on device"), DiskFull),
    "the disk, as safetensors tells it": (Exception("I/O error: No space left on device (os error 28)"), DiskFull),
    "the GPU's memory": (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
    "the GPU's memory, past torch": (RuntimeError("CUDA error: out of memory\nCompile with"), OutOfMemory),
    "the GPU's memory, for a library": (
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OutOfMemory,
    ),
    "Python's memory": (MemoryError(), OutOfMemory),
    "another file error": (PermissionError(errno.EACCES, "Permission denied"), PermissionError),
    "another error": (RuntimeError("shapes cannot be multiplied"), RuntimeError),
}


@pytest.mark.parametrize(("raised", "told"), FAILURES.values(), ids=FAILURES.keys())
def test_the_machines_ends_are_told_as_such(tmp_path: Path, raised: Exception, told: type[Exception]) -> None:
    with pytest.raises(told) as error, limits_told(tmp_path):
        raise raised

    assert type(error.value) is told


def test_an_allocation_that_torch_refuses_is_out_of_memory(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match="memory") as error, limits_told(tmp_path):
        torch.empty(10**15)

    assert error.value.retryable


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB, where this process may mount one."""
    import subprocess

    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_fills_meanwhile_is_told_as_such(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room was there when it was looked for: the writing itself fails."""
    trained = Trained(small_disk)
    trained.step(1)
    monkeypatch.setattr(checkpoint, "_refuse_without_room", lambda *_: None)
    large, random = torch.nn.Linear(200, 200), checkpoint.random_state()

    for optimizer in (trained.optimizer, torch.optim.AdamW(large.parameters())):
        with pytest.raises(DiskFull), limits_told(small_disk):
            checkpoint.save(small_disk, large, optimizer, step=2, totals={}, random=random)

    assert json.loads((small_disk / "step-00000001" / "checkpoint.json").read_bytes())["step"] == 1
