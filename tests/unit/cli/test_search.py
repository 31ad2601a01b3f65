"""`tunemill search` against a small server that answers as the API does: order, shape over time, alike logs, help."""

import shlex
from typing import Any

import pytest
from fakes.http_server import Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli.app import app
from tunemill.cli.search import over_time
from tunemill.indexer.grammar import EXAMPLES

HOUR_MS = 3_600_000
HIT = {
    "log_id": "l1", "ts_ms": 0, "app": "shop", "model": "m", "language": "en", "status": "ok", "tags": [],
    "prompt": "the prompt", "answer": "the answer", "score": None, "highlights": [], "match": "all",
}  # fmt: skip
PAGE: dict[str, Any] = {
    "total": 3,
    "hits": [HIT],
    "facets": {},
    "histogram": {"bucket_ms": HOUR_MS, "buckets": [[0, 1], [2 * HOUR_MS, 2]]},
    "cursor": None,
    "wider": None,
}


def run(*args: str, server: Server | None = None) -> Result:
    where = {"TUNEMILL_URL": server.url if server else "http://127.0.0.1:9", "TUNEMILL_KEY": "", "COLUMNS": "200"}
    return CliRunner(env=where).invoke(app, ["search", *args])


def test_hits_are_shown_with_their_shape_over_time() -> None:
    with serving(lambda _: json_answer(PAGE)) as server:
        shown = run("app:shop", "--sort", "cost", server=server).stdout
    assert server.asked[0].path == "/v1/search?q=app%3Ashop&limit=10&sort=cost&match=any"
    assert "time: 1970-01-01 00:00:00 ▄ █ 1970-01-01 02:00:00" in shown
    assert "the prompt" in shown


def test_only_the_fields_that_are_asked_for_are_shown() -> None:
    with serving(lambda _: json_answer(PAGE | {"hits": [{"log_id": "l1", "cost_usd": 0.25}]})) as server:
        shown = run("--fields", "log_id,cost_usd", server=server).stdout
    assert server.asked[0].path == "/v1/search?q=&limit=10&sort=relevance&match=any&fields=log_id%2Ccost_usd"
    assert "log_id: l1\ncost_usd: 0.25\n" in shown


def test_logs_with_some_of_the_words_stand_behind_a_line_that_says_so() -> None:
    hits = [HIT, HIT | {"prompt": "another", "match": "any"}, HIT | {"prompt": "a third", "match": "any"}]
    wider = {"q": "a OR b", "total": 7}
    with serving(lambda _: json_answer(PAGE | {"total": 1, "hits": hits, "wider": wider})) as server:
        lines = run("a b", server=server).stdout.splitlines()
    parts = ("the prompt", "-- some of the words, not all: 7 logs --", "another", "a third", "1 logs with all words")
    places = [next(at for at, line in enumerate(lines) if line.strip() == part) for part in parts]
    assert places == sorted(places)
    with serving(lambda _: json_answer(PAGE)) as server:
        run("a b", "--match", "all", server=server)
    assert server.asked[0].path == "/v1/search?q=a+b&limit=10&sort=relevance&match=all"


def test_a_wider_search_is_offered_where_nothing_is_found() -> None:
    nothing = PAGE | {"total": 0, "hits": [], "histogram": None, "wider": {"q": "a OR b", "total": 7}}
    with serving(lambda _: json_answer(nothing)) as server:
        assert "7 have one of them: tunemill search 'a OR b'" in run("a b", server=server).stdout
    quoted = nothing | {"wider": {"q": "don't OR know", "total": 7}}
    with serving(lambda _: json_answer(quoted)) as server:
        offer = run("don't know", server=server).stdout.splitlines()[-1].partition("tunemill ")[2]
    assert shlex.split(offer) == ["search", "don't OR know"]


def test_alike_logs_come_with_their_near_duplicates() -> None:
    found = {"similar": [HIT], "near_duplicates": [{"log_id": "l2", "similarity": 0.94}]}
    with serving(lambda _: json_answer(found)) as server:
        shown = run("--similar", "l0", server=server).stdout
        assert run("--similar", "l0", "--json", server=server).stdout.startswith('{"similar": [{"log_id": "l1"')
    assert server.asked[0].path == "/v1/similar?log_id=l0&limit=10"
    assert "the prompt" in shown
    assert "near-duplicates: l2 0.94" in shown


def test_a_sort_that_is_none_is_refused_before_anything_is_asked() -> None:
    assert run("--sort", "best").exit_code == 2


def test_help_holds_the_query_language() -> None:
    shown = run("--help").stdout
    assert [example for example in EXAMPLES if f" {example} " not in shown] == []


@pytest.mark.parametrize(
    ("buckets", "blocks"),
    [([[0, 8], [5, 1], [10, 4]], "█▁▄"), ([[5, 3], [20, 3]], "█  █"), ([[0, 1]], None), ([], None), ([[0, 1], [500, 1]], None)],
)  # fmt: skip
def test_a_histogram_is_a_line_of_blocks(buckets: list[list[int]], blocks: str | None) -> None:
    line = over_time({"bucket_ms": 5, "buckets": buckets})
    assert (line is None) if blocks is None else (line is not None and f":00 {blocks} 1970" in line)


@pytest.mark.parametrize(
    ("args", "unused"),
    [
        (("a query", "--similar", "l0"), "--similar takes no query"),
        (("--similar", "l0", "--sort", "cost"), "--similar takes no --sort"),
        (("--all", "--limit", "10", "--sort", "cost"), "--all takes no --limit and no --sort"),
        (("--all", "--similar", "l0"), "--similar takes no --all"),
    ],
)
def test_what_would_have_no_effect_is_refused(args: tuple[str, ...], unused: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert unused in result.stderr
