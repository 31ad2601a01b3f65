"""`tunemill erase` against a small server that answers as the API does."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli import erase
from tunemill.cli.app import app

RUNNING = {
    "request_id": "01ABC", "kind": "subject", "scope_digest": "d", "status": "running", "steps": ["find"], "logs": 2,
    "waits_for": None, "stores": [], "versions": [], "runs": [], "verified": False, "error": None, "by": "p", "created_ms": 1,
    "finished_ms": None,
}  # fmt: skip
DONE = RUNNING | {
    "status": "done",
    "verified": True,
    "stores": [{"store": "topic llm.logs", "removed": 2, "kept_until_ms": None, "note": None}],
    "versions": [{"name": "d", "version": 1, "revision": 2, "rows_removed": 1, "digest": "x", "replaces_digest": "y"}],
    "runs": [
        {
            "run_id": "r",
            "name": "d",
            "version": 1,
            "status": "ok",
            "artefact_url": None,
            "exposure": "exposed",
            "aliases": ["champion"],
        }
    ],
}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "_POLL_S", 0.01)


def run(*args: str, server: Server) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, ("erase", *args))


def in_turn(*answers: Any) -> Callable[[Asked], Answer]:
    left: Iterator[Any] = iter(answers)
    return lambda _asked: json_answer(next(left))


@pytest.mark.parametrize(
    ("option", "sent"),
    [
        (("--subject", "u"), {"subject": "u"}),
        (("--log", "l"), {"log_id": "l"}),
        (("--query", "q"), {"query": "q", "expected_total": 2}),
    ],
)
def test_it_waits_and_prints_the_receipt(option: tuple[str, ...], sent: dict[str, Any]) -> None:
    with serving(in_turn({"total": 2}, RUNNING, RUNNING, DONE)) as server:
        result = run(*option, "--yes", "--json", server=server)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == DONE
    assert json.loads(server.asked[1].body) == sent


def test_it_is_found_among_the_commands_of_datasets() -> None:
    with serving(in_turn({"total": 2}, DONE)) as server:
        environment = {"TUNEMILL_URL": server.url}
        result = CliRunner(env=environment).invoke(app, ("dataset", "erase", "--log", "l", "--yes", "--json"))
    assert json.loads(result.stdout) == DONE


def test_an_id_that_the_index_does_not_have_is_said() -> None:
    with serving(in_turn({"total": 0}, DONE)) as server:
        assert "the index has no log typo" in run("--log", "typo", "--yes", server=server).stderr


def test_it_says_which_erasure_it_waits_for() -> None:
    waiting = RUNNING | {"steps": [], "waits_for": "01AAA"}
    with serving(in_turn({"total": 2}, waiting, waiting, RUNNING, DONE)) as server:
        result = run("--subject", "u", "--yes", server=server)
    assert result.stdout.splitlines()[:2] == ["waits for the erasure 01AAA: one is done at a time", "find"]


@pytest.mark.parametrize("end", [DONE | {"verified": False}, DONE | {"status": "failed", "error": "why"}])
def test_what_was_not_verified_ends_with_one(end: dict[str, Any]) -> None:
    with serving(in_turn({"total": 2}, RUNNING, end)) as server:
        result = run("--subject", "u", "--yes", server=server)
    assert result.exit_code == 1
    assert "d@v1" in result.stdout and "exposed" in result.stdout
    assert (end["error"] or "not verified") in result.output


def test_nothing_is_erased_that_nobody_agreed_to() -> None:
    with serving(in_turn({"total": 2})) as server:
        assert run("--subject", "u", server=server).exit_code == 2
        assert run(server=server).exit_code == 2
        assert run("--subject", "u", "--log", "l", "--yes", server=server).exit_code == 2
    assert len(server.asked) == 1
