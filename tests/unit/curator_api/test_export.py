"""Every log of a search over HTTP."""

from pathlib import Path

import msgspec
from fakes.curator_api import running_api, tagged
from fakes.search_memory import MemorySearch

from tunemill.schemas.records import TaggedLog


async def test_every_log_that_matches_is_a_line_as_it_is_kept(tmp_path: Path) -> None:
    logs = [tagged(f"l{number}", f"number n{number % 2}\n\u2028") for number in range(5)]
    async with running_api(tmp_path, *logs) as api:
        answer = await api.client.get("/v1/search/export", params={"q": "n1"})
        nothing = await api.client.get("/v1/search/export", params={"q": "nothing"})
    assert answer.headers["content-type"] == "application/jsonl"
    lines = [msgspec.json.decode(line, type=TaggedLog) for line in answer.content.split(b"\n") if line]
    assert lines == [logs[1], logs[3]]
    assert (nothing.status_code, nothing.content) == (200, b"")


async def test_what_is_erased_is_not_in_an_export_though_the_index_still_gives_it(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("kept"), tagged("erased")) as api:
        await api.client.delete("/v1/logs/erased")
        await api.index.write([tagged("erased")])
        answer = await api.client.get("/v1/search/export")
    assert [msgspec.json.decode(line, type=TaggedLog).log.log_id for line in answer.content.splitlines()] == ["kept"]


async def test_what_goes_wrong_is_said_before_the_first_byte(tmp_path: Path) -> None:
    index = MemorySearch(tagged("a"))
    async with running_api(tmp_path, index=index) as api:
        unreadable = await api.client.get("/v1/search/export", params={"q": "("})
        index.away = True
        away = await api.client.get("/v1/search/export")
    assert (unreadable.status_code, unreadable.json()["column"]) == (400, 2)
    assert (away.status_code, away.headers["content-type"]) == (503, "application/problem+json")
