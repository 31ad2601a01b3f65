"""`tunemill rules` against a small server that answers as the API does, and against a real one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli import engines, jobs
from tunemill.cli.app import app
from tunemill.streams.rules import read_rules

REFUNDS = 'rules:\n  - {name: refunds, version: 2, tag: "topic:refund", any: [{in: user, literal: refund}]}\n'
WRONG = 'rules:\n  - {name: refunds, version: 2, tag: refund, any: [{in: user, regex: "("}]}\n'
IN_FORCE = {
    "revision": 3,
    "document": REFUNDS,
    "is_starter": False,
    "learned": ["a:b@1"],
    "by": "person:x",
    "created_ms": 0,
}
BACKFILL = {
    "backfill_id": "01ABC", "query": "refund", "revision": 3, "status": "running", "total": 10, "seen": 4, "changed": 2,
    "undone": 0, "logs_per_s": 2.0, "eta_s": 3.0, "error": None, "by": "person:x", "created_ms": 0, "finished_ms": None,
}  # fmt: skip
NONE: dict[str, Any] = {"count": 0, "log_ids": []}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(REFUNDS)
    return path


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_POLL_S", 0.01)


def run(*args: str, server: Server | None = None, columns: int = 200, stdin: str | None = None) -> Result:
    where = {"TUNEMILL_URL": server.url if server else "http://127.0.0.1:9", "COLUMNS": str(columns)}
    return CliRunner(env=where).invoke(app, ["rules", *args], input=stdin)


def in_turn(*answers: Any) -> Callable[[Asked], Answer]:
    left: Iterator[Any] = iter(answers)
    return lambda _asked: json_answer(next(left))


def test_a_service_says_why_it_does_not_start_with_the_rules_in_force() -> None:
    async def start() -> None:
        read_rules(WRONG)

    service = typer.Typer()
    service.command()(lambda: engines.run(start()))
    result = CliRunner().invoke(service)
    assert result.exit_code == 1
    assert "rules:2:38: rule refunds" in result.stderr
    assert "apply others" in result.stderr


def test_a_file_is_checked_without_a_server(file: Path) -> None:
    assert run("check", str(file)).exit_code == 0
    assert json.loads(run("check", str(file), "--json").stdout) == {"errors": []}


@pytest.mark.parametrize("command", ["check", "dry-run", "apply"])
def test_everything_that_is_wrong_is_said_by_line_and_column(file: Path, command: str) -> None:
    file.write_text(WRONG)
    result = run(command, str(file))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line.split(" ")[0] for line in lines] == [f"{file}:2:38:", f"{file}:2:70:"]
    assert "refunds" in lines[0]
    errors = json.loads(run(command, str(file), "--json").stdout)["errors"]
    assert [(one["line"], one["column"], one["rule"]) for one in errors] == [(2, 38, "refunds"), (2, 70, "refunds")]


def test_a_file_that_is_not_there_or_no_text_is_no_rules(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    missing, binary = (run("check", str(tmp_path / name)) for name in ("none.yaml", "bytes"))
    assert (missing.exit_code, binary.exit_code) == (2, 2)
    assert "No such file" in missing.stderr
    assert "not UTF-8" in binary.stderr


def test_rules_are_read_from_standard_input_as_they_are_printed() -> None:
    with serving(in_turn(IN_FORCE, IN_FORCE, IN_FORCE)) as server:
        printed = run("show", "--revision", "3", server=server).stdout
        assert run("apply", "-", server=server, stdin=printed).exit_code == 0
    assert json.loads(server.asked[2].body) == {"document": REFUNDS, "expected_revision": 3}


def test_the_rules_in_force_are_printed_as_they_can_be_applied_again() -> None:
    with serving(in_turn(IN_FORCE, IN_FORCE)) as server:
        result = run("show", server=server)
        run("show", "--revision", "2", server=server)
    assert result.stdout == REFUNDS
    assert "revision 3" in result.stderr
    assert "a:b@1" in result.stderr
    assert [asked.path for asked in server.asked] == ["/v1/rules", "/v1/rules/2"]


def test_a_dry_run_shows_what_would_change_by_tag(file: Path) -> None:
    effect = {"tag": "topic:refund", "added": {"count": 7, "log_ids": ["l1", "l2"]}, "removed": NONE, "kept": NONE}
    with serving(in_turn({"looked_at": 9, "changed": 7, "tags": [effect]})) as server:
        result = run("dry-run", str(file), "--query", "lang:en", "--limit", "9", server=server)
    assert "topic:refund" in result.stdout
    assert "l1, l2" in result.stdout
    assert "9 logs looked at; 7 would change" in result.stdout
    assert json.loads(server.asked[0].body) == {"document": REFUNDS, "query": "lang:en", "limit": 9}


def test_ids_are_whole_in_a_narrow_terminal() -> None:
    ids = [f"sha-{digit * 32}" for digit in "1234"]
    effect = {"tag": "topic:refund", "added": {"count": 7, "log_ids": ids}, "removed": NONE, "kept": NONE}
    with serving(in_turn({"looked_at": 9, "changed": 7, "tags": [effect]})) as server:
        result = run("dry-run", server=server, columns=60)
    assert "\u2026" not in result.stdout
    assert all(result.stdout.count(digit) >= 32 for digit in "123")


def test_rules_are_put_in_force(file: Path) -> None:
    with serving(in_turn(IN_FORCE, IN_FORCE)) as server:
        result = run("apply", str(file), server=server)
    assert "revision 3 is in force" in result.stdout
    assert result.stderr == ""
    assert json.loads(server.asked[1].body) == {"document": REFUNDS, "expected_revision": 3}


def test_the_starter_set_is_gone_back_to() -> None:
    with serving(in_turn({**IN_FORCE, "revision": 4, "is_starter": True})) as server:
        result = run("reset", server=server)
    assert result.stdout.strip() == "revision 4 is in force: the starter set."
    assert (server.asked[0].method, server.asked[0].path) == ("DELETE", "/v1/rules")


def test_a_change_that_may_not_be_meant_is_pointed_at(file: Path) -> None:
    file.write_text(REFUNDS.replace("literal: refund", "literal: money"))
    before = {**IN_FORCE, "document": f"private_data: ingest\n{REFUNDS}"}
    with serving(in_turn(before, IN_FORCE, {**IN_FORCE, "document": WRONG}, IN_FORCE)) as server:
        changed, unknown = run("apply", str(file), server=server), run("apply", str(file), server=server)
    assert (changed.exit_code, unknown.exit_code, unknown.stderr) == (0, 0, "")
    assert "`private_data` is snapshot now; it was ingest" in changed.stderr
    assert "rule refunds was changed and is still version 2" in changed.stderr


def test_a_backfill_shows_its_progress_and_how_it_ended() -> None:
    done = {**BACKFILL, "status": "done", "seen": 10, "eta_s": None}
    with serving(in_turn(BACKFILL, BACKFILL, {**BACKFILL, "logs_per_s": 1.0, "eta_s": 6.0}, done)) as server:
        result = run("backfill", "--query", "refund", server=server)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "01ABC: 4 of 10 logs, 2 changed, 2 logs/s, 3 s left",
        "done: 01ABC: 10 of 10 logs, 2 changed, 2 logs/s",
    ]
    assert json.loads(server.asked[0].body) == {"query": "refund"}


def test_a_backfill_that_did_not_end_well_is_exit_code_1() -> None:
    failed = {**BACKFILL, "status": "failed", "error": {"code": "internal", "message": "unforeseen X"}}
    with serving(in_turn(failed, failed)) as server:
        result = run("watch", "01ABC", server=server)
        assert json.loads(run("watch", "01ABC", "--json", server=server).stdout) == failed
    assert result.exit_code == 1
    assert "unforeseen X" in result.stdout


def test_a_backfill_that_is_left_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", leave)
    with serving(in_turn(BACKFILL, BACKFILL)) as server:
        result = run("backfill", server=server)
    assert result.exit_code == 0
    assert "tunemill rules watch 01ABC" in result.stderr
    assert len(server.asked) == 2


def test_a_backfill_is_undone_and_listed() -> None:
    undone = {**BACKFILL, "status": "undone", "undone": 2, "logs_per_s": None, "eta_s": None}
    with serving(in_turn({**BACKFILL, "status": "undoing"}, undone, {"backfills": [undone]}, BACKFILL)) as server:
        assert "2 of them taken back" in run("undo", "01ABC", server=server).stdout
        assert "01ABC" in run("backfills", server=server).stdout
        assert "stopped" in run("cancel", "01ABC", server=server).stdout
    assert [(asked.method, asked.path) for asked in server.asked] == [
        ("POST", "/v1/backfills/01ABC/undo"),
        ("GET", "/v1/backfills/01ABC"),
        ("GET", "/v1/backfills"),
        ("POST", "/v1/backfills/01ABC/cancel"),
    ]
