"""Old logs that go with their whole indices, asked for over HTTP, on a real Elasticsearch."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines.own_index import opened
from fakes.curator_api import Running, running_api, tagged

from tunemill.curator_api import job_runner, retention_limits
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.errors import CursorInvalid
from tunemill.indexer.open import open_index
from tunemill.indexer.query import parse
from tunemill.indexer.search import SearchRequest
from tunemill.registry.tables import now_ms
from tunemill.schemas.outcome import Written
from tunemill.schemas.records import Feedback, TaggedLog

pytestmark = pytest.mark.live

DAY_MS = retention_limits.DAY_MS
NOW_MS = now_ms()


def aged(*days: int) -> list[TaggedLog]:
    """A log of each of so many days ago."""
    return [tagged(f"l{day:02}", ts_ms=NOW_MS - day * DAY_MS - DAY_MS // 2) for day in days]


@pytest.fixture
async def index(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ElasticIndex]:
    """As a worker has it: logs of three ages, which came when they were made. An index is full as soon as it holds a log."""
    monkeypatch.setattr(retention_limits, "width_ms", lambda _policy: 1)
    monkeypatch.setattr(retention_limits, "ON_THEIR_WAY_MS", 0)
    monkeypatch.setattr(job_runner, "LOOK_EVERY_S", 0.05)
    async with opened(elasticsearch_url) as found:
        assert isinstance(found, ElasticIndex)
        await found.write(aged(*range(24, 31)))
        await found.roll_over()
        await found.write(aged(*range(10, 21)))
        await found.roll_over()
        await found.write(aged(0, 1))
        await found.refresh()
        yield found


async def run(api: Running) -> dict[str, Any]:
    """What became of a run that was asked for now."""
    job = (await api.client.post("/v1/jobs", json={"kind": "retention"})).json()
    async with asyncio.timeout(60):
        while job["status"] == "running":
            await asyncio.sleep(0.05)
            job = (await api.client.get(f"/v1/jobs/{job['job_id']}")).json()
    counts = {name: job["result"][name]["logs"] for name in ("before", "after")}
    return {"status": job["status"], "seen": job["seen"], "indices": job["result"]["indices"], **counts}


async def held(index: ElasticIndex, elasticsearch_url: str) -> dict[str, int]:
    """How many logs each index holds, by its number."""
    await index.refresh()
    async with httpx.AsyncClient(base_url=elasticsearch_url) as client:
        listed = (await client.get(f"/_cat/indices/{index.alias}-*?format=json")).json()
    return {row["index"].rpartition("-")[2]: int(row["docs.count"]) for row in listed}


def outcomes(written: Sequence[Written]) -> list[str]:
    return [item.outcome.value for item in written]


async def test_an_index_goes_when_its_newest_log_is_too_old(
    index: ElasticIndex, elasticsearch_url: str, tmp_path: Path
) -> None:
    said = [Feedback(feedback_id=f"f{day}", ts_ms=1, log_id=f"l{day}", name="ok") for day in (30, 12)]
    await index.add_feedback(said)
    assert await held(index, elasticsearch_url) == {"000001": 7, "000002": 11, "000003": 2}
    oldest = SearchRequest(parse(""), limit=2, sort="oldest", counts=False)
    best = SearchRequest(parse("2+2"), limit=2, counts=False)
    by_time, by_score = await index.search(oldest), await index.search(best)
    another = open_index(elasticsearch_url, project=index.alias.removeprefix("logs-"))
    async with running_api(tmp_path, index=another) as api:
        put = (await api.client.put("/v1/retention", json={"max_age_days": 16})).json()
        assert (put["logs"], put["due"]) == (20, 12)
        first = await run(api)
        # Of the second index, whose newest log is ten days old, only what came late goes by itself.
        assert first == {"status": "done", "seen": 10, "indices": 1, "before": 20, "after": 10}
        assert await held(index, elasticsearch_url) == {"000002": 8, "000003": 2, "000004": 0}
        # What is kept is not written again; what was dropped is, and goes again.
        assert outcomes(await index.write(aged(0, 10, 17, 30))) == ["duplicate"] * 3 + ["indexed"]
        assert await held(index, elasticsearch_url) == {"000002": 8, "000003": 2, "000004": 1}
        second = await run(api)
        assert second == {"status": "done", "seen": 1, "indices": 0, "before": 11, "after": 10}
    assert await index.get("l30") is None
    assert [len(await index.feedback_of(tagged(name).log)) for name in ("l30", "l12")] == [0, 1]
    page = await index.search(SearchRequest(parse(""), limit=2, sort="oldest", counts=False, cursor=by_time.cursor))
    assert [hit.log.log.log_id for hit in page.hits] == ["l17", "l16"]
    with pytest.raises(CursorInvalid):
        await index.search(SearchRequest(parse("2+2"), limit=2, counts=False, cursor=by_score.cursor))
