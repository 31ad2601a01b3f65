"""Queries that begin with `-`, in each command that takes one, against a small server that answers as the API does."""

from typing import Any

import pytest
from fakes.http_server import json_answer as answer
from fakes.http_server import serving
from typer.testing import CliRunner, Result

from tunemill.cli.app import app


def run(url: str, *args: str) -> Result:
    return CliRunner(env={"TUNEMILL_URL": url, "COLUMNS": "200"}).invoke(app, args)


@pytest.mark.parametrize(
    "args",
    [
        ("bulk", "tag", "-refund x", "--add", "team:x", "--yes"),
        ("bulk", "consent", "--yes", "-refund x", "none"),
        ("bulk", "delete", "--yes", "--", "-refund x"),
        ("saved", "put", "name", "-refund x"),
        ("dataset", "new", "name", "-refund x", "--limit", "3"),
    ],
)
def test_a_query_may_begin_with_a_minus(args: tuple[str, ...]) -> None:
    with serving(lambda _asked: answer({"total": 0, "log_ids": []})) as server:
        result = run(server.url, *args)
    sent: dict[str, Any] = server.asked[0].json()
    assert (result.exit_code, sent["query"]) == (0, "-refund x"), result.output


def test_words_that_are_no_option_are_the_query_and_options_keep_their_values() -> None:
    page = {"total": 0, "hits": [], "cursor": None}
    with serving(lambda _asked: answer(page)) as server:
        assert run(server.url, "search", "--limit", "2", "-lang:de", "--fields", "-x").exit_code == 0
    assert server.asked[0].path == "/v1/search?q=-lang%3Ade&limit=2&sort=relevance&match=any&fields=-x"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("search", "-refund", "--limt", "3"), "No such option: --limt (Possible options: --limit"),
        (("search", "-refund", "--limit"), "Option '--limit' requires an argument"),
        (("saved", "put", "name"), "Missing argument 'query'"),
        (("saved", "show", "-x"), "No such option: -x"),
    ],
)
def test_a_misspelt_option_is_still_an_error(args: tuple[str, ...], told: str) -> None:
    result = run("http://127.0.0.1:9", *args)
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
