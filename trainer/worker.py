"""`python -m tunemill.trainer.worker FOLDER [PARENT]`: one attempt at one run, as a process; with PARENT it dies with that one.

Its order lies in the folder; what it has to say goes to the progress file. When the folder's `stop` file is there, at SIGTERM, and
when nobody has kept the run's lease for as long as it holds, it finishes the forward pass, writes a checkpoint and exits with 75.
For several devices it becomes `torchrun`, whose ranks are workers again.
"""

import ctypes
import fcntl
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from tunemill.trainer.errors import Stopped, TrainerError, WorkerDied
from tunemill.trainer.identity import find_base, identify_base
from tunemill.trainer.job import FAILED_EXIT, STOPPED_EXIT, Order, Speaker, WorkFolder

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_RANKS_GRACE_S = 60  # for the rank that writes the checkpoint
_LOOKS_PER_LEASE = 4
_LONGEST_STOP_S = 60.0  # from hearing that nobody watches any more to ending without a checkpoint
_LOOK_S = 0.2


class StopFlag:
    """Whether to stop: somebody said so, or nobody watches the run any more."""

    def __init__(self, folder: WorkFolder) -> None:
        self._folder = folder
        self._set = False
        self._over = threading.Event()

    def __call__(self) -> bool:
        return self._set or self._folder.stop.exists()

    def listen(self) -> None:
        """Set the flag when SIGTERM comes."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: setattr(self, "_set", True))

    def watch(self, lease_s: float, attempt: int) -> None:
        """Set the flag when the folder's `alive` file was not touched for so long, by our clock, or is touched for another attempt.

        A minute later end the process.
        """
        threading.Thread(target=self._watch, args=(lease_s, attempt), daemon=True).start()

    def unwatch(self) -> None:
        """The work is done, watched or not."""
        self._over.set()

    def _watch(self, lease_s: float, attempt: int) -> None:
        seen, since = None, time.monotonic()
        while time.monotonic() - since < lease_s and not self._is_superseded(attempt):
            with suppress(OSError):  # storage that is away tells nothing new
                if (touched := self._folder.alive.stat().st_mtime_ns) != seen:
                    seen, since = touched, time.monotonic()
            if self._over.wait(lease_s / _LOOKS_PER_LEASE):
                return
        self._set = True
        if not self._over.wait(_LONGEST_STOP_S):
            os._exit(STOPPED_EXIT)

    def _is_superseded(self, attempt: int) -> bool:
        """Whether the order is by now another attempt's: `alive` is touched for that one."""
        with suppress(OSError, msgspec.DecodeError):  # storage that is away tells nothing new
            return msgspec.json.decode(self._folder.order.read_bytes(), type=Order).attempt != attempt
        return False


def main(argv: list[str]) -> int:
    """Do the order in the folder; the exit code says how it ended."""
    folder = WorkFolder(Path(argv[1]))
    if len(argv) > 2:
        _die_with_parent(int(argv[2]))
    order = msgspec.json.decode(folder.order.read_bytes(), type=Order)
    rank = int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else None
    stop = StopFlag(folder)
    stop.listen()
    if folder.alive.exists():  # else nobody has promised to keep a lease
        stop.watch(order.lease_s, order.attempt)
    speaker = Speaker(folder.progress(order.attempt))
    try:
        return _attempt(order, folder, speaker, stop, rank)
    finally:
        stop.unwatch()
        speaker.close()


def _attempt(order: Order, folder: WorkFolder, speaker: Speaker, stop: StopFlag, rank: int | None) -> int:
    """Only the first rank tells of its work and of stopping; each of them tells why it failed."""
    try:
        if rank is None:
            _be_the_only_one(folder, order, stop)
            if order.devices > 1:
                _become_torchrun(folder, order.devices)
        run = _made_ready(order)
        run(order, folder, Speaker(Path(os.devnull)) if rank else speaker, stop)
    except Stopped as stopped:
        if rank:
            return 0  # else torchrun would hurry the rank that writes the checkpoint
        speaker.say("stopped", stopped.message)
        return STOPPED_EXIT
    except TrainerError as error:
        speaker.say("failed", error.message, code=error.code, remedy=error.remedy, retryable=error.retryable)
        return FAILED_EXIT
    return 0


def _made_ready(order: Order) -> Callable[..., None]:
    """`attempt.run`, with all that it imports. The base model's files are hashed meanwhile: that lets Python go on.

    Raises:
        BaseNotFound: there is no such base model; nothing is imported for that.
    """
    base, revision = order.recipe.base, order.recipe.revision
    find_base(base, revision)
    with ThreadPoolExecutor(1) as beside:
        identified = beside.submit(identify_base, base, revision)  # the digests are kept for `run`
        gc.disable()  # what imports make stays: to look through it for garbage took a quarter of their time
        try:
            from transformers.utils import logging as transformers_logging

            from tunemill.trainer.attempt import run
        finally:
            gc.enable()
    identified.result()
    transformers_logging.disable_progress_bar()
    return run


def _die_with_parent(parent: int) -> None:
    """A worker without a supervisor has no lease: on Linux the kernel ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(STOPPED_EXIT)


def _be_the_only_one(folder: WorkFolder, order: Order, stop: StopFlag) -> None:
    """Wait until no other worker is at work here; none will be while this process lives, whatever it becomes.

    Raises:
        WorkerDied: it does not end, though nobody has watched it for longer than it goes on by itself.
        Stopped: somebody said so meanwhile.
    """
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(lock, True)  # over exec
    patience = time.monotonic() + 2 * (order.lease_s + _LONGEST_STOP_S)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop():
                raise Stopped("stopped before it began", "it goes on from its checkpoint") from None
            if time.monotonic() > patience:
                raise WorkerDied(f"another worker is at work in {folder.path}", "end it; it has no lease") from None
            time.sleep(_LOOK_S)
        else:
            return


def _become_torchrun(folder: WorkFolder, devices: int) -> None:
    """Take its place in this very process: its parent stays ours, and the ranks die with it."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices))
    patience = ("--shutdown-timeout", str(_RANKS_GRACE_S))
    worker = ("-m", "tunemill.trainer.worker", str(folder.path), str(os.getpid()))
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # of the ranks, too
    os.execve(sys.executable, (sys.executable, *torchrun, *patience, *worker), environment)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    # peft imports bitsandbytes, which would load a compiler for functions that no run calls: a quarter of all imports
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    sys.exit(main(sys.argv))
