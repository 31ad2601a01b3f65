"""`tunemill runs`, `models` and `dataset training` against a small server that answers as the API does."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli import runs
from tunemill.cli.app import app

CHANGE = {"rows": 12, "before": 2.0, "after": 0.5, "change": -1.5, "low": -1.75, "high": -1.25, "p": 0.001}
SLICE = {
    "slice": "language",
    "value": "de",
    "rows": 30,
    "loss_before": 1.0,
    "loss_after": 1.5,
    "low": 0.25,
    "high": 0.75,
}
RESULT = {
    "metrics": {"loss": {"unit": "nats", "better": "less", **CHANGE}},
    "slices": [SLICE],
    "gates": [{"name": "no_slice_worse_than", "outcome": "reject", "says": "German got worse"}],
    "forgetting": {"says": ["7 of 60 general questions that it could answer are lost."]},
}
RUN = {
    "run_id": "r1", "status": "rejected", "name": "math", "version": 2, "attempt": 1, "seconds": 9.5, "error": None,
    "recipe": {"method": "lora", "epochs": "auto"}, "result": RESULT,
    "plan": {"derived": [{"name": "epochs", "value": 3, "reason": "80 rows"}]},
}  # fmt: skip
COMPARED = {
    "a": RUN, "b": {**RUN, "run_id": "r2"}, "same_rows": False,
    "recipe": [{"knob": "gates.slice_rows", "a": 20, "b": 5}],
    "scores": [{"name": "Exact match", "on": "held-out rows", "a": 0.25, "b": 0.5, "change": 0.25, "low": 0.125,
                "high": 0.5, "better": "not_sure"}],
}  # fmt: skip
MODELS = {
    "aliases": [{"alias": "champion", "run_id": "r1", "by": "ann", "reason": "German only", "updated_ms": 0}],
    "models": [
        {"run_id": "r1", "aliases": ["champion"], "status": "rejected", "version": 2, "method": "lora", "base": "/b",
         "finished_ms": 0},
    ],
}  # fmt: skip
POLICY = {
    "on": "alias:prod", "recipe": {"base": "/b"}, "quiet_s": 60, "priority": 0, "due_ms": 0, "due_version": 4,
    "by": "ann", "updated_ms": 0,
}  # fmt: skip


def answer(asked: Asked) -> Answer:
    if asked.method == "DELETE":
        return Answer(204)
    if "/compare/" in asked.path:
        return json_answer(COMPARED)
    if asked.path.endswith("/models"):
        return json_answer(MODELS)
    if asked.path.endswith("/training"):
        return json_answer(POLICY)
    if asked.path.startswith("/v1/runs?"):
        return json_answer({"runs": [RUN], "cursor": "c2" if "name=many" in asked.path else None})
    return json_answer(RUN)


def run(server: Server, *args: str) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, list(args))


def told(*args: str) -> list[str]:
    """The lines that a command prints, white space made one blank."""
    with serving(answer) as server:
        result = run(server, *args)
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.output.splitlines()]


def sent_by(*args: str) -> tuple[str, str, Any]:
    """The last request that a command makes."""
    with serving(answer) as server:
        result = run(server, *args)
    assert result.exit_code == 0, result.output
    last = server.asked[-1]
    return last.method, last.path, last.json() if last.body else None


def test_a_run_is_shown_as_tables_with_what_was_lost() -> None:
    lines = told("runs", "show", "r1")
    assert "epochs 3 80 rows" in lines
    assert "Loss per trained token held-out rows 2 0.5 -1.5 -1.75, -1.25 0.001 12" in lines
    assert "language: de 30 1 1.5 0.25, 0.75" in lines
    assert "no slice worse than rejected German got worse" in lines
    assert "7 of 60 general questions that it could answer are lost." in lines


def test_a_run_that_waits_has_no_tables() -> None:
    with serving(lambda _: json_answer({**RUN, "status": "queued", "plan": None, "result": None})) as server:
        result = run(server, "runs", "show", "r1")
    assert result.exit_code == 0
    assert "settled" not in result.stdout and "gate" not in result.stdout


def test_two_runs_are_compared_and_it_is_said_when_that_means_little() -> None:
    lines = told("runs", "compare", "r1", "r2")
    assert "gates.slice_rows 20 5" in lines
    assert "Exact match held-out rows 0.25 0.5 0.25 0.125, 0.5 not sure" in lines
    assert any("other rows" in line for line in lines)


def test_models_are_listed_with_the_reason_that_one_was_set_against_a_gate() -> None:
    lines = told("models", "list", "math")
    assert "r1 champion rejected v2 lora /b 1970-01-01 00:00:00" in lines
    assert "champion was set against a gate by ann: German only" in lines


def test_that_there_are_more_runs_is_said() -> None:
    assert told("runs", "list", "--name", "many")[-1] == "more: --cursor c2"
    assert not told("runs", "list", "--name", "few")[-1].startswith("more")


def test_a_policy_is_shown_with_what_is_due() -> None:
    lines = told("dataset", "training", "math")
    assert "on: alias:prod" in lines and "v4 is due" in lines


@pytest.mark.parametrize(
    ("args", "method", "path", "body"),
    [
        (("runs", "list", "--name", "math", "--status", "failed"), "GET", "/v1/runs?name=math&status=failed", None),
        (("runs", "list", "--status", "failed", "--cursor", "c2"), "GET", "/v1/runs?status=failed&cursor=c2", None),
        (("runs", "resume", "r1"), "POST", "/v1/runs/r1/resume", {}),
        (("runs", "cancel", "r1"), "POST", "/v1/runs/r1/cancel", {}),
        (("models", "promote", "r1"), "POST", "/v1/runs/r1/promote", {"alias": "champion"}),
        (
            ("models", "promote", "r1", "--as", "test", "--override", "German only"),
            "POST",
            "/v1/runs/r1/promote",
            {"alias": "test", "override": "German only"},
        ),
        (("dataset", "training", "math", "--off"), "DELETE", "/v1/datasets/math/training", None),
        (
            ("dataset", "training", "math", "--on", "alias:prod", "--base", "/b", "--quiet", "60", "--priority", "2"),
            "PUT",
            "/v1/datasets/math/training",
            {"on": "alias:prod", "recipe": {"base": "/b"}, "quiet_s": 60, "priority": 2},
        ),
    ],
)
def test_a_command_asks_for_what_it_says(args: tuple[str, ...], method: str, path: str, body: Any) -> None:
    assert sent_by(*args) == (method, path, body)


def test_a_policy_takes_a_recipe_from_a_file(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("base: /b\nlearning_rate: 5e-4\n")
    _, _, body = sent_by("dataset", "training", "math", "--on", "version", "--recipe", str(recipe))
    assert body["recipe"] == {"base": "/b", "learning_rate": 5e-4}


@pytest.mark.parametrize("args", [("--on", "version"), ("--base", "/b"), ("--off", "--on", "version", "--base", "/b")])
def test_half_a_policy_is_refused_before_anything_is_asked(args: tuple[str, ...]) -> None:
    with serving(answer) as server:
        result = run(server, "dataset", "training", "math", *args)
    assert (result.exit_code, server.asked) == (2, [])


@pytest.mark.parametrize(
    "args",
    [
        ("runs", "show", "r1"), ("runs", "compare", "r1", "r2"), ("runs", "resume", "r1"), ("runs", "list"),
        ("models", "list", "math"), ("models", "promote", "r1"), ("dataset", "training", "math"),
        ("dataset", "training", "math", "--on", "version", "--base", "/b"), ("dataset", "training", "math", "--off"),
    ],
)  # fmt: skip
def test_with_json_a_command_prints_json_and_nothing_else(args: tuple[str, ...]) -> None:
    with serving(answer) as server:
        result = run(server, *args, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)


class Going:
    """A run that ends as `status` once it was asked about `asks` times; its last event comes at the same moment."""

    def __init__(self, status: str, *, asks: int) -> None:
        self._status, self._left = status, asks
        self.events_asked = 0

    def __call__(self, asked: Asked) -> Answer:
        ended = self._left <= 0
        self._left -= 1
        if "/events" not in asked.path:
            return json_answer({**RUN, "status": self._status if ended else "running"})
        self.events_asked += 1
        told = ["taken on", "half of it", "the end"][: 3 if ended else 2]
        first = int(asked.path.rsplit("cursor=", 1)[1]) if "cursor=" in asked.path else 0
        page = [{"seq": first + 1, "ts_ms": 0, "message": told[first], "data": {"step": first} if first else None}]
        return json_answer({"events": page, "cursor": str(first + 1) if first + 1 < len(told) else None})


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_POLL_S", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("asks", range(8))
def test_a_watched_run_shows_each_event_once_whenever_it_ends(asks: int) -> None:
    with serving(Going("succeeded", asks=asks)) as server:
        result = run(server, "runs", "watch", "r1")

    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split("  ", 1)[1] for line in result.stdout.splitlines()]
    assert lines == ["taken on", "half of it  step 1", "the end  step 2"]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", ["rejected", "failed", "cancelled"])
def test_a_watched_run_that_ends_otherwise_is_an_exit_code_and_a_sentence(status: str) -> None:
    with serving(Going(status, asks=5)) as server:
        result = run(server, "runs", "watch", "r1")

    assert result.exit_code == 1
    assert "the end" in result.stdout
    assert f"run r1 ended as {status}. See `tunemill runs show r1`." in " ".join(result.stderr.split())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1)])
def test_a_watched_run_is_as_json_its_last_state_alone(status: str, code: int) -> None:
    with serving(going := Going(status, asks=3)) as server:
        result = run(server, "runs", "watch", "r1", "--json")

    assert (result.exit_code, result.stderr) == (code, "")
    assert json.loads(result.stdout) == {**RUN, "status": status}
    assert (len(server.asked), going.events_asked) == (4, 0)


def test_a_run_that_is_not_there_cannot_be_watched() -> None:
    with serving(lambda _: json_answer({"title": "There is no such run", "status": 404}, 404)) as server:
        result = run(server, "runs", "watch", "a/b")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no such run (HTTP 404)" in result.stderr
    assert [asked.path for asked in server.asked] == ["/v1/runs/a%2Fb"]
