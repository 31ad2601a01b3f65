"""What people are told of the query language is what the parser reads."""

import re
from pathlib import Path

import pytest

from tunemill.indexer.fields import HAS, KEYWORDS, NUMBERS, PARTS
from tunemill.indexer.grammar import EXAMPLES, HELP
from tunemill.indexer.query import MAX_BEGINNING, MAX_CHARACTERS, MAX_DEPTH, MAX_TERMS, parse

PAGE = (Path(__file__).parents[3] / "docs" / "query.md").read_text(encoding="utf-8")
_QUERY = re.compile(r"`((?:-?[a-z_]+|has|saved|ts|metadata\.\w+):[^`<]+)`")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_can_be_read(example: str) -> None:
    parse(example, saved={"wrong-math": "tag:topic:math"}.get)


def test_the_page_shows_the_table_of_the_terminal() -> None:
    shown = re.findall(r"^\| `(.+)` \| (.+) \|$", PAGE, re.MULTILINE)
    assert dict(shown[: len(EXAMPLES)]) == EXAMPLES
    assert [line.split("  ")[0] for line in HELP.splitlines()] == list(EXAMPLES)
    assert max(map(len, HELP.splitlines())) <= 78, "a terminal has 80 columns"


def test_every_query_on_the_page_can_be_read() -> None:
    queries = [found for found in _QUERY.findall(PAGE) if found != "has:"]
    assert len(queries) > 15
    for query in queries:
        parse(query, saved={"wrong-math": "tag:topic:math", "name": ""}.get)


def test_the_page_names_every_name_and_limit() -> None:
    for name in (*PARTS, *KEYWORDS, *NUMBERS, *HAS):
        assert f"`{name}`" in PAGE, name
    for limit in (MAX_CHARACTERS, MAX_TERMS, MAX_DEPTH, MAX_BEGINNING):
        assert re.search(rf"\b{limit}\b", PAGE), limit
