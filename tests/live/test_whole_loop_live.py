"""The whole loop as it runs in production: worker, API and trainer as processes of their own on Kafka, Elasticsearch and PostgreSQL.

Published with the SDK, killed in the middle, searched, gathered, edited, published, trained, evaluated.
"""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines.postgres import empty_database, postgres
from engines.process import free_port
from fakes.tiny_model import save_tiny_model

from tunemill.schemas.manifest import manifest_digest
from tunemill.sdk import Producer

pytestmark = pytest.mark.live

LOGS = 600
KEY = "tm_livetest0_" + "k" * 40
DEADLINE_S = 300.0
RECIPE = {
    "method": "lora",
    "epochs": 1,
    "max_steps": 3,
    "max_new_tokens": 8,
    "eval_generate_rows": 4,
    "precision": "fp32",
}


class Deployment:
    """Four addresses, and one process per service."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = {
            **os.environ,
            **environment,
            "TUNEMILL_KEY": KEY,
            "TUNEMILL_WORK_DIR": str(folder / "work"),
        }
        self._folder = folder

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tunemill.cli", *command],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def service(self, name: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """A service that is ready; ended with SIGTERM, which it must obey."""
        command = [sys.executable, "-m", "tunemill.cli", name, "--port", str(port)]
        with (self._folder / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output)
        try:
            _until(lambda: _ready(process, port), f"{name} is ready")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()


@pytest.fixture
def deployment(kafka_url: str, elasticsearch_url: str, tmp_path: Path) -> Iterator[Deployment]:
    with postgres() as server, empty_database(server) as registry_url:
        yield Deployment(
            {
                "TUNEMILL_BUS_URL": kafka_url,
                "TUNEMILL_INDEX_URL": elasticsearch_url,
                "TUNEMILL_REGISTRY_URL": registry_url,
                "TUNEMILL_FILES_URL": str(tmp_path / "files"),
            },
            tmp_path,
        )


@pytest.mark.timeout(900)
def test_from_a_published_call_to_an_evaluated_adapter(deployment: Deployment, kafka_url: str, tmp_path: Path) -> None:
    app = f"loop-{uuid.uuid4().hex[:10]}"
    base = save_tiny_model(
        tmp_path / "base", [f"Add {number} and {number}. The sum is {2 * number}." for number in range(50)]
    )
    made = deployment.run("setup")
    assert made.returncode == 0, made.stderr
    streams_port, api_port, trainer_port = (free_port() for _ in range(3))
    with ExitStack() as running:
        running.enter_context(deployment.service("api", api_port))
        running.enter_context(deployment.service("trainer", trainer_port))
        api = running.enter_context(_client(api_port))

        published = _publish_while_the_worker_is_killed(deployment, kafka_url, streams_port, api, app)
        running.enter_context(deployment.service("streams", streams_port))
        _until(lambda: _total(api, f"app:{app}") >= LOGS, "every log can be found")

        found = _all_ids(api, f"app:{app}")
        assert len(found) == len(set(found)), "a log is in the index twice"
        assert set(found) == published, "a log is lost, or came from nowhere"
        _until(
            lambda: "bad_time" in _newest_reasons(api), "the record from before all clocks is among the dead letters"
        )

        version = _gather(api, app, {**RECIPE, "base": str(base)})
        run = _until(lambda: _ended_run(api, version), "the run has ended")
    assert run["status"] in ("succeeded", "rejected"), run["error"]  # a random model may fail its gates
    assert run["result"]["before"]["loss"] > 0
    assert run["result"]["after"]["loss"] != run["result"]["before"]["loss"]
    assert run["result"]["retention"]["after"] > 0
    adapter = Path(run["artefact_url"])
    manifest = json.loads((adapter / "manifest.json").read_text())
    assert version["digest"] in json.dumps(manifest)
    assert version["digest"] == manifest_digest(Path(version["manifest_url"]).read_bytes())
    assert list(adapter.rglob("adapter_model.safetensors"))


def test_a_service_without_its_addresses_says_which_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNEMILL_")}
    done = subprocess.run(
        [sys.executable, "-m", "tunemill.cli", "api"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "TUNEMILL_BUS_URL" in done.stderr


def _publish_while_the_worker_is_killed(
    deployment: Deployment, kafka_url: str, port: int, api: httpx.Client, app: str
) -> set[str]:
    """The ids of what was published, in three waves; after each of the first two the worker is killed while it works."""
    published: set[str] = set()
    with Producer(kafka_url, app=app) as producer:
        for wave in range(3):
            for number in range(wave * LOGS // 3, (wave + 1) * LOGS // 3):
                question = {"role": "user", "content": f"Add {number} and {number}."}
                answer = {"role": "assistant", "content": f"The sum is {2 * number}."}
                published.add(
                    producer.log(messages=[question], output=[answer], session_id=f"s{number}", consent="train")
                )
            if wave == 0:
                producer.log(messages=[{"role": "user", "content": "x" * 1_500_000}], output=[], ts_ms=-1)
            assert producer.flush(60)
            if wave < 2:
                with deployment.service("streams", port) as worker:
                    seen = _total(api, f"app:{app}")
                    _until(lambda seen=seen: _total(api, f"app:{app}") > seen, "the worker has begun")
                    worker.kill()
    return published


def _gather(api: httpx.Client, app: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """A dataset from a search, one row edited and one deleted, published with a recipe."""
    name = f"sums-{uuid.uuid4().hex[:8]}"
    assert api.post("/v1/datasets", json={"name": name, "query": f"app:{app} sum", "limit": 60}).status_code == 201
    first, second = api.get(f"/v1/datasets/{name}/rows", params={"limit": 2}).json()["rows"]
    messages = [*first["messages"][:-1], {**first["messages"][-1], "content": "The sum is what you get."}]
    assert api.patch(f"/v1/datasets/{name}/rows/{first['row_key']}", json={"messages": messages}).is_success
    assert api.delete(f"/v1/datasets/{name}/rows/{second['row_key']}").is_success
    answer = api.post(f"/v1/datasets/{name}/versions", json={"recipe": recipe})
    assert answer.status_code == 201, answer.text
    version: dict[str, Any] = answer.json()
    assert version["rows"] == 60  # another log has come in the place of the deleted row
    return version


def _ended_run(api: httpx.Client, version: dict[str, Any]) -> dict[str, Any] | None:
    runs = [run for run in api.get("/v1/runs").json()["runs"] if run["name"] == version["name"]]
    assert len(runs) <= 1, "one version and one recipe are one run"
    return next((run for run in runs if run["status"] in ("succeeded", "rejected", "failed", "cancelled")), None)


def _total(api: httpx.Client, query: str) -> int:
    return int(api.get("/v1/search", params={"q": query, "limit": 1}).json()["total"])


def _newest_reasons(api: httpx.Client) -> list[str]:
    """Why the newest records were rejected; as many as the API gives, because the topic is shared with other tests."""
    rejected = api.get("/v1/rejected", params={"limit": 1000}).json()["rejected"]
    return [letter["error_code"] for letter in rejected]


def _all_ids(api: httpx.Client, query: str) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        params = {"q": query, "limit": 100, "sort": "newest", **({"cursor": cursor} if cursor else {})}
        page = api.get("/v1/search", params=params).json()
        ids += [hit["log_id"] for hit in page["hits"]]
        cursor = page["cursor"]
        if not cursor or not page["hits"]:
            return ids


@contextmanager
def _client(port: int) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
        yield client


def _ready(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, f"the service ended with {process.returncode}"
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").is_success
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError(f"after {DEADLINE_S:.0f} s it is not true that {what}")
