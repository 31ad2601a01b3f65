"""Every client, every case, over HTTP: the real client calls, its log is searched for and compared field by field."""

import base64
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clients.calls import MODEL_KEY
from clients.case import PIXEL, Case
from clients.compare import caller_differences, known
from clients.drive import drive
from clients.gaps import GAPS, STRAY
from clients.receiver import Receiver, is_ready
from clients.roster import CLIENTS, Client
from clients.table import table
from engines.process import free_port, running
from fakes.model_server import model_server

KEY = "tm_" + "clients" * 6
CELLS = [(client, case) for client in CLIENTS for case in client.cases]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("clients")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tunemill.cli", "up", "--port", str(port), "--data", str(folder), "--key", KEY]
    with (
        running(command, log=folder / "up.log", answers=lambda: is_ready(url)),
        model_server() as model,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as api,
    ):
        yield Receiver(api, lambda client: drive(client, model_url=f"{model.url}/v1", to=url, key=KEY))


@pytest.mark.parametrize(("client", "case"), CELLS, ids=[f"{client.name}-{case.name}" for client, case in CELLS])
def test_a_call_arrives_whole(receiver: Receiver, client: Client, case: Case) -> None:
    log = receiver.log(client, case)
    differ = receiver.differences(client, case, log)
    assert set(differ) == known(client.name, case), differ
    assert receiver.sent(client).told[case.name].get("trace_id") in (None, log.trace_id)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_each_call_counts_once(receiver: Receiver, client: Client) -> None:
    assert receiver.sent(client).logs == len(client.cases) + STRAY.get(client.name, 0)


@pytest.mark.parametrize(
    "client", [client for client in CLIENTS if client.tells_caller], ids=lambda client: client.name
)
def test_what_is_said_beside_a_call_arrives(receiver: Receiver, client: Client) -> None:
    log = receiver.log(client, client.cases[0])
    assert caller_differences(log, model=receiver.model(client, client.cases[0])) == {}


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.scores], ids=lambda client: client.name)
def test_a_score_arrives_as_feedback(receiver: Receiver, client: Client) -> None:
    (feedback,) = receiver.feedback(client, client.cases[0])
    assert (feedback["name"], feedback["score"], feedback["comment"]) == ("helpful", 0.75, "of plain")


@pytest.mark.parametrize(
    "client", [client for client in CLIENTS if client.package == "langfuse"], ids=lambda one: one.name
)
def test_a_picture_that_langfuse_uploads_can_be_had_again(receiver: Receiver, client: Client) -> None:
    (image,) = (case for case in client.cases if case.name == "image")
    (message,) = receiver.log(client, image).messages
    token = re.fullmatch(
        r"@@@langfuseMedia:type=image/png\|id=(.+)\|source=.+@@@", message.parts[1]["image_url"]["url"]
    )
    assert token
    told = receiver.api.get(f"/api/public/media/{token[1]}").raise_for_status().json()
    assert httpx.get(told["url"]).raise_for_status().content == base64.b64decode(PIXEL)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_no_key_is_in_a_log(receiver: Receiver, client: Client) -> None:
    logs = [receiver.answer(receiver.log(client, case).log_id) for case in client.cases]
    assert [log["log_id"] for log in logs if KEY in str(log) or MODEL_KEY in str(log)] == []


def test_the_documents_hold_the_table_of_clients_and_cases() -> None:
    stated = (Path(__file__).parents[2] / "docs" / "sources" / "README.md").read_text(encoding="utf-8")
    assert table() in stated, f"docs/sources/README.md should hold:\n{table()}"


def test_every_gap_is_of_a_cell_of_the_table() -> None:
    cells = {(client.name, case.name) for client, case in CELLS}
    assert {(client, case) for client, case, _ in GAPS} <= cells
