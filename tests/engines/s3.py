"""A real S3-compatible server for tests: moto's, as a process of its own on loopback. It comes from PyPI, so it is never absent."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import s3fs

from engines.errors import EngineDidNotStart
from engines.process import free_port

_START_S = 60.0


@contextmanager
def s3() -> Iterator[Mapping[str, str]]:
    """The environment by which AWS's clients find the server, for as long as the block lasts.

    Raises:
        EngineDidNotStart: it does not answer.
    """
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/moto-api/", process)
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            process.terminate()


def make_bucket(environment: Mapping[str, str], name: str) -> None:
    """An empty bucket of this name."""
    s3fs.S3FileSystem(
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        key=environment["AWS_ACCESS_KEY_ID"],
        secret=environment["AWS_SECRET_ACCESS_KEY"],
        skip_instance_cache=True,
    ).mkdir(name)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() >= deadline:
                raise EngineDidNotStart("moto's S3 server does not answer") from None
            time.sleep(0.1)
        else:
            return
