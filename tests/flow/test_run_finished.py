"""The end of a run on the bus and at a webhook, whatever the end: once, signed, and enough to have a server load the adapter."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.curator_api import Running, running_api
from fakes.http_server import Answer, Asked, Server, serving
from fakes.tiny_model import publish_dataset, save_tiny_model, tickets
from sqlalchemy import select

from tunemill.bus.port import Outgoing
from tunemill.curator_api.settings import Settings
from tunemill.curator_api.webhook_sign import signed_headers
from tunemill.examples import load_adapter
from tunemill.examples.load_adapter import Receiver, opened, wanted
from tunemill.registry.tables import runs
from tunemill.schemas import wire
from tunemill.schemas.records import DatasetReady, RunFinished
from tunemill.schemas.topics import DATASETS_READY, RUNS_FINISHED
from tunemill.trainer.service import run_trainer

pytestmark = pytest.mark.timeout(600)

os.environ["OMP_NUM_THREADS"] = "1"
SECRET = "whsec_" + "c2VjcmV0" * 4
QUICK = {"max_steps": 12, "rows_per_step": 4, "precision": "fp32", "learning_rate": 5e-3, "eval_generate_rows": 2}
ORDERS: dict[str, dict[str, Any]] = {
    "succeeded": {**QUICK, "merge": True},
    "rejected": {**QUICK, "gates": {"retention_reject": -10.0}},
    "failed": {**QUICK, "base": "/nowhere"},
    "cancelled": {**QUICK, "seed": 9},
}


@contextmanager
def vllm_behind_the_receiver(vllm: Server) -> Iterator[str]:
    """The example, receiving; gives its host."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        Receiver.vllm = vllm.url
        threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"127.0.0.1:{receiver.server_port}"
        receiver.shutdown()


@asynccontextmanager
async def training(api: Running, work: Path) -> AsyncIterator[None]:
    stop = asyncio.Event()
    serving_runs = asyncio.create_task(run_trainer(api.bus, api.registry, str(api.files), work, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await serving_runs


async def order(api: Running, base: Path, event_id: str, recipe: dict[str, Any]) -> None:
    url, digest = publish_dataset(api.files, "tickets", {"train": tickets(48), "test": tickets(12, start=300)})
    known = {"name": "tickets", "version": 1, "digest": digest, "manifest_url": url, "rows": 60}
    event = DatasetReady(event_id=event_id, ts_ms=1, recipe={"base": str(base), **recipe}, **known)
    await api.bus.publish(DATASETS_READY, [Outgoing(wire.encode(event), key="tickets")])


async def until_all_ended(api: Running) -> dict[str, Any]:
    """The runs by status, when all have one that lasts; the one that is to be cancelled is, while it waits."""
    while True:
        with api.registry.connect() as connection:
            found = [dict(row) for row in connection.execute(select(runs)).mappings()]
        for run in found:
            if run["recipe"].get("seed") == 9 and run["cancel_requested_ms"] is None:
                await api.client.post(f"/v1/runs/{run['run_id']}/cancel")
        if len(found) == len(ORDERS) and all(run["finished_ms"] for run in found):
            return {run["status"]: run for run in found}
        await asyncio.sleep(0.05)


async def until_all_delivered(api: Running) -> None:
    while True:
        (hook,) = (await api.client.get("/v1/webhooks")).json()["webhooks"]
        if hook["sent"] == len(ORDERS):
            return
        await asyncio.sleep(0.05)


async def told(api: Running) -> list[RunFinished]:
    messages = await api.bus.tail(RUNS_FINISHED, limit=50)
    return [wire.decode(message.value, RunFinished) for message in messages]


async def test_each_end_is_told_once_and_a_server_loads_what_succeeded(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "base", [m["content"] for row in tickets(60) for m in row["messages"]])
    with serving(lambda _: Answer(200)) as vllm, vllm_behind_the_receiver(vllm) as host:
        async with running_api(tmp_path, settings=Settings(webhook_hosts=(host,))) as api:
            hook = (await api.client.post("/v1/webhooks", json={"url": f"http://{host}/"})).json()
            Receiver.secret = hook["secret"]
            for name, recipe in ORDERS.items():
                await order(api, base, name, recipe)
            async with training(api, tmp_path / "work"):
                ended = await until_all_ended(api)
                await until_all_delivered(api)
            events = await told(api)
            models = (await api.client.get("/v1/runs", params={"status": "succeeded"})).json()["runs"]
    assert {event.status: event.run_id for event in events} == {name: ended[name]["run_id"] for name in ORDERS}
    assert len({event.event_id for event in events}) == len(events) == len(ORDERS)
    best = next(event for event in events if event.status == "succeeded")
    assert best.artefact_url == models[0]["artefact_url"]
    assert best.manifest_sha256 == models[0]["result"]["manifest_sha256"] != ""
    assert best.scores["after"]["loss"] < best.scores["before"]["loss"]
    (asked,) = vllm.asked
    assert (asked.path, asked.json()) == (
        "/v1/load_lora_adapter",
        {"lora_name": f"tickets-{best.run_id}", "lora_path": best.artefact_url},
    )
    for name in ("adapter_model.safetensors", "merged/model.safetensors"):
        assert (Path(asked.json()["lora_path"]) / name).exists()


def test_a_receiver_believes_only_what_is_signed_and_fresh() -> None:
    body = json.dumps({"type": "runs.finished", "data": {}}).encode()
    headers = signed_headers(SECRET, "e1", 1_000, body)
    assert opened(SECRET, headers, body, now_s=1_010) == json.loads(body)
    assert opened(SECRET, headers, body + b" ", now_s=1_010) is None
    assert opened("whsec_" + "b3RoZXI=", headers, body, now_s=1_010) is None
    assert opened(SECRET, headers, body, now_s=2_000) is None
    assert opened(SECRET, {}, body, now_s=1_010) is None
    for name in headers:  # as a header of any bytes is read
        assert opened(SECRET, {**headers, name: "v1,²"}, body, now_s=1_010) is None
    assert opened(SECRET, {**headers, "webhook-timestamp": "²"}, body, now_s=1_010) is None


@pytest.mark.parametrize("secret", ["", "whsec_", "no base64"])
def test_a_receiver_does_not_start_without_a_secret(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("TUNEMILL_WEBHOOK_SECRET", secret)
    with pytest.raises(SystemExit, match="TUNEMILL_WEBHOOK_SECRET"):
        load_adapter.main("127.0.0.1:no-port", "http://127.0.0.1:1")


def test_nobody_signs_for_a_receiver_without_a_secret() -> None:
    with pytest.raises(ValueError, match="the secret is empty"):
        opened("whsec_", signed_headers("whsec_", "e1", 1_000, b"{}"), b"{}", now_s=1_000)


@pytest.mark.parametrize(("length", "status"), [("1048577", 413), ("9" * 5_000, 413), ("-1", 411), ("x", 411)])
def test_a_receiver_reads_no_body_of_any_length(length: str, status: int) -> None:
    with serving(lambda _: Answer(200)) as vllm, vllm_behind_the_receiver(vllm) as host:
        Receiver.secret = SECRET
        name, port = host.split(":")
        with socket.create_connection((name, int(port)), timeout=10) as caller:
            caller.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
            answered = caller.makefile("rb").readline()
    assert answered.split()[1] == str(status).encode()


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("datasets.ready", {}),
        ("runs.finished", {"status": "rejected", "method": "lora"}),
        ("runs.finished", {"status": "succeeded", "method": "full"}),
    ],
)
def test_nothing_else_is_loaded(kind: str, run: dict[str, Any]) -> None:
    assert wanted({"type": kind, "data": run}) is None


def test_what_the_server_refuses_is_sent_again() -> None:
    def busy(_: Asked) -> Answer:
        return Answer(503)

    body = json.dumps(
        {
            "type": "runs.finished",
            "data": {"status": "succeeded", "method": "lora", "name": "n", "run_id": "r", "artefact_url": "/a"},
        }
    ).encode()
    with serving(busy) as vllm, vllm_behind_the_receiver(vllm) as host:
        Receiver.secret = SECRET
        answer = httpx.post(
            f"http://{host}/", content=body, headers=signed_headers(SECRET, "e1", int(time.time()), body)
        )
        forged = httpx.post(f"http://{host}/", content=body)
    assert (answer.status_code, forged.status_code, len(vllm.asked)) == (502, 401, 1)
