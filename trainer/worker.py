"""`python -m tunemill.trainer.worker FOLDER SUPERVISOR_PID`: one attempt at one run, in a process of its own.

Its order lies in the folder; what it has to say goes to the progress file. SIGTERM: finish the step, write a checkpoint, exit 75.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

import msgspec
from transformers.utils import logging as transformers_logging

from tunemill.trainer.attempt import run
from tunemill.trainer.errors import Stopped, TrainerError
from tunemill.trainer.job import FAILED_EXIT, STOPPED_EXIT, Order, Speaker, WorkFolder

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class StopFlag:
    """Set by SIGTERM, asked after each step."""

    def __init__(self) -> None:
        self._set = False

    def __call__(self) -> bool:
        return self._set

    def listen(self) -> None:
        """Set the flag when SIGTERM comes."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: setattr(self, "_set", True))


def _die_with_parent(parent: int) -> None:
    """A worker without a supervisor has no lease: on Linux the kernel ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(STOPPED_EXIT)


def main(argv: list[str]) -> int:
    """Do the order in the folder; the exit code says how it ended."""
    folder = WorkFolder(Path(argv[1]))
    _die_with_parent(int(argv[2]))
    stop = StopFlag()
    stop.listen()
    transformers_logging.disable_progress_bar()
    order = msgspec.json.decode(folder.order.read_bytes(), type=Order)
    speaker = Speaker(folder.progress(order.attempt))
    try:
        run(order, folder, speaker, stop)
    except Stopped as stopped:
        speaker.say("stopped", stopped.message)
        return STOPPED_EXIT
    except TrainerError as error:
        speaker.say("failed", error.message, code=error.code, remedy=error.remedy, retryable=error.retryable)
        return FAILED_EXIT
    finally:
        speaker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
