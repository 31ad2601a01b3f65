"""Search, logs that are alike, and a log's neighbours, over HTTP."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from fakes.curator_api import running_api, tagged
from fakes.search_memory import MemorySearch

from tunemill.curator_api import ledger
from tunemill.indexer.ast import And
from tunemill.indexer.errors import SearchTooSlow
from tunemill.indexer.open import open_index
from tunemill.indexer.search import SearchPage, SearchRequest
from tunemill.schemas.records import TaggedLog
from tunemill.streams.fingerprint import fingerprints

HOUR_MS = 3_600_000
AT_MS = 1_699_999_200_000  # a full hour


async def test_a_search_in_the_body_is_the_search_in_the_address(tmp_path: Path) -> None:
    logs = [tagged(f"l{at}", ts_ms=AT_MS + at * HOUR_MS, cost_usd=at / 4) for at in range(5)]
    async with running_api(tmp_path, *logs) as api:
        asked = {"q": "app:* OR tag:*", "sort": "cost", "limit": 2, "counts": True}
        by_address = await api.client.get("/v1/search", params={**asked, "counts": "true"})
        by_body = await api.client.post("/v1/search", json=asked)
        found = by_address.json()
        assert [hit["log_id"] for hit in found["hits"]] == ["l4", "l3"]
        assert found["histogram"] == {
            "bucket_ms": 5 * 60_000,
            "buckets": [[AT_MS + at * HOUR_MS, 1] for at in range(5)],
        }
        assert by_body.json() | {"cursor": None} == found | {"cursor": None}
        rest = (await api.client.post("/v1/search", json=asked | {"cursor": found["cursor"], "counts": False})).json()
        assert [hit["log_id"] for hit in rest["hits"]] == ["l2", "l1"]
        assert (rest["total"], rest["facets"], rest["histogram"]) == (5, {}, None)
        wrong = await api.client.post("/v1/search", json=asked | {"sort": "best"})
        assert wrong.status_code == 422


class SlowSearch(MemorySearch):
    """One whose engine takes too long for two words, and has no time to mark the first hit."""

    async def search(self, request: SearchRequest) -> SearchPage:
        if isinstance(request.query, And):
            raise SearchTooSlow(10)
        page = await super().search(request)
        return replace(page, hits=(replace(page.hits[0], highlights=(), is_marked=False), *page.hits[1:]))


async def test_a_search_that_takes_too_long_is_to_be_made_narrower_and_not_sent_again(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", "apple"), tagged("b", "apple"), index=SlowSearch()) as api:
        slow = await api.client.get("/v1/search", params={"q": "apple pear"})
        assert (slow.status_code, slow.json()["type"]) == (504, "urn:tunemill:problem:search-too-slow")
        assert "make it narrower" in slow.json()["detail"]
        assert "retry-after" not in slow.headers
        for fields in ({}, {"fields": "log_id"}):
            found = (await api.client.get("/v1/search", params={"q": "apple", **fields})).json()
            assert (len(found["hits"]), found["unmarked"]) == (2, 1)


async def test_a_mistake_in_a_search_is_told_with_its_column(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.client.put("/v1/searches/wrong-math", json={"query": "tag:topic:math"})
        for text, column, expected in (
            ("a saved:wrong-maht", 9, "the name of a saved search (did you mean wrong-math?)"),
            ("x" * 4_097, 4_097, "at most 4096"),
        ):
            by_address = await api.client.get("/v1/search", params={"q": text})
            by_body = await api.client.post("/v1/search", json={"q": text})
            for answer in (by_address, by_body):
                said = answer.json()
                assert (answer.status_code, said["column"], said["expected"]) == (400, column, expected)


async def test_hits_have_the_fields_that_are_asked_for(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", cost_usd=0.5, metadata={"team": "x"})) as api:
        fields = "log_id, prompt,cost_usd,metadata,tagged_by,messages,revision"
        (hit,) = (await api.client.get("/v1/search", params={"fields": fields})).json()["hits"]
        whole = (await api.client.get("/v1/logs/a")).json()
        assert hit == {name.strip(): whole.get(name.strip()) for name in fields.split(",")} | {"prompt": "What is 2+2?"}
        (hit,) = (await api.client.post("/v1/search", json={"fields": ["log_id", "answer"]})).json()["hits"]
        assert hit == {"log_id": "a", "answer": "4"}
        for unknown in ("nonsense", "feedback", ""):
            answer = await api.client.get("/v1/search", params={"fields": f"log_id,{unknown}"})
            assert answer.status_code == 422
            assert repr(unknown) in answer.json()["detail"]
            assert ", cost_usd, " in answer.json()["detail"]  # what there is


async def test_a_later_page_shows_no_log_that_was_erased_since_the_first(tmp_path: Path) -> None:
    async with running_api(tmp_path, *(tagged(f"l{at}", ts_ms=at) for at in range(6))) as api:
        first = (await api.client.get("/v1/search", params={"limit": 2})).json()
        ledger.erase(api.registry, "default", "l2", by="person:ann")  # and the index still has it
        second = (await api.client.get("/v1/search", params={"limit": 2, "cursor": first["cursor"]})).json()
        assert [hit["log_id"] for hit in second["hits"]] == ["l3"]
        third = (await api.client.get("/v1/search", params={"limit": 2, "cursor": second["cursor"]})).json()
        assert [hit["log_id"] for hit in third["hits"]] == ["l1", "l0"]


async def test_now_means_on_every_page_what_it_meant_on_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(10_000_000, 99_000_000, 1_000_000))
    monkeypatch.setattr("tunemill.curator_api.search.now_ms", lambda: next(moments))
    async with running_api(tmp_path, *(tagged(f"l{at}", ts_ms=8_000_000 + at) for at in range(4))) as api:
        asked = {"q": "ts:>now-1h", "limit": 3}
        first = (await api.client.get("/v1/search", params=asked)).json()
        second = (await api.client.get("/v1/search", params=asked | {"cursor": first["cursor"]})).json()
        assert (first["total"], second["total"], len(second["hits"])) == (4, 4, 1)


async def test_logs_with_all_words_come_first_and_then_those_with_some(tmp_path: Path) -> None:
    logs = [tagged("both", "apple pear"), tagged("one", "apple pie"), tagged("other", "a pear"), tagged("none", "fig")]
    async with running_api(tmp_path, *logs, tagged("erased", "an apple")) as api:
        ledger.erase(api.registry, "default", "erased", by="person:ann")
        asked = {"q": "apple pear"}
        found = (await api.client.get("/v1/search", params=asked)).json()
        matches = {hit["log_id"]: hit["match"] for hit in found["hits"]}
        assert matches == {"both": "all", "one": "any", "other": "any"}
        assert found["hits"][0]["log_id"] == "both"
        assert (found["total"], found["wider"]) == (1, {"q": "apple OR pear", "total": 3})
        wider = (await api.client.get("/v1/search", params={"q": found["wider"]["q"]})).json()
        assert (wider["total"], wider["wider"]) == (4, None)
        picked = (await api.client.post("/v1/search", json=asked | {"fields": ["match", "prompt"]})).json()
        assert picked["hits"][0] == {"match": "all", "prompt": "apple pear"}
        only = (await api.client.get("/v1/search", params=asked | {"match": "all"})).json()
        assert ([hit["log_id"] for hit in only["hits"]], only["total"], only["wider"]) == (["both"], 1, None)
        assert (await api.client.get("/v1/search", params=asked | {"match": "some"})).status_code == 422


async def test_pages_go_on_from_the_logs_with_all_words_to_those_with_some(tmp_path: Path) -> None:
    logs = [tagged(f"both{at}", "apple pear", ts_ms=at) for at in range(3)]
    async with running_api(tmp_path, *logs, *(tagged(f"one{at}", "apple", ts_ms=at) for at in range(2))) as api:
        seen: list[tuple[str, str]] = []
        wider, asked = [], {"q": "apple pear", "limit": 2}
        while True:
            page = (await api.client.get("/v1/search", params=asked)).json()
            assert page["total"] == 3
            seen += [(hit["log_id"], hit["match"]) for hit in page["hits"]]
            wider.append(page["wider"] and page["wider"]["total"])
            if page["cursor"] is None:
                break
            asked["cursor"] = page["cursor"]
        ids = ["both2", "both1", "both0", "one1", "one0"]
        assert seen == list(zip(ids, ["all"] * 3 + ["any"] * 2, strict=True))
        assert wider == [None, 2, 2]
        mine = {"q": "apple pear", "limit": 2, "match": "all", "cursor": asked["cursor"]}
        assert (await api.client.get("/v1/search", params=mine)).status_code == 400


async def test_words_that_no_log_has_together_are_offered_one_by_one_in_every_order(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", "apple pie"), tagged("b", "a pear")) as api:
        asked = {"q": "apple pear tag:topic:math", "sort": "newest"}
        found = (await api.client.get("/v1/search", params=asked)).json()
        assert (found["total"], found["hits"], found["wider"]["total"]) == (0, [], 2)
        wider = (await api.client.get("/v1/search", params=asked | {"q": found["wider"]["q"]})).json()
        assert wider["total"] == 2
        assert (await api.client.get("/v1/search", params=asked | {"match": "all"})).json()["wider"] is None
        for sort in ("newest", "relevance"):
            for text in ("plum cherry", "apple tag:no:such", "apple"):
                nothing = (await api.client.get("/v1/search", params={"q": text, "sort": sort})).json()
                assert nothing["wider"] is None


async def test_what_is_done_with_a_search_is_done_to_the_logs_with_all_words(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("both", "apple pear"), tagged("one", "apple")) as api:
        found = (await api.client.get("/v1/search", params={"q": "apple pear"})).json()
        assert (len(found["hits"]), found["total"]) == (2, 1)
        counted = {"kind": "tags", "query": "apple pear", "add": ["team:x"], "dry_run": True}
        answer = await api.client.post("/v1/jobs", json=counted)
        assert answer.json() == {"total": 1, "log_ids": ["both"]}
        lines = (await api.client.get("/v1/search/export", params={"q": "apple pear"})).text.splitlines()
        assert len(lines) == 1


def sketched(log_id: str, question: str) -> TaggedLog:
    log = tagged(log_id, question, answer=None)
    (sketch,) = fingerprints([log.log])
    return msgspec.structs.replace(log, fingerprint=sketch)


async def test_logs_are_alike_by_their_telling_words_and_near_by_nearly_all(tmp_path: Path) -> None:
    asked = (
        "please explain how the refund of a broken kettle works when the parcel came on a rainy tuesday in the spring"
    )
    logs = [
        sketched("a", asked),
        sketched("same", asked.upper()),
        sketched("near", asked.replace("spring", "summer")),
        sketched("like", "a refund for my broken kettle, please: it came on tuesday"),
        sketched("other", " ".join(f"word{at}" for at in range(40))),
        sketched("erased", asked),
    ]
    piece = (logs[0].fingerprint or "")[:16]  # all that it has of the sketch
    logs.append(msgspec.structs.replace(tagged("unlike", "nothing of it"), fingerprint=piece.ljust(128, "0")))
    async with running_api(tmp_path, *logs, index=open_index(f"local:{tmp_path}", project="default")) as api:
        ledger.erase(api.registry, "default", "erased", by="person:ann")
        found = (await api.client.get("/v1/similar", params={"log_id": "a", "limit": 9})).json()
        assert [hit["log_id"] for hit in found["similar"]] == ["same", "near", "like"]
        near = {one["log_id"]: one["similarity"] for one in found["near_duplicates"]}
        assert list(near) == ["same", "near"]
        assert near["same"] == 1.0 > near["near"] >= 0.8
        by_text = (await api.client.get("/v1/similar", params={"text": "refund kettle", "limit": 1})).json()
        assert len(by_text["similar"]) == 1
        assert by_text["near_duplicates"] == []
        assert (await api.client.get("/v1/similar", params={"log_id": "none"})).status_code == 404
        for asked_for in ({}, {"log_id": "a", "text": "x"}):
            assert (await api.client.get("/v1/similar", params=asked_for)).status_code == 422


async def test_a_log_names_its_neighbours_in_its_session(tmp_path: Path) -> None:
    logs = [tagged(f"l{at:02}", f"question {at}", ts_ms=AT_MS + at // 2, session_id="s") for at in range(30)]
    async with running_api(tmp_path, *logs, tagged("alone"), tagged("far", session_id="t")) as api:
        await api.client.delete("/v1/logs/l13")
        found = (await api.client.get("/v1/logs/l15")).json()["neighbours"]
        assert (found["total"], found["place"]) == (29, 15)
        assert [one["log_id"] for one in found["before"]] == [f"l{at:02}" for at in range(4, 15) if at != 13]
        assert [one["log_id"] for one in found["after"]] == [f"l{at}" for at in range(16, 26)]
        assert found["after"][0] == {"log_id": "l16", "ts_ms": AT_MS + 8, "prompt": "question 16"}
        assert (await api.client.get("/v1/logs/alone")).json()["neighbours"] is None
        assert (await api.client.get("/v1/logs/far")).json()["neighbours"]["total"] == 1
