"""The callback with the real LiteLLM, in an environment of its own: each call arrives once, whole, and without secrets."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import ulid
from clients.environments import EnvironmentAbsent, environment
from engines.absent import skip_or_fail
from fakes.http_server import Answer, Asked, json_answer, serving
from fakes.log_server import LogServer, log_server

from tunemill.schemas.records import LogRecord, ToolCall, Usage

SOURCES = Path(__file__).parents[3] / "src"
SECRETS = (b"sk-secret", b"hush", b"private words", b"Traceback")
CALLS = [{"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}]

SCRIPT = """
import asyncio, os, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm, openai
from tunemill.sdk import Producer
from tunemill.sdk.litellm import TunemillLogger

model_url, log_url = sys.argv[1:]
producer = Producer(log_url, app="shop")

class Twice(TunemillLogger):  # as some versions of LiteLLM tell some calls
    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        for _ in range(2):
            super().log_success_event(kwargs, response_obj, start_time, end_time)

litellm.callbacks = [Twice(producer)]
common = dict(
    messages=[{"role": "user", "content": "hi"}], api_base=model_url + "/v1", api_key="sk-secret",
    extra_headers={"X-Key": "hush"}, num_retries=0, max_retries=0, temperature=0.5, user="u1",
    metadata={"tags": ["team:blue"], "session_id": "s1", "build": 12, "tenant": "acme"},
)

def asked(name, **more):
    return {**common, "model": f"openai/{name}", **more}

def failing(call):
    try:
        call()
    except openai.APIError as error:
        print(type(error).__name__, file=sys.stderr)
    else:
        raise AssertionError("it should have failed")

litellm.completion(**asked("sync"))
assert len(list(litellm.completion(**asked("sync-stream", stream=True)))) > 1
failing(lambda: litellm.completion(**asked("sync-broken")))

async def main():
    await litellm.acompletion(**asked("async"))
    stream = await litellm.acompletion(**asked("async-stream", stream=True))
    assert len([chunk async for chunk in stream]) > 1
    try:
        await litellm.acompletion(**asked("async-broken"))
    except openai.APIError:
        pass
    for _ in range(500):
        if producer.stats().logged >= 6:
            break
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)  # for those that would be told twice

asyncio.run(main())
producer.close()
print(producer.stats())
"""


def answer(asked: Asked) -> Answer:
    request = asked.json()
    model = request["model"]
    if "broken" in model:
        return json_answer({"error": {"message": "private words for sk-secret", "type": "server_error"}}, 500)
    head = {"id": f"r-{model}", "created": 1, "model": model}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    if request.get("stream"):
        deltas: list[tuple[dict[str, Any], str | None]] = [
            ({"role": "assistant", "content": "yo "}, None),
            ({"content": "there"}, None),
            ({"tool_calls": CALLS}, None),
            ({}, "tool_calls"),
        ]
        chunks = [
            {**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
            for delta, end in deltas
        ]
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        return Answer(200, "".join([*events, "data: [DONE]\n\n"]).encode(), "text/event-stream")
    message = {"role": "assistant", "content": "yo there", "tool_calls": [{**CALLS[0]}]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    return json_answer({**head, "object": "chat.completion", "choices": choices, "usage": usage})


def in_litellms_environment(script: str, folder: Path, *arguments: str, **more: str) -> str:
    try:
        python = environment("litellm")
    except EnvironmentAbsent as absent:
        skip_or_fail(str(absent))
    for module in (msgspec, ulid):  # what the SDK needs; the environment has the same Python
        (folder / module.__name__).symlink_to(Path(str(module.__file__)).parent)
    env = {"PYTHONPATH": f"{SOURCES}:{folder}", "HOME": os.environ.get("HOME", ""), "PATH": os.environ["PATH"], **more}
    done = subprocess.run(
        [python, "-c", script, *arguments], capture_output=True, text=True, timeout=120, env=env, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogServer]:
    """What arrived of one run of all calls."""
    with serving(answer) as model, log_server() as server:
        in_litellms_environment(SCRIPT, tmp_path_factory.mktemp("links"), model.url, server.url)
        yield server


def test_each_call_is_logged_once(logs: LogServer) -> None:
    names = ("sync", "sync-stream", "sync-broken", "async", "async-stream", "async-broken")
    assert Counter(str(log.model).removeprefix("openai/") for log in logs.logs) == Counter(names)


@pytest.mark.parametrize("name", ["sync", "sync-stream", "async", "async-stream"])
def test_an_answered_call_arrives_whole(logs: LogServer, name: str) -> None:
    (log,) = of_model(logs, name)
    assert [message.content for message in (*log.messages, *log.output)] == ["hi", "yo there"]
    assert log.output[0].tool_calls == (ToolCall(name="add", arguments='{"a":1}', id="c1"),)
    assert (log.status, log.finish_reason, log.provider, log.user_id) == ("ok", "tool_calls", "openai", "u1")
    assert log.app == "shop"
    assert log.params is not None
    assert log.params["temperature"] == 0.5
    assert (log.tags, log.session_id, log.source) == (("team:blue",), "s1", "litellm")
    assert log.metadata == {"build": "12", "tenant": "acme"}
    assert log.latency_ms is not None
    assert log.cost_usd is None, "a price that LiteLLM does not know is not zero"
    if "stream" not in name:
        assert log.usage == Usage(input_tokens=5, output_tokens=2)


@pytest.mark.parametrize("name", ["sync-broken", "async-broken"])
def test_a_failed_call_arrives_by_its_error(logs: LogServer, name: str) -> None:
    (log,) = of_model(logs, name)
    assert (log.status, log.output) == ("error", ())
    assert log.error in ("InternalServerError", "500")


def test_no_secret_leaves_the_application(logs: LogServer) -> None:
    sent = b"".join(asked.body for asked in logs.asked)
    assert [secret for secret in SECRETS if secret in sent] == []


def test_text_that_is_switched_off_does_not_leave_the_application(tmp_path: Path) -> None:
    script = SCRIPT.replace("Twice(producer)", "Twice(producer, turn_off_message_logging=True)")
    with serving(answer) as model, log_server() as logs:
        in_litellms_environment(script, tmp_path, model.url, logs.url)
    assert len(logs.logs) == 6
    sent = b"".join(asked.body for asked in logs.asked)
    assert [text for text in (b'"hi"', b"yo there") if text in sent] == []


def test_the_proxy_finds_a_logger_made_from_the_environment(tmp_path: Path) -> None:
    script = """
from litellm.proxy.types_utils.utils import get_instance_fn
logger = get_instance_fn("tunemill.sdk.litellm.logger", config_file_path="/etc/litellm/config.yaml")
assert logger is get_instance_fn("tunemill.sdk.litellm.logger")
print(type(logger).__name__)
"""
    said = in_litellms_environment(script, tmp_path, TUNEMILL_URL="http://127.0.0.1:9", TUNEMILL_KEY="k")
    assert said == "TunemillLogger\n"


def of_model(logs: LogServer, name: str) -> list[LogRecord]:
    return [log for log in logs.logs if str(log.model).removeprefix("openai/") == name]
