"""`tunemill logs` against a small server that answers as the API does."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from fakes.page_source import log, message
from typer.testing import CliRunner, Result

from tunemill.cli.app import app

EDIT = {"revision": 3, "kind": "messages", "tag": None, "value": None, "as_it_came": False, "why": "sums"}
WHO = {"by": "person:ann", "ts_ms": 0, "job_id": None}
SAID = {"name": "helpful", "score": 0.0, "label": None, "comment": "\x1b[2Jno", "correction": "5"}
LOG = log("svc/1", "2+3?", "six", feedback=[SAID], revision=4, original={"messages": [], "output": []}) | {
    "output": [message("assistant", "six"), message("assistant", "eight")],
    "edits": [
        {**EDIT, **WHO},
        {**EDIT, **WHO, "revision": 4, "kind": "tag", "tag": "team:x", "value": None, "why": None},
    ],
}


def answer(asked: Asked) -> Answer:
    if asked.method == "DELETE":
        return json_answer({"erasure_id": "e", "found": True}, 202)
    if asked.path.endswith("/tags"):
        return json_answer({"tags": ["team:x"], "revision": 5})
    return json_answer(LOG if asked.method == "GET" else {**LOG, "revision": 5})


def run(server: Server, *args: str, stdin: bytes | str | None = None) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, ["logs", *args], input=stdin)


def test_a_log_is_shown_as_text_with_its_history() -> None:
    with serving(answer) as server:
        result = run(server, "show", "svc/1")
        whole = run(server, "show", "svc/1", "--json")
    assert result.exit_code == 0, result.output
    assert server.asked[0].path == "/v1/logs/svc%2F1"
    assert "2+3?" in result.stdout and "six" in result.stdout and "\x1b[2J" not in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("r")]
    assert ["r3", "messages", "person:ann", "1970-01-01", "00:00:00", "sums"] in rows
    assert ["r4", "tag", "team:x", "person:ann", "1970-01-01", "00:00:00", "-"] in rows
    assert "and 2 earlier" in result.stdout
    assert json.loads(whole.stdout) == LOG


def sent_by(*args: str, stdin: str | None = None) -> tuple[str, str, dict[str, Any]]:
    """The last request that a command makes."""
    with serving(answer) as server:
        result = run(server, *args, stdin=stdin)
    assert result.exit_code == 0, result.output
    last = server.asked[-1]
    return last.method, last.path, last.json() if last.body else {}


def test_an_answer_takes_the_place_of_the_first_one_unless_somebody_else_was_quicker() -> None:
    method, path, sent = sent_by("edit", "svc/1", "--answer", "five", "--why", "wrong sum")
    assert (method, path) == ("PATCH", "/v1/logs/svc%2F1")
    assert sent == {
        "output": [{"role": "assistant", "content": "five"}, message("assistant", "eight")],
        "why": "wrong sum",
        "expected_revision": 4,
    }


@pytest.mark.parametrize(("more", "seen"), [((), 4), (("--revision", "3"), 3)])
def test_messages_come_from_what_show_printed(more: tuple[str, ...], seen: int) -> None:
    _, _, sent = sent_by("edit", "svc/1", "--messages", "-", *more, stdin=json.dumps(LOG))
    assert sent == {"messages": LOG["messages"], "output": LOG["output"], "why": None, "expected_revision": seen}


@pytest.mark.parametrize(
    ("args", "path", "sent"),
    [
        (("tag", "a", "--add", "t:x", "--remove", "t:y"), "/v1/logs/a/tags", {"add": ["t:x"], "remove": ["t:y"]}),
        (("consent", "a", "none"), "/v1/logs/a", {"consent": "none", "why": None, "expected_revision": None}),
        (("consent", "a", "as-it-came"), "/v1/logs/a", {"consent": None, "why": None, "expected_revision": None}),
        (("revert", "a", "--why", "no"), "/v1/logs/a/revert", {"revision": 0, "why": "no"}),
        (("revert", "a", "--to", "2", "--revision", "4"), "/v1/logs/a/revert", {"revision": 2, "expected_revision": 4}),
        (("delete", "a", "--yes"), "/v1/logs/a", {}),
    ],
)
def test_each_command_asks_for_what_it_says(args: tuple[str, ...], path: str, sent: dict[str, Any]) -> None:
    assert sent_by(*args)[1:] == (path, sent)


def test_nothing_is_deleted_unless_the_person_says_yes() -> None:
    with serving(answer) as server:
        assert run(server, "delete", "a", stdin="n\n").exit_code == 1
        assert server.asked == []
        assert run(server, "delete", "a", stdin="y\n").exit_code == 0


@pytest.mark.parametrize(
    "args",
    [
        ("edit", "a"),
        ("edit", "a", "--answer", "x", "--messages", "f"),
        ("edit", "a", "--messages", "absent"),
        ("edit", "a", "--messages", "-"),
        ("tag", "a"),
        ("consent", "a", "perhaps"),
    ],
)
def test_a_command_that_is_wrong_sends_nothing(
    args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(answer) as server:
        assert run(server, *args, stdin='{"text": "no messages"}').exit_code == 2
        assert server.asked == []
