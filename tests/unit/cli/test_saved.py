"""`tunemill saved` against a small server that answers as the API does."""

import json
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli.app import app

SAVED = {"name": "wrong", "query": "feedback:x:0 [red]", "by": "person:a", "created_ms": 0, "updated_ms": 0}
IN_USE = {"title": "It conflicts with what is there", "detail": "the dataset 'sums' would not find anything without it"}


def run(server: Server, *args: str) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, ["saved", *args])


def answered(asked: Asked) -> Answer:
    if asked.method == "DELETE" and asked.path.endswith("/used"):
        return json_answer(IN_USE, 409)
    return Answer(204) if asked.method == "DELETE" else json_answer(SAVED)


@pytest.mark.parametrize(
    ("args", "method", "path", "shown"),
    [
        (("put", "wrong", "feedback:x:0 [red]"), "PUT", "/v1/searches/wrong", "saved:wrong is feedback:x:0 [red]\n"),
        (("show", "wrong"), "GET", "/v1/searches/wrong", "feedback:x:0 [red]\n"),
        (("delete", "a/b"), "DELETE", "/v1/searches/a%2Fb", "a/b is forgotten\n"),
    ],
)
def test_a_search_is_kept_shown_and_forgotten(args: tuple[str, ...], method: str, path: str, shown: str) -> None:
    with serving(answered) as server:
        result = run(server, *args)
    assert (result.exit_code, result.stdout) == (0, shown)
    asked = server.asked[0]
    assert (asked.method, asked.path) == (method, path)
    if method == "PUT":
        assert json.loads(asked.body) == {"query": "feedback:x:0 [red]"}


def test_the_list_is_a_table_or_json() -> None:
    listed: dict[str, Any] = {"searches": [SAVED]}
    with serving(lambda _asked: json_answer(listed)) as server:
        assert "feedback:x:0 [red]" in run(server, "list").stdout
        assert json.loads(run(server, "list", "--json").stdout) == listed


def test_one_that_is_in_use_stays() -> None:
    with serving(answered) as server:
        result = run(server, "delete", "used")
    assert result.exit_code == 1
    assert "the dataset 'sums' would not find anything without it" in result.stderr
