"""The clients that can send over Kafka, on a real broker and a real Elasticsearch: the cells of the table, as over HTTP.

OTLP is published as the OpenTelemetry Collector's Kafka exporter does it: a request's bytes are a message.
"""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from clients.case import Case
from clients.compare import caller_differences, known
from clients.drive import Told, drive
from clients.receiver import Receiver, is_ready
from clients.roster import KAFKA_CLIENTS, Client
from engines.process import free_port, running
from fakes.http_server import json_answer, serving
from fakes.model_server import model_server
from fakes.schema_registry import schema_registry

from tunemill.bus.open import open_bus
from tunemill.bus.port import Outgoing
from tunemill.schemas.topics import LOGS

pytestmark = pytest.mark.live

KEY = "tm_livetest0_" + "c" * 40
SCHEMAS = Path(__file__).parents[2] / "schemas" / "avro"
CELLS = [(client, case) for client in KAFKA_CLIENTS for case in client.cases]


class Senders:
    """Runs clients towards the broker."""

    def __init__(self, kafka_url: str, model_url: str, registry_url: str, run: str) -> None:
        self._kafka_url, self._model_url, self._registry_url, self._run = kafka_url, model_url, registry_url, run

    def send(self, client: Client) -> Told:
        """Run a client with all its cases."""
        if client.collected:
            return self._collected(client)
        arguments = ["--registry", self._registry_url, "--schemas", str(SCHEMAS), "--topic", LOGS.name]
        return self._drive(client, self._kafka_url, arguments if client.name == "confluent" else [])

    def _collected(self, client: Client) -> Told:
        with serving(lambda _request: json_answer({})) as collector:
            told = self._drive(client, collector.url)
        messages = [Outgoing(asked.body) for asked in collector.asked]
        asyncio.run(self._publish([*messages, *messages]))  # a Collector sends again what was not acknowledged
        return told

    async def _publish(self, messages: list[Outgoing]) -> None:
        bus = open_bus(self._kafka_url)
        try:
            await bus.publish(LOGS, messages)
        finally:
            await bus.close()

    def _drive(self, client: Client, to: str, arguments: list[str] | None = None) -> Told:
        return drive(client, model_url=self._model_url, to=to, key=KEY, run=self._run, arguments=arguments or ())


@pytest.fixture(scope="module")
def receiver(kafka_url: str, elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("clients-live")
    run = f"-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        registry, model = stack.enter_context(schema_registry()), stack.enter_context(model_server())
        settings = {
            "TUNEMILL_BUS_URL": kafka_url,
            "TUNEMILL_INDEX_URL": elasticsearch_url,
            "TUNEMILL_REGISTRY_URL": f"sqlite:///{folder / 'registry.db'}",
            "TUNEMILL_FILES_URL": str(folder / "files"),
            "TUNEMILL_SCHEMA_REGISTRY_URL": registry.url,
            "TUNEMILL_KEY": KEY,
        }
        environment = ["env", *(f"{name}={value}" for name, value in settings.items())]
        tunemill = [*environment, sys.executable, "-m", "tunemill.cli"]
        subprocess.run([*tunemill, "setup"], check=True)
        urls = {}
        for service in ("api", "streams"):
            port = free_port()
            urls[service] = f"http://127.0.0.1:{port}"
            command = [*tunemill, service, "--port", str(port)]
            stack.enter_context(
                running(command, log=folder / f"{service}.log", answers=lambda url=urls[service]: is_ready(url))
            )
        headers = {"Authorization": f"Bearer {KEY}"}
        api = stack.enter_context(httpx.Client(base_url=urls["api"], headers=headers, timeout=30))
        senders = Senders(kafka_url, f"{model.url}/v1", registry.url, run)
        yield Receiver(api, senders.send, run=run)


@pytest.mark.parametrize(("client", "case"), CELLS, ids=[f"{client.name}-{case.name}" for client, case in CELLS])
def test_a_call_arrives_whole(receiver: Receiver, client: Client, case: Case) -> None:
    log = receiver.log(client, case)
    differ = receiver.differences(client, case, log)
    assert set(differ) == known(client.name, case), differ
    assert receiver.sent(client).told[case.name].get("trace_id") in (None, log.trace_id)


@pytest.mark.parametrize(
    "client", [client for client in KAFKA_CLIENTS if client.tells_caller], ids=lambda client: client.name
)
def test_what_is_said_beside_a_call_arrives(receiver: Receiver, client: Client) -> None:
    log = receiver.log(client, client.cases[0])
    assert caller_differences(log, model=receiver.model(client, client.cases[0])) == {}


@pytest.mark.parametrize("client", KAFKA_CLIENTS, ids=lambda client: client.name)
def test_each_call_counts_once(receiver: Receiver, client: Client) -> None:
    assert receiver.sent(client).logs == len(client.cases)
