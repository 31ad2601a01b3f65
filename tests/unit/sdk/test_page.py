"""The Python on the SDK's pages runs as it stands, but for addresses and folders."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, json_answer, serving
from fakes.log_server import LogServer, log_server
from openai import OpenAI

DOCS = Path(__file__).parents[3] / "docs"
ANSWER = {
    "id": "r1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yo"}, "finish_reason": "stop"}],
}


def answer(asked: Asked) -> Answer:
    assert asked.path == "/v1/chat/completions"
    return json_answer(ANSWER)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogServer]:
    with serving(answer) as model, log_server() as logs:
        monkeypatch.setenv("OPENAI_BASE_URL", model.url + "/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
        yield logs
        logging.getLogger("shop").handlers.clear()


def run(page: str, server: LogServer, **names: Any) -> dict[str, Any]:
    """Every block of a page, one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        code = block.replace("http://127.0.0.1:8000", server.url).replace(
            "/var/lib/shop/spool", str(names.get("folder"))
        )
        exec(code, names)
    return names


def test_the_sdks_page_runs(server: LogServer, tmp_path: Path) -> None:
    logging.getLogger("shop").setLevel(logging.INFO)
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    names = run("sdk.md", server, folder=tmp_path, url=server.url, request=request, answer=ANSWER)
    names["client"].close()
    names["patient"].close()
    names["producer"].close()
    assert [log.output[0].content for log in server.logs] == ["yo", "4", "yo", "yo"]
    assert (server.logs[0].session_id, server.logs[0].consent, server.logs[0].app) == (
        "conversation-17",
        "train",
        "support",
    )
    assert server.logs[2].latency_ms == 812.0


def test_the_page_of_openais_client_runs(server: LogServer) -> None:
    names = run("sources/openai-sdk.md", server, OpenAI=OpenAI)
    with names["client"] as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    names["producer"].close()
    assert server.logs[0].app == "support"
