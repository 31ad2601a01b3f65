"""The client commands against a small server that answers as the API does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli import train
from tunemill.cli.app import COMMANDS, app, load

PROBLEM = {"title": "The request cannot be read", "detail": "column 3: expected a word", "status": 400}
HIT = {
    "log_id": "l1", "ts_ms": 0, "app": "shop", "model": "m", "language": "en", "status": "ok", "tags": ["topic:math"],
    "prompt": "p", "answer": "a", "score": 1.0, "highlights": [[["[red]add\x1b[2J ", False], ["math", True]]],
}  # fmt: skip
PAGE = {"total": 1, "hits": [HIT], "facets": {"tag": [{"value": "topic:math", "count": 1}]}, "cursor": None}


def run(*args: str, server: Server | None = None, stdin: bytes | None = None) -> Result:
    where = {"TUNEMILL_URL": server.url if server else "http://127.0.0.1:9"}
    return CliRunner(env={**where, "TUNEMILL_KEY": "sesame", "COLUMNS": "200"}).invoke(app, list(args), input=stdin)


def always(value: Any, status: int = 200) -> Callable[[Asked], Answer]:
    return lambda asked: json_answer(value, status)


@pytest.mark.parametrize("name", ["ingest", "search", "dlq", "dataset", "train", "runs"])
def test_every_client_command_loads(name: str) -> None:
    assert load(name) is not None
    assert name in COMMANDS
    assert run(name, "--help").exit_code == 0


def test_search_shows_text_as_text() -> None:
    with serving(always(PAGE)) as server:
        result = run("search", "math tag:topic:math", "--limit", "5", server=server)
    assert result.exit_code == 0
    assert "[red]add\ufffd[2J math" in result.stdout
    assert "\x1b" not in result.stdout
    assert "1 logs" in result.stdout
    assert server.asked[0].path == "/v1/search?q=math+tag%3Atopic%3Amath&limit=5&sort=relevance&match=any"
    assert server.asked[0].headers["authorization"] == "Bearer sesame"


def test_json_is_what_the_api_said_and_nothing_else() -> None:
    with serving(always(PAGE)) as server:
        assert json.loads(run("search", "--json", server=server).stdout) == PAGE


def test_every_log_of_a_search_is_passed_on_byte_for_byte() -> None:
    with serving(always({"log": "half\u2028line"})) as server:
        result = run("search", "math", "--all", server=server)
    assert json.loads(result.stdout) == {"log": "half\u2028line"}
    assert server.asked[0].path == "/v1/search/export?q=math"


def test_a_problem_is_a_sentence_and_exit_code_1() -> None:
    with serving(always(PROBLEM, 400)) as server:
        result = run("search", "(", server=server)
    assert result.exit_code == 1
    assert "column 3: expected a word (HTTP 400)" in result.stderr


def test_a_missing_key_says_how_to_give_it() -> None:
    with serving(always({"title": "No key"}, 401)) as server:
        assert "--key" in run("runs", "list", server=server).stderr


def test_the_place_of_a_fault_is_told_once() -> None:
    bare = {"title": "It cannot be read", "detail": "column 8: found the end", "place": "ingredients[1].query"}
    with serving(always(bare, 400)) as server:
        assert "ingredients[1].query: column 8" in run("dataset", "preview", "d", server=server).stderr
    with serving(always({**bare, "detail": "ingredients[1].query: no"}, 422)) as server:
        assert run("dataset", "preview", "d", server=server).stderr.count("ingredients") == 1


def test_no_server_says_how_to_start_one() -> None:
    result = run("search", "math")
    assert result.exit_code == 1
    assert "tunemill up" in result.stderr


def test_what_is_not_an_address_is_said() -> None:
    assert "not an address" in run("search", "math", "--url", "nonsense").stderr


def test_editing_an_answer_keeps_the_rest_of_the_row() -> None:
    asked_of = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "old"}]
    with serving(always({"row_key": "a/b", "messages": asked_of})) as server:
        assert run("dataset", "edit", "support", "a/b", "--answer", "new", server=server).exit_code == 0
    assert [one.path for one in server.asked] == 2 * ["/v1/datasets/support/rows/a%2Fb"]
    assert server.asked[-1].json() == {"messages": [asked_of[0], {"role": "assistant", "content": "new"}]}


def test_publishing_sends_note_and_recipe_and_shows_warnings(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("epochs: 4\nmethod: full\n")
    published = {"version": 2, "rows": 9, "splits": {"train": 9}, "digest": "d", "report": {"warnings": ["few rows"]}}
    with serving(always(published, 201)) as server:
        result = run(
            "dataset", "publish", "s", "--note", "n", "--method", "lora", "--recipe", str(recipe), server=server
        )
    assert server.asked[0].json() == {"note": "n", "recipe": {"epochs": 4, "method": "lora"}}
    assert "published s@v2: 9 rows (train 9)" in result.stdout
    assert "few rows" in result.stderr


def test_a_version_that_is_not_what_was_published_is_an_exit_code() -> None:
    broken = {"ok": False, "files": 3, "bytes": 9, "rows": 2, "problems": ["parts/x.parquet was changed"]}
    with serving(always(broken)) as server:
        result = run("dataset", "verify", "support@best", server=server)
    assert server.asked[0].path == "/v1/datasets/support/versions/best/verify"
    assert (result.exit_code, "parts/x.parquet was changed" in result.stderr) == (1, True)
    with serving(always({**broken, "ok": True, "problems": []})) as server:
        assert run("dataset", "verify", "support@v3", server=server).exit_code == 0
    assert server.asked[0].path == "/v1/datasets/support/versions/3/verify"


def test_versions_are_named_restored_and_amended() -> None:
    said = {"alias": "best", "version": 3, "by": "person:x", "updated_ms": 1, "name": "other"}
    with serving(always(said)) as server:
        assert "support@best is support@v3" in run("dataset", "alias", "support", "best", "v3", server=server).stdout
        assert run("dataset", "alias", "support", "best", "--remove", server=server).exit_code == 0
        assert "draft of other" in run("dataset", "restore", "support@v2", "--as", "other", server=server).stdout
        assert run("dataset", "alias", "support", "best", server=server).exit_code == 2
    asked = [(one.method, one.path, one.json() if one.body else None) for one in server.asked]
    assert asked == [
        ("PUT", "/v1/datasets/support/aliases/best", {"version": "v3"}),
        ("DELETE", "/v1/datasets/support/aliases/best", None),
        ("POST", "/v1/datasets/support/restore", {"version": "2", "as": "other"}),
    ]


def test_the_log_of_a_dataset_lists_versions_and_of_a_version_what_it_was_made_from() -> None:
    one = {"version": 2, "revision": 1, "rows": 9, "digest": "d1", "created_ms": 1, "by": "person:x", "note": None}
    lineage = {"searches": [{"query": "tag:x", "matched": 7}], "logs": 6}
    redaction = {"revision": 2, "digest": "new", "replaces_digest": "old", "rows_removed": 1, "ts_ms": 5}
    runs = [{"run_id": "r1", "status": "succeeded", "digest": "d1"}]
    origins = {"version": 2, "lineage": lineage, "runs": runs, "redactions": [redaction], "rows": None}

    def answer(asked: Asked) -> Answer:
        return json_answer(origins if "lineage" in asked.path else {"versions": [one]})

    with serving(answer) as server:
        listed = run("dataset", "log", "support", server=server).stdout
        told = run("dataset", "log", "support@v2", "--log", "l1", server=server).stdout
    assert "v2" in listed and "d1" in listed
    assert "tag:x" in told and "r1" in told and "old became new" in told
    assert server.asked[-1].path == "/v1/datasets/support/versions/2/lineage?log=l1"


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("rejected", 1), ("failed", 1), ("cancelled", 1)])
def test_train_waits_for_its_own_run_and_its_exit_code_tells(status: str, code: int, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("replay: general@v3\n")
    spelled_out = {"of": "general@v3", "manifest_url": "/files/m.json", "digest": "d"}
    old = {
        "run_id": "old",
        "name": "s",
        "version": 1,
        "recipe": {"method": "lora", "base": "b", "r": 8, "replay": spelled_out},
        "status": "failed",
    }
    new = {**old, "run_id": "new", "status": status}
    ordered: list[Any] = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            ordered.append(asked.json())
            return json_answer({"event_id": "e", "name": "s", "version": 1}, 202)
        if asked.path.startswith("/v1/runs?"):
            return json_answer({"runs": [new, old] if ordered else [old], "cursor": None})
        if "/events" in asked.path:
            events = [{"seq": 1, "ts_ms": 0, "level": "info", "type": "message", "message": "began", "data": None}]
            return json_answer({"events": events, "cursor": None})
        return json_answer({"old": old, "new": new}[asked.path.rsplit("/", 1)[1]])

    with serving(answer) as server:
        result = run("train", "s@v1", "--method", "lora", "--base", "b", "--priority", "3", "--wait", server=server)
    assert result.exit_code == code
    assert ordered == [{"name": "s", "version": 1, "recipe": {"method": "lora", "base": "b"}, "priority": 3}]
    assert result.stdout.count("began") == 1
    assert server.asked[-1].path.startswith("/v1/runs/new/")


def test_an_order_that_was_trained_before_follows_that_run_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_POLL_S", 0.0)
    old = {"run_id": "old", "version": 1, "recipe": {"method": "lora", "base": "b"}, "status": "succeeded"}

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return json_answer({"event_id": "e", "name": "s", "version": 1}, 202)
        if asked.path.startswith("/v1/runs?"):
            return json_answer({"runs": [old], "cursor": None})
        return json_answer({"events": [], "cursor": None} if "/events" in asked.path else old)

    with serving(answer) as server:
        result = run("train", "s@v1", "--method", "lora", "--base", "b", "--wait", server=server)
    assert result.exit_code == 0
    assert "ordered before" in result.stderr
    assert "no trainer" not in result.stderr


@pytest.mark.parametrize(("said", "asked_for"), [("s@v2", None), ("s@prod", "/v1/datasets/s/versions/prod")])
def test_an_order_with_a_recipe_file_is_sent_once_and_as_json_the_answer_is_printed_alone(
    said: str, asked_for: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("base: org/model\nmethod: full\nlearning_rate: 5e-4\nlora_plus: null\ngates:\n  slice_rows: 5\n")
    recipe = {
        "base": "org/model",
        "method": "full",
        "learning_rate": 5e-4,
        "lora_plus": None,
        "gates": {"slice_rows": 5},
    }
    taken = {"event_id": "e", "name": "s", "version": 2}

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return json_answer(taken, 202)
        return json_answer({"runs": [], "cursor": None} if asked.path.startswith("/v1/runs?") else {"version": 2})

    with serving(answer) as server:
        result = run("train", "--dataset", said, "--recipe", str(file), "--json", server=server)

    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == taken
    posted = [(asked.path, asked.json()) for asked in server.asked if asked.method == "POST"]
    assert posted == [("/v1/runs", {"name": "s", "version": 2, "recipe": recipe, "priority": 0})]
    resolved = [asked.path for asked in server.asked if asked.path.startswith("/v1/datasets/")]
    assert resolved == ([asked_for] if asked_for else [])


def test_an_order_that_is_refused_prints_no_json_and_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("base: b\nepochs: -1\n")
    problem = {"title": "The recipe cannot be used", "detail": "epochs: -1 is less than 0.01", "status": 422}

    def answer(asked: Asked) -> Answer:
        return json_answer(problem, 422) if asked.method == "POST" else json_answer({"runs": [], "cursor": None})

    with serving(answer) as server:
        result = run("train", "--dataset", "s@v1", "--recipe", str(file), "--json", "--wait", server=server)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "epochs: -1 is less than 0.01 (HTTP 422)" in result.stderr
    assert server.asked[-1].method == "POST"


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1)])
def test_an_order_that_is_waited_for_prints_as_json_how_the_run_ended_alone(
    status: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_POLL_S", 0.0)
    new = {"run_id": "new", "name": "s", "version": 1, "recipe": {"base": "b", "r": 8}, "status": status}

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return json_answer({"event_id": "e", "name": "s", "version": 1}, 202)
        if asked.path.startswith("/v1/runs?"):
            looks = sum(one.path.startswith("/v1/runs?") for one in server.asked)
            return json_answer({"runs": [new] if looks > 2 else [], "cursor": None})
        return json_answer(new)

    with serving(answer) as server:
        result = run("train", "--dataset", "s@v1", "--base", "b", "--json", "--wait", server=server)

    assert (result.exit_code, result.stderr) == (code, "")
    assert json.loads(result.stdout) == new


@pytest.mark.parametrize("args", [["s"], ["s@v1"], ["s@", "--method", "lora"]])
def test_an_order_that_says_too_little_is_not_sent(args: list[str]) -> None:
    assert run("train", *args).exit_code == 2
