"""Jobs on a Ray cluster, by the REST interface of its job server; nothing of Ray is installed here.

The cluster's machines have this program at the same path, and the work folder on storage that both sides see: the order, the
worker's progress, its checkpoints and the word to stop are files there.
"""

import os
import shlex
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tunemill.trainer.errors import LauncherAway
from tunemill.trainer.launch import Ended, Job

_SCHEMES = ("ray+http", "ray+https")
_TIMEOUT_S = 30.0
_OVER = ("SUCCEEDED", "FAILED", "STOPPED")
_DEVICES = {"gpu": "entrypoint_num_gpus", "cpu": "entrypoint_num_cpus"}


class RayLauncher:
    """The job server at `ray+http://host:8265`; with `?device=cpu` jobs ask for cores instead of GPUs.

    Raises:
        ValueError: the URL names no server, or another kind of device.
    """

    name = "ray"

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True)
        device = query.pop("device", ["gpu"])[-1]
        if parts.scheme not in _SCHEMES or not parts.hostname or query or device not in _DEVICES:
            raise ValueError("say ray+http://host:8265, and with ?device=cpu that its jobs want no GPUs")
        self._jobs = f"{parts.scheme.removeprefix('ray+')}://{parts.netloc}/api/jobs/"
        self._resource = _DEVICES[device]
        self._tls = (
            httpx.create_ssl_context()
        )  # 20 ms of a processor, several times a second if each client made its own

    async def submit(self, job: Job) -> None:
        """Submit the job under its own id: a cluster that has it refuses, and that is as good."""
        asked = {
            "entrypoint": shlex.join(job.argv),
            "submission_id": job.job_id,
            self._resource: job.devices,
            "metadata": {"folder": str(job.folder)},
            "runtime_env": {"env_vars": job.env},
        }
        answer = await self._ask("POST", "", asked)
        if answer.is_success or (await self._ask("GET", job.job_id)).status_code == httpx.codes.OK:
            return
        raise LauncherAway(f"the cluster did not take the job: status {answer.status_code}", "look at its dashboard")

    async def poll(self, job_id: str) -> Ended | None:
        """The job's status; a cluster that does not know the job was started anew, and the job ended with it."""
        answer = await self._ask("GET", job_id)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return Ended(exit_code=None, said="its cluster does not know it")
        details = _details(answer)
        if details.get("status") not in _OVER:
            return None
        code = details.get("driver_exit_code")
        return Ended(
            exit_code=code, said=f"status {details['status']} of its cluster" + (f", exit code {code}" if code else "")
        )

    async def stop(self, job_id: str) -> None:
        """Ask for the end of the job, which takes the cluster some seconds."""
        await self._ask("POST", f"{job_id}/stop")

    async def logs(self, job_id: str, *, last_bytes: int) -> str:
        """The end of what the cluster kept of the job's output."""
        text = str(_details(await self._ask("GET", f"{job_id}/logs")).get("logs", ""))
        return text.encode()[-last_bytes:].decode(errors="replace")

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        token = os.environ.get("RAY_AUTH_TOKEN")  # as Ray's own clients find it
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers, verify=self._tls) as client:
                return await client.request(method, self._jobs + path, json=body)
        except httpx.HTTPError as error:
            raise LauncherAway(f"the cluster does not answer: {type(error).__name__}", "is its head up?") from error


def _details(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise LauncherAway(f"the cluster answers with status {answer.status_code}", "look at its dashboard")
    try:
        found = answer.json()
    except ValueError as error:  # a proxy's page
        raise LauncherAway("what answers for the cluster is no job server", "look at its URL") from error
    return found if isinstance(found, dict) else {}
