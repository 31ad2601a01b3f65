"""The processes that a benchmark measures: halted and resumed, and what CPU and memory they took, from Linux's /proc."""

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

STOP_DEADLINE_S = 60
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"
# The first letters of a JVM's threads -> what they do; all others do the engine's own work.
_JVM_THREADS = {"GC": "gc", "G1": "gc", "VM": "gc", "C1": "jit", "C2": "jit"}


@contextmanager
def running(command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is told to end with the block, also when it is halted; what it prints goes to stderr."""
    process = subprocess.Popen(
        command, env=os.environ | dict(environment or {}), stdin=subprocess.PIPE, stdout=sys.stderr
    )
    try:
        yield process
    finally:
        resume(process)
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def halt(process: subprocess.Popen[bytes]) -> None:
    """Take the CPU from it."""
    process.send_signal(signal.SIGSTOP)


def resume(process: subprocess.Popen[bytes]) -> None:
    """Give it back."""
    process.send_signal(signal.SIGCONT)


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the process has taken, in user code and in the kernel."""
    return _ticks(Path(f"/proc/{pid}/stat")) / _TICKS_PER_S


def jvm_cpu_s(pid: int) -> Mapping[str, float]:
    """The same of a JVM's living threads, by what they do: `gc`, `jit` (compiling) or `work`."""
    found: dict[str, float] = defaultdict(float)
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, ticks = (thread / "comm").read_text(), _ticks(thread / "stat")
        except OSError:  # it ended meanwhile
            continue
        found[_JVM_THREADS.get(name[:2], "work")] += ticks / _TICKS_PER_S
    return found


def grown_bytes(work: Callable[[], object]) -> int:
    """By how much this process grew at most while it did this."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is forgotten
    before = rss_bytes(os.getpid())
    work()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return max(0, int(peak.split()[1]) * 1024 - before)


def rss_bytes(pid: int) -> int:
    """The memory that the process has in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def listener(port: int) -> int | None:
    """The process id of whoever listens on this local port; None if it is not one of ours, as in a container."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(opened.readlink()) in inodes for opened in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:  # it ended, or is somebody else's
            continue
    return None


def _ticks(stat: Path) -> int:
    """User and kernel time; the name before them may hold spaces."""
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
