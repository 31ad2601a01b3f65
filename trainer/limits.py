"""Out of memory, out of disk: what the machine's ends look like as exceptions, and what a person can do about each."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tunemill.trainer.errors import DiskFull, OutOfMemory, TrainerError

_MEMORY_SIGNS = (
    "can't allocate memory",  # torch's allocator outside the GPU
    "CUDA error: out of memory",  # what is allocated past torch
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_FULL_BYTES = 2**20  # less than this free, and a file that could not be written had no room


@contextmanager
def limits_told(folder: Path) -> Iterator[None]:
    """What ends inside the block for want of memory or disk ends as an error with advice.

    Raises:
        OutOfMemory: an allocation failed, on the GPU or outside it.
        DiskFull: a file under the folder could not be written for want of room.
    """
    try:
        yield
    except TrainerError:
        raise
    except Exception as error:
        if _is_memory(error):
            raise OutOfMemory(
                "there was not enough memory",
                "the next attempt takes fewer tokens at once; else lower max_length_tokens, or use lora or qlora",
            ) from error
        if _is_disk(error, folder):
            raise no_room(folder) from error
        raise


def no_room(folder: Path, needed_bytes: int | None = None) -> DiskFull:
    """The error for a disk without room for so many bytes."""
    free = shutil.disk_usage(folder).free
    wanted = f"{needed_bytes - free:,} bytes" if needed_bytes else "room"
    return DiskFull(
        f"the disk is full: {free:,} bytes are left at {folder}", f"free {wanted} there, then resume the run"
    )


def _is_memory(error: Exception) -> bool:
    said = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in said for sign in _MEMORY_SIGNS)


def _is_disk(error: Exception, folder: Path) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return True
    if "No space left on device" in str(error):  # as safetensors tells it
        return True
    torn = isinstance(error, RuntimeError) and "inline_container" in str(error)  # torch.save says no more than that
    return torn and shutil.disk_usage(folder).free < _FULL_BYTES
