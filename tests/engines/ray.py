"""The head of a real Ray cluster of one machine: the one that `TUNEMILL_TEST_RAY_URL` names, else one from an environment of its own.

Its packages are pinned in `ray.txt`, made as the clients' files are (`clients/environments.py`).
"""

import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clients.environments import EnvironmentAbsent, pinned

from engines.absent import skip_or_fail
from engines.process import free_port, running

_LOCK = Path(__file__).parent / "ray.txt"
_STORE_BYTES = 100_000_000  # of objects, which jobs do not use


@contextmanager
def ray_head() -> Iterator[str]:
    """The URL of a job server, for as long as the block lasts; without one the test is skipped, or fails where `CI=true`."""
    url = os.environ.get("TUNEMILL_TEST_RAY_URL")
    if url:
        yield url
        return
    try:
        program = pinned(_LOCK).with_name("ray")
    except EnvironmentAbsent as absent:
        skip_or_fail(f"no Ray: {absent}")
    with tempfile.TemporaryDirectory(
        prefix="ray-", dir="/tmp"
    ) as folder:  # its sockets' names are limited to 107 bytes
        port = free_port()
        command = [str(program), "start", "--head", "--block", "--port=0", "--num-cpus=2", "--disable-usage-stats"]
        command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
        command += [f"--temp-dir={folder}", f"--object-store-memory={_STORE_BYTES}"]
        url = f"http://127.0.0.1:{port}"
        with running(command, log=Path(folder) / "head.log", answers=lambda: _takes_jobs(url)):
            yield url


def _takes_jobs(url: str) -> bool:
    """Whether a job that does nothing is taken: the server answers before it can start any."""
    request = urllib.request.Request(f"{url}/api/jobs/", json.dumps({"entrypoint": "true"}).encode())
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
