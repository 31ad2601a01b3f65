"""Both engines answer alike whatever is asked, and no query of the language breaks one."""

import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engines.choose import ELASTICSEARCH_VARIABLE
from engines.own_index import opened

from tunemill.indexer.errors import QueryError
from tunemill.indexer.query import parse
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import SearchIndex, SearchRequest
from tunemill.schemas.records import LogRecord, Message, TaggedLog

ROOT = Path(__file__).parents[2]
NOW_MS = 1_790_000_000_000
TEXTS = ("a b c", "don't 3.14 gpt-4o", "数学问题 数", 'ه م " ( ) \\ * -', "\0 \U0001f389 \ud7ff", "x" * 300)
PIECES = (
    *(
        "(",
        ")",
        '"',
        "-",
        "*",
        "\\",
        " AND ",
        " OR ",
        " NOT ",
        "tag:",
        "ts:",
        "latency_ms:",
        ">",
        "<=",
        "[",
        " TO ",
        "]",
        "{",
    ),
    *(
        "}",
        "a",
        "b*",
        " ",
        "2026",
        "metadata.x:",
        "metadata.\u00e9:",
        ":",
        "1e300",
        "-1e300",
        "99999999999999999999",
        "\0",
    ),
    *(
        "数",
        "数学",
        "数*",
        "é",
        "\ufeff",
        "\U0001f389",
        "\u0300",
        ",",
        "prompt:",
        "tool:",
        "has:",
        "edit",
        "model",
        "now",
    ),
    *("now-", "7d", "2s", "m", "id:", "near:", "score:", "chars:", "feedback:", "\u2028", "'", ".", "_", "x" * 300),
)


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=pytest.mark.live)])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    url = f"local:{tmp_path}" if request.param == "embedded" else request.getfixturevalue("elasticsearch_url")
    async with opened(url) as index:
        logs = [
            LogRecord(log_id=f"l{at}", ts_ms=at, messages=(Message(role="user", content=TEXTS[at % 6]),))
            for at in range(50)
        ]
        await index.write([TaggedLog(log=log, content_digest="d") for log in logs])
        await index.refresh()
        yield index


async def test_every_text_is_a_query_that_is_answered_or_a_mistake_that_is_named(index: SearchIndex) -> None:
    chance = random.Random(6)
    answered = 0
    for _ in range(3000):
        text = "".join(chance.choices(PIECES, k=chance.randrange(1, 9)))
        try:
            query = parse(text, now_ms=NOW_MS)
        except QueryError:
            continue
        assert parse(to_text(query)) == query
        page = await index.search(SearchRequest(query, limit=2))
        assert len(page.hits) == min(page.total, 2), text
        answered += 1
    assert answered > 200


@pytest.mark.live
def test_generated_queries_find_the_same_on_both_engines(elasticsearch_url: str) -> None:
    command = [sys.executable, "-m", "benchmarks.parity", "--queries", "200", "--made", "200", "--seed", "6", "--json"]
    environment = os.environ | {ELASTICSEARCH_VARIABLE: elasticsearch_url}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["mismatches"] == 0, found["examples"]
    assert found["queries"] == 200
    assert found["found_nothing"] < 100
