"""`tunemill bulk` and `tunemill jobs` against a small server that answers as the API does."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli import bulk, jobs
from tunemill.cli.app import app

JOB = {
    "job_id": "01ABC", "kind": "tags", "query": "refund", "work": {"add": ["team:x"]}, "why": None, "revision": None,
    "status": "running", "waits_for": None, "total": 10, "seen": 4, "changed": 2, "undone": 0, "can_be_undone": True,
    "logs_per_s": 2.0, "eta_s": 3.0, "result": None, "error": None, "by": "person:x", "created_ms": 0,
    "finished_ms": None,
}  # fmt: skip
DONE = {**JOB, "status": "done", "seen": 10, "eta_s": None}
COUNTED = {"total": 10, "log_ids": ["a"]}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_POLL_S", 0.01)


def run(*args: str, server: Server, stdin: str | None = None) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, args, input=stdin)


def in_turn(*answers: Any) -> Callable[[Asked], Answer]:
    left: Iterator[Any] = iter(answers)
    return lambda _asked: json_answer(next(left))


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (
            ("tag", "refund", "--add", "team:x", "--add", "team:y", "--remove", "team:z", "--why", "a reason"),
            {"kind": "tags", "add": ["team:x", "team:y"], "remove": ["team:z"], "why": "a reason"},
        ),
        (("consent", "refund", "none"), {"kind": "consent", "consent": "none"}),
        (("delete", "refund"), {"kind": "delete", "everything": False}),
    ],
)
def test_what_matches_is_counted_first_and_followed_to_its_end(command: tuple[str, ...], sent: dict[str, Any]) -> None:
    with serving(in_turn(COUNTED, JOB, {**JOB, "waits_for": "01AAA"}, JOB, DONE)) as server:
        result = run("bulk", *command, "--yes", server=server)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "10 logs match",
        "01ABC: 4 of 10 logs, 2 changed, 2 logs/s, 3 s left, waits for 01AAA",
        "01ABC: 4 of 10 logs, 2 changed, 2 logs/s, 3 s left",
        "done: 01ABC: 10 of 10 logs, 2 changed, 2 logs/s",
        "`tunemill jobs undo 01ABC` takes it back",
    ]
    first, second = (json.loads(asked.body) for asked in server.asked[:2])
    assert first == {**sent, "query": "refund", "dry_run": True}
    assert second == {**sent, "query": "refund", "expected_total": 10}
    keys = [asked.headers.get("idempotency-key") for asked in server.asked[:3]]
    assert keys[0] is None and keys[1] and keys[2] is None


def test_a_job_whose_answer_was_cut_off_is_asked_for_once_more_by_its_key() -> None:
    cut = Answer(202, json.dumps(JOB).encode(), sent=5)
    answers = iter([json_answer(COUNTED), cut, json_answer(JOB), json_answer(DONE)])
    with serving(lambda _asked: next(answers)) as server:
        result = run("bulk", "delete", "refund", "--yes", server=server)
    assert result.exit_code == 0, result.stderr
    first, second = server.asked[1:3]
    assert first.json() == second.json()
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    with serving(lambda _asked: Answer(200, b"{}", sent=1)) as server:
        assert run("bulk", "delete", "refund", "--yes", server=server).exit_code == 1
    assert len(server.asked) == 1  # the count, which has no key


def test_where_nothing_matches_no_job_is_begun() -> None:
    nothing = {"total": 0, "log_ids": []}
    for more, told in (((), "nothing matches, so nothing is done\n"), (("--json",), json.dumps(nothing) + "\n")):
        with serving(in_turn(nothing)) as server:
            result = run("bulk", "delete", "refund", *more, server=server)
        assert (result.exit_code, result.stdout, len(server.asked)) == (0, told, 1)


def test_what_cannot_be_taken_back_or_was_is_not_offered_again() -> None:
    for end in ({"can_be_undone": False}, {"changed": 0}, {"status": "undone"}):
        with serving(in_turn({**DONE, **end})) as server:
            assert "jobs undo" not in run("jobs", "watch", "01ABC", server=server).stdout


def test_a_retention_says_what_there_was_and_is() -> None:
    result = {"project": "shop", "before": {"logs": 955, "bytes": 9550}, "after": {"logs": 800, "bytes": 8000}}
    begun = {**JOB, "kind": "retention", "query": "", "can_be_undone": False}
    done = {**begun, "status": "done", "seen": 158, "changed": 158, "result": result, "logs_per_s": None, "eta_s": None}
    counts = "project shop: 955 logs before (9550 bytes), 158 dropped, 800 logs after (8000 bytes)"
    with serving(in_turn(begun, begun, done, {"jobs": [done]})) as server:
        told = run("retention", "run", server=server).stdout.splitlines()
        assert (told[0][:22], told[-1]) == ("01ABC: 4 of 10 logs, 2", f"done: 01ABC: {counts}")
        assert run("jobs", "list", server=server).stdout.splitlines()[-1] == f"  {counts}"


def test_json_is_all_there_is_on_standard_output() -> None:
    with serving(in_turn(COUNTED, JOB, DONE)) as server:
        result = run("bulk", "tag", "refund", "--add", "team:x", "--yes", "--json", server=server)
    assert json.loads(result.stdout) == DONE


def test_nothing_is_done_unasked_where_nobody_can_be_asked() -> None:
    with serving(in_turn(COUNTED)) as server:
        result = run("bulk", "delete", "refund", server=server, stdin="y\n")
    assert (result.exit_code, len(server.asked)) == (2, 1)
    assert "--yes to delete for good 10 logs" in result.stderr


@pytest.mark.parametrize(("answer", "code", "requests"), [("y", 0, 3), ("n", 1, 1)])
def test_a_person_is_asked(answer: str, code: int, requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_can_answer", lambda: True)
    with serving(in_turn(COUNTED, JOB, DONE)) as server:
        result = run("bulk", "consent", "refund", "none", server=server, stdin=f"{answer}\n")
    assert (result.exit_code, len(server.asked)) == (code, requests)
    assert "Set the consent of 10 logs?" in result.stderr


def test_a_job_that_did_not_end_well_is_exit_code_1() -> None:
    failed = {**JOB, "status": "failed", "error": {"code": "internal", "message": "unforeseen X"}}
    with serving(in_turn(failed)) as server:
        result = run("jobs", "watch", "01ABC", server=server)
    assert result.exit_code == 1
    assert "unforeseen X" in result.stdout


def test_a_job_that_is_left_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", leave)
    with serving(in_turn(JOB)) as server:
        result = run("jobs", "watch", "01ABC", server=server)
    assert (result.exit_code, len(server.asked)) == (0, 1)
    assert "tunemill jobs watch 01ABC" in result.stderr


def test_a_job_is_undone_listed_and_stopped() -> None:
    undone = {**JOB, "status": "undone", "undone": 2, "logs_per_s": None, "eta_s": None}
    with serving(in_turn({**JOB, "status": "undoing"}, undone, {"jobs": [undone]}, JOB)) as server:
        assert "2 of them taken back" in run("jobs", "undo", "01ABC", server=server).stdout
        listed = run("jobs", "list", "--kind", "tags", server=server).stdout
        assert listed.splitlines() == [
            "01ABC  1970-01-01 00:00:00  tags       undone",
            "  4 of 10 logs, 2 changed: refund",
        ]
        assert "stopped" in run("jobs", "cancel", "01ABC", server=server).stdout
    assert [(asked.method, asked.path) for asked in server.asked] == [
        ("POST", "/v1/jobs/01ABC/undo"),
        ("GET", "/v1/jobs/01ABC"),
        ("GET", "/v1/jobs?kind=tags"),
        ("POST", "/v1/jobs/01ABC/cancel"),
    ]
