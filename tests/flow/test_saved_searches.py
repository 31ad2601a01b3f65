"""Saved searches over HTTP: kept under a name, used in any query, and what a version was made from stays readable."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.curator_api import Running, running_api, tagged
from sqlalchemy import select

from tunemill.registry.tables import audit

LOGS = [
    tagged("m1", "What is 2+2?", "4", ts_ms=1),
    tagged("m2", "What is 3+3?", "6", ts_ms=2, model="large"),
    tagged("poem", "Write a poem", "Roses", ts_ms=3, tags=("topic:poetry",)),
]


async def put(api: Running, name: str, query: str) -> httpx.Response:
    return await api.client.put(f"/v1/searches/{name}", json={"query": query})


async def published(api: Running, name: str = "sums") -> dict[str, Any]:
    answer = await api.client.post(f"/v1/datasets/{name}/versions")
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_search_is_kept_changed_listed_and_forgotten(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        made = (await put(api, "math", "tag:topic:math")).json()
        changed = (await put(api, "math", "tag:topic:math model:large")).json()
        assert (made["query"], changed["query"]) == ("tag:topic:math", "tag:topic:math model:large")
        assert (changed["created_ms"], changed["by"]) == (made["created_ms"], f"person:{api.key.split('_')[1]}")
        assert (await api.client.get("/v1/searches")).json() == {"searches": [changed]}
        assert (await api.client.get("/v1/searches/math")).json() == changed
        assert (await api.client.delete("/v1/searches/math")).status_code == 204
        assert (await api.client.get("/v1/searches")).json() == {"searches": []}
        gone = [await api.client.get("/v1/searches/math"), await api.client.delete("/v1/searches/math")]
        assert [answer.status_code for answer in gone] == [404, 404]
        with api.registry.connect() as connection:
            acts = connection.execute(select(audit.c.action, audit.c.target).order_by(audit.c.seq)).all()
    assert acts == [("search.save", "math"), ("search.save", "math"), ("search.delete", "math")]


@pytest.mark.parametrize(
    ("name", "query", "status", "told"),
    [
        ("Math", "x", 422, "not a name"),
        ("math", "app:", 400, "column 5"),
        ("math", "a saved:nothing", 400, "column 9"),
        ("math", "saved:math", 400, "within itself"),
        ("math", "-" * 12 + "a", 400, "within one another"),
    ],
)
async def test_what_could_not_be_searched_for_is_not_kept(
    tmp_path: Path, name: str, query: str, status: int, told: str
) -> None:
    async with running_api(tmp_path) as api:
        answer = await put(api, name, query)
        assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text
        assert (await api.client.get("/v1/searches")).json() == {"searches": []}


async def test_searches_that_name_each_other_in_a_ring_are_refused(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await put(api, "one", "tag:topic:math")
        await put(api, "two", "saved:one OR model:large")
        assert (await put(api, "one", "saved:two")).status_code == 400
        assert (await api.client.get("/v1/searches/one")).json()["query"] == "tag:topic:math"


async def test_a_saved_search_stands_for_its_text_wherever_a_query_is_taken(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await put(api, "math", "tag:topic:math")
        found = (await api.client.get("/v1/search", params={"q": "saved:math -model:large"})).json()
        assert [hit["log_id"] for hit in found["hits"]] == ["m1"]
        tried = (await api.client.post("/v1/rules/dry-run", json={"query": "saved:math"})).json()
        assert tried["looked_at"] == 2
        backfill = (await api.client.post("/v1/backfills", json={"query": "saved:math"})).json()
        assert (backfill["total"], backfill["query"]) == (2, 'tag:"topic:math"')
        unknown = await api.client.get("/v1/search", params={"q": "x saved:maths"})
        assert (unknown.status_code, unknown.json()["column"]) == (400, 9)


async def test_a_draft_means_what_the_search_means_when_it_is_published(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await put(api, "math", "tag:topic:math")
        await api.client.post("/v1/datasets", json={"name": "sums", "query": "saved:math"})
        assert (await published(api))["rows"] == 2
        await put(api, "math", "tag:topic:math model:large")
        second = await published(api)
        assert (second["rows"], second["draft"]["ingredients"][0]["query"]) == (1, 'tag:"topic:math" model:"large"')
        dataset = (await api.client.get("/v1/datasets/sums")).json()
        assert dataset["draft"]["ingredients"][0]["query"] == "saved:math"
        assert [version["draft"]["ingredients"][0]["query"] for version in dataset["versions"]][
            -1
        ] == 'tag:"topic:math"'


async def test_a_version_says_its_query_as_it_was_typed_where_that_says_all(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await api.client.post("/v1/datasets", json={"name": "sums", "query": "tag:topic:math  AND -model:large"})
        assert (await published(api))["draft"]["ingredients"][0]["query"] == "tag:topic:math  AND -model:large"
        await api.client.put("/v1/datasets/sums/draft", json={"query": "ts:<now"})
        assert "now" not in (await published(api))["draft"]["ingredients"][0]["query"]


async def test_a_search_that_something_names_is_not_forgotten(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await put(api, "math", "tag:topic:math")
        await put(api, "large", "saved:math model:large")
        await api.client.post("/v1/datasets", json={"name": "sums", "query": "-saved:math"})
        answer = await api.client.delete("/v1/searches/math")
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:tunemill:problem:in-use")
        assert (answer.json()["datasets"], answer.json()["searches"]) == (["sums"], ["large"])
        assert (await api.client.delete("/v1/searches/large")).status_code == 204
