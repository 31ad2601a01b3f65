"""Everything in the README is run: its commands in its order, its Python as it stands, and every setting is documented."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from engines.process import free_port
from fakes.http_server import json_answer, serving

from tunemill.cli.settings import ENVIRONMENT

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEADLINE_S = 120.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_first_two_commands_are_targets_of_the_makefile() -> None:
    demo, test, *_ = blocks("sh")
    assert (demo, test) == ("make demo\n", "make test\n")
    for target in ("demo", "test"):
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert ".venv/bin" in done.stdout


def test_the_quick_start_works_as_it_stands(tmp_path: Path) -> None:
    _, _, server_block, *client_blocks = blocks("sh")
    key = re.search(r"TUNEMILL_KEY=(\S+)", server_block)
    assert key
    assert key[1] in client_blocks[0]
    port = free_port()
    environment = {**os.environ, "TUNEMILL_KEY": key[1], "TUNEMILL_URL": f"http://127.0.0.1:{port}"}
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with _server(_commands(server_block), port, environment, tmp_path):
        for line in [line for block in client_blocks for line in _commands(block)]:
            command, file = (line[:-2], line[-1]) if ">" in line else (line, None)
            done = subprocess.run(
                _tunemill(command), env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
            if file:
                (tmp_path / file).write_text(done.stdout, encoding="utf-8")
            if command[1] == "ingest":
                _until(lambda: _total(port, key[1]) >= 900, "the sample logs can be found")
        exported = [json.loads(line) for line in (tmp_path / "tickets.jsonl").read_text().splitlines()]
        assert len(exported) > 400
        assert exported[0]["messages"][-1]["role"] == "assistant"
        for command, shown in _session():
            _until(partial(_prints, command, shown, environment, tmp_path), f"{command} prints what the README shows")
        before = _total(port, key[1])
        _run_python(blocks("python")[0], port)
        _until(lambda: _total(port, key[1]) == before + 1, "the application's call can be found")


def test_every_setting_is_documented() -> None:
    documented = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert len(ENVIRONMENT) > 5
    for name, meaning in ENVIRONMENT.items():
        assert f"| `{name}` | {meaning} |" in documented


def _commands(block: str) -> list[list[str]]:
    """The tunemill commands of a block; the rest of it prepares the shell."""
    return [shlex.split(line) for line in block.splitlines() if line.startswith("tunemill ")]


def _session() -> Iterator[tuple[list[str], list[str]]]:
    """The commands of the session, each with the lines that are shown under it; `...` stands for lines that are not."""
    for entry in "".join(blocks("console")).removeprefix("$ ").split("\n$ "):
        command, *shown = entry.splitlines()
        yield shlex.split(command), [line for line in shown if line.strip() != "..."]


def _prints(command: list[str], shown: list[str], environment: dict[str, str], folder: Path) -> bool:
    """Whether a command prints these lines in this order. Only a search may be asked again: for what is still on its way."""
    done = subprocess.run(_tunemill(command), env=environment, cwd=folder, capture_output=True, text=True, check=False)
    printed = iter(line.rstrip() for line in done.stdout.splitlines())
    is_right = done.returncode == 0 and all(line in printed for line in shown)
    assert is_right or command[1] == "search", f"{command}: {done.stdout} {done.stderr}"
    return is_right


def _tunemill(command: list[str]) -> list[str]:
    return [sys.executable, "-m", "tunemill.cli", *command[1:]]


@contextmanager
def _server(commands: list[list[str]], port: int, environment: dict[str, str], folder: Path) -> Iterator[None]:
    (command,) = commands
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(
            [*_tunemill(command), "--port", str(port)], env=environment, cwd=folder, stdout=output, stderr=output
        )
    try:
        _until(lambda: _is_ready(port), "the server is ready")
        yield
    finally:
        process.terminate()
        process.wait(60)


def _run_python(code: str, port: int) -> None:
    """The README's application, against a model server of our own."""
    completion = {
        "id": "chatcmpl-readme",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "At the door."}}],
    }
    with serving(lambda _request: json_answer(completion)) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "none"}
        code = code.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}")
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr


def _total(port: int, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    answer: Any = httpx.get(f"http://127.0.0.1:{port}/v1/search?limit=1", headers=headers, timeout=30).json()
    return int(answer["total"])


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").is_success
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"after {DEADLINE_S:.0f} s it is not true that {what}")
