"""A Ray cluster's job server by its REST interface, without a cluster: it runs the entrypoints as processes of this machine.

Like the real one it needs the slash behind `jobs`, refuses a second submission of an id, and stops a job a while after it was asked.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.http_server import Answer, Asked, json_answer, serving

_STOP_S = 0.3


@dataclass
class _Begun:
    process: subprocess.Popen[bytes]
    log: Path
    stop_at: float | None = None


@dataclass
class RayJobs:
    """The server's URL and what was submitted to it."""

    url: str
    submitted: dict[str, dict[str, Any]]
    token: str | None = None  # that it asks for


@contextmanager
def ray_jobs() -> Iterator[RayJobs]:
    """A job server until the block ends, which ends its jobs."""
    begun: dict[str, _Begun] = {}
    jobs = RayJobs("", {})
    with tempfile.TemporaryDirectory() as folder:

        def answer(asked: Asked) -> Answer:
            if jobs.token is not None and asked.headers.get("authorization") != f"Bearer {jobs.token}":
                return json_answer({}, 401)
            match asked.method, asked.path.split("/")[3:]:
                case "POST", [""]:
                    return _submit(asked.json(), begun, jobs, Path(folder))
                case _, [job_id, *_] if job_id not in begun:
                    return json_answer({}, 404)
                case "GET", [job_id]:
                    return json_answer(_status(begun[job_id]))
                case "GET", [job_id, "logs"]:
                    return json_answer({"logs": begun[job_id].log.read_text()})
                case "POST", [job_id, "stop"]:
                    begun[job_id].stop_at = begun[job_id].stop_at or time.monotonic() + _STOP_S
                    return json_answer({"stopped": True})
            return json_answer({}, 405)

        with serving(answer) as server:
            jobs.url = f"ray+{server.url}"
            try:
                yield jobs
            finally:
                for job in begun.values():
                    job.process.kill()
                    job.process.wait()


def _submit(asked: dict[str, Any], begun: dict[str, _Begun], jobs: RayJobs, folder: Path) -> Answer:
    job_id = asked["submission_id"]
    if job_id in begun:
        return Answer(500, json.dumps(f"Job with submission_id {job_id} already exists").encode())
    log = folder / job_id
    environment = {**os.environ, **asked["runtime_env"]["env_vars"]}
    with log.open("wb") as output:
        process = subprocess.Popen(
            f"exec {asked['entrypoint']}", shell=True, env=environment, stdout=output, stderr=output
        )
    begun[job_id] = _Begun(process, log)
    jobs.submitted[job_id] = asked
    return json_answer({"submission_id": job_id})


def _status(job: _Begun) -> dict[str, Any]:
    if job.stop_at is not None and time.monotonic() > job.stop_at and job.process.poll() is None:
        job.process.kill()
        job.process.wait()
        return {"status": "STOPPED", "driver_exit_code": None}
    code = job.process.poll()
    if code is None:
        return {"status": "RUNNING"}
    if job.stop_at is not None:
        return {"status": "STOPPED", "driver_exit_code": None}
    return {"status": "FAILED" if code else "SUCCEEDED", "driver_exit_code": code}
