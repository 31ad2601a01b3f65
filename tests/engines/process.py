"""One engine process: started, waited for, ended by its process id, its log quoted if it fails."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.errors import EngineDidNotStart

START_DEADLINE_S = 120
STOP_DEADLINE_S = 20


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], *, log: Path, answers: Callable[[], bool]) -> Iterator[int]:
    """The process id of this command while it runs, from the moment that it answers.

    Raises:
        EngineDidNotStart: it ended, or did not answer before the deadline. The message ends with its log.
    """
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*_leash(), *command], stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, log, answers)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _leash() -> list[str]:
    """Where Linux offers it, an engine ends with the thread that started it, however that one ends."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _wait(process: subprocess.Popen[bytes], log: Path, answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not answers():
        if process.poll() is not None:
            raise EngineDidNotStart(f"{process.args!r} ended with {process.returncode}:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            raise EngineDidNotStart(f"{process.args!r} did not answer in {START_DEADLINE_S} s:\n{_end_of(log)}")
        time.sleep(0.1)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
