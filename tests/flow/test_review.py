"""The review queue as a browser walks through it: forms sent one after another, and what they leave behind."""

import asyncio
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from engines.own_index import opened
from fakes.curator_api import Running, running_api, tagged
from fakes.search_memory import MemorySearch

from tunemill.curator_api import review
from tunemill.curator_api.edit_store import Act, record
from tunemill.curator_api.learned_store import labels_of
from tunemill.curator_api.review import KEEP, REJECT
from tunemill.curator_api.settings import Settings
from tunemill.indexer.search import SearchPage, SearchRequest
from tunemill.schemas.records import Feedback

LOGS = [tagged(name, f"What is {at}+{at}?", f"it is {at}", ts_ms=at) for at, name in enumerate("abcd", start=1)]
OPEN = Settings(require_key=False)


class Forms(HTMLParser):
    """The forms of a page, and what presses of its keys do."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.keys: dict[str, tuple[str, Any]] = {}  # key -> (tag, its attributes or its form's fields and its own)
        self.writing: str | None = None
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({})
        if tag == "textarea":
            self.writing = given["name"]
            self.forms[-1][self.writing] = ""
        elif tag == "input" and given.get("name"):
            self.forms[-1][given["name"]] = given.get("value", "")
        if key := given.get("data-key"):
            self.keys[key] = (tag, given if tag in ("a", "details") else (self.forms[-1], given))

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self.writing = None

    def handle_data(self, data: str) -> None:
        if self.writing:
            self.forms[-1][self.writing] += data.removeprefix("\n") if not self.forms[-1][self.writing] else data

    @property
    def log_id(self) -> str | None:
        return self.keys["k"][1][0]["log_id"] if "k" in self.keys else None


class Reviewer:
    """Somebody at the page."""

    def __init__(self, api: Running) -> None:
        self._client = api.client
        self.page = Forms(httpx.Response(200, text=""))
        self.text = ""

    async def look(self, path: str) -> str | None:
        """Follow an address, and give the log that is shown."""
        answer = await self._client.get(path)
        while answer.is_redirect:
            answer = await self._client.get(answer.headers["location"])
        self.page, self.text = Forms(answer), answer.text
        return self.page.log_id

    async def press(self, key: str, **fields: str) -> str | None:
        """Press a key; with fields filled in, the button of their form."""
        tag, what = self.page.keys[key]
        if tag == "a":
            return await self.look(what["href"])
        form, button = what
        act = button["value"] if tag == "button" else "tag"
        return await self.send({**form, **fields, "act": act})

    async def send(self, fields: dict[str, str]) -> str | None:
        answer = await self._client.post("/review", data=fields)
        assert answer.status_code == 303, answer.text
        return await self.look(answer.headers["location"])

    def editing(self) -> dict[str, str]:
        """The form that edits the log's texts."""
        return next(form for form in self.page.forms if "messages-0" in form)


async def tags_of(api: Running, log_id: str) -> list[str]:
    return [tag for tag in (await api.client.get(f"/v1/logs/{log_id}")).json()["tags"] if tag.startswith("review:")]


async def test_a_person_walks_through_the_hits_of_a_search(tmp_path: Path) -> None:
    poem = tagged("poem", "Write a poem", tags=("topic:poetry",))
    async with running_api(tmp_path, *LOGS, poem, settings=OPEN) as api:
        me = Reviewer(api)
        assert await me.look("/review?q=tag:topic:math&sort=oldest") == "a"
        assert "<strong>0</strong> done, <strong>4</strong> left" in me.text
        assert [await me.press(key) for key in ("k", "r", "ArrowRight")] == ["b", "c", "d"]
        assert await me.press("k") == "c"  # what was skipped comes again
        assert "<strong>3</strong> done, <strong>1</strong> left" in me.text
        assert await me.press("r") is None
        assert "All of them are decided on" in me.text
        found = [await tags_of(api, name) for name in ("a", "b", "c", "d", "poem")]
        kept = next(form for form in me.page.forms if "query" in form)
    assert found == [["review:keep"], ["review:reject"], ["review:reject"], ["review:keep"], []]
    assert kept["query"] == "tag:topic:math tag:review:keep"


async def test_a_decision_takes_off_the_other_and_is_a_label_of_both(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        await me.press("k")
        await me.look("/review?log=a")
        await me.press("r")
        assert await tags_of(api, "a") == ["review:reject"]
        assert labels_of(api.registry, "default", "review:keep") == {"a": False}
        assert labels_of(api.registry, "default", "review:reject") == {"a": True}


async def test_a_log_is_fixed_and_kept(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        form = me.editing()
        assert (form["messages-0"], form["output-0"]) == ("What is 1+1?", "it is 1")
        assert await me.send({**form, "output-0": "it is 2\nthat is all", "act": "fix"}) == "b"
        fixed = (await api.client.get("/v1/logs/a")).json()
    assert (fixed["output"][0]["content"], fixed["messages"][0]["content"]) == ("it is 2\nthat is all", "What is 1+1?")
    assert fixed["original"]["output"][0]["content"] == "it is 1"
    assert "review:keep" in fixed["tags"]


async def test_the_better_answer_of_a_feedback_is_taken_by_a_key(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        better = Feedback(feedback_id="f", ts_ms=1, name="is_correct", score=0.0, correction="it is <2>", log_id="a")
        await api.index.add_feedback([better])
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        assert await me.press("c") == "b"
        fixed = (await api.client.get("/v1/logs/a")).json()
    assert (fixed["output"][0]["content"], "review:keep" in fixed["tags"]) == ("it is <2>", True)


async def test_a_tag_is_added_and_the_log_stays_in_view(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        assert await me.press("t", add="topic:sums") == "a"
        assert await me.press("k") == "b"
        assert "topic:sums" in (await api.client.get("/v1/logs/a")).json()["tags"]


@pytest.mark.parametrize("before", ["it is 1", "it was edited before"])
@pytest.mark.parametrize("act", ["keep", "fix"])
async def test_a_decision_is_undone_as_if_it_had_not_been(tmp_path: Path, act: str, before: str) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        edited = {"output": [{"role": "assistant", "content": before}]}
        assert (await api.client.patch("/v1/logs/a", json=edited)).status_code == 200
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        assert await me.send({**me.editing(), "output-0": "other", "act": act}) == "b"
        assert await me.press("u") == "a"
        found = (await api.client.get("/v1/logs/a")).json()
        assert (found["tags"], found["output"][0]["content"]) == (["topic:math"], before)
        assert labels_of(api.registry, "default", "review:keep") == {}
        assert labels_of(api.registry, "default", "review:reject") == {}
        assert await me.press("ArrowRight") == "b"  # where the walk was


async def test_a_decision_can_still_be_undone_after_a_skip_and_a_tag(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        assert await me.press("k") == "b"
        assert await me.press("ArrowRight") == "c"
        assert await me.press("t", add="topic:sums") == "c"
        assert await me.press("u") == "a"
        assert await tags_of(api, "a") == []


async def test_what_somebody_else_decided_since_is_not_undone(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        await me.press("k")
        other = [Act("untag", KEEP), Act("tag", REJECT)]
        await asyncio.to_thread(record, api.registry, "default", {"a": other}, by="person:bob")
        form, button = me.page.keys["u"][1]
        answer = await api.client.post("/review", data={**form, "act": button["value"]})
        assert answer.status_code == 409
        assert labels_of(api.registry, "default", REJECT) == {"a": True}


async def test_a_log_that_somebody_changed_meanwhile_is_not_decided_on_unseen(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        await api.client.patch("/v1/logs/a", json={"consent": "none"})
        form, button = me.page.keys["k"][1]
        answer = await api.client.post("/review", data={**form, "act": button["value"]})
        assert (answer.status_code, await tags_of(api, "a")) == (409, [])


async def test_what_somebody_else_decided_or_had_forgotten_meanwhile_is_passed_over(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        await api.client.post("/v1/logs/b/tags", json={"add": ["review:reject"]})
        await api.client.delete("/v1/logs/c")
        assert await me.press("k") == "d"


async def test_many_that_were_decided_on_meanwhile_are_not_looked_at_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(MemorySearch):
        searches = 0

        async def search(self, request: SearchRequest) -> SearchPage:
            self.searches += 1
            return await super().search(request)

    monkeypatch.setattr(review, "MOST_PASSED", 5)
    index = Counting(*(tagged(f"l{at:02}", "What?", ts_ms=at) for at in range(40)))
    async with running_api(tmp_path, index=index, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        for at in range(1, 39):
            await api.client.post(f"/v1/logs/l{at:02}/tags", json={"add": ["review:reject"]})
        index.searches = 0
        assert await me.press("k") == "l39"
        assert index.searches < 20
        assert await me.press("u") == "l00"  # it can be undone in the next pass, too


async def test_a_place_that_is_over_is_taken_for_the_start(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        assert await Reviewer(api).look("/review?sort=oldest&after=gone") == "a"


async def test_a_query_that_cannot_be_read_is_shown_with_its_place(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        answer = await api.client.get("/review", params={"q": "tag:topic:math AND"})
    assert (answer.status_code, "column 19" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"act": "drop", "log_id": "a", "revision": "0"}, 400),
        ({"act": "keep", "log_id": "a"}, 400),
        ({"act": "keep", "log_id": "none", "revision": "0"}, 404),
        ({"act": "undo", "log_id": "a", "revision": "0"}, 404),
        ({"act": "tag", "log_id": "a", "add": "no tag"}, 422),
    ],
)
async def test_what_no_form_of_ours_sends_changes_nothing(tmp_path: Path, fields: dict[str, str], status: int) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        answer = await api.client.post("/review", data=fields)
        assert (answer.status_code, await tags_of(api, "a")) == (status, [])


@pytest.mark.parametrize(
    ("engine", "sort"),
    [
        *(("embedded", sort) for sort in ("newest", "relevance", "length", "feedback")),
        *(pytest.param("elasticsearch", sort, marks=pytest.mark.live) for sort in ("newest", "relevance")),
    ],
)
async def test_the_queue_of_a_real_index_ends_however_it_is_sorted(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, sort: str
) -> None:
    url = f"local:{tmp_path}" if engine == "embedded" else request.getfixturevalue("elasticsearch_url")
    async with opened(url) as index:
        await index.write(LOGS)
        await index.refresh()
        async with running_api(tmp_path, settings=OPEN, index=index) as api:
            me, seen = Reviewer(api), []
            log_id = await me.look(f"/review?q=what&sort={sort}")
            while log_id is not None:
                seen.append(log_id)
                log_id = await me.press("k")
    assert sorted(seen) == ["a", "b", "c", "d"]


async def test_what_to_keep_is_learned_from_the_decisions(tmp_path: Path) -> None:
    logs = [
        tagged(
            f"l{at:02}",
            f"What is {at}+1?",
            "a long and careful answer" if at % 2 else "no idea",
            ts_ms=at,
            session_id=f"s{at}",
        )
        for at in range(24)
    ]
    async with running_api(tmp_path, *logs, settings=OPEN) as api:
        me = Reviewer(api)
        await me.look("/review?sort=oldest")
        for at in range(24):
            await me.press("k" if at % 2 else "r")
        assert "tunemill tags learn review:keep" in me.text
        learned = (await api.client.post("/v1/learned-tags", json={"tag": "review:keep"})).json()
    assert (learned["report"]["yes"], learned["report"]["no"]) == (12, 12)
    assert learned["report"]["held_out"]["recall"]["share"] == 1


async def test_saved_searches_have_a_page(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS, settings=OPEN) as api:
        saved = await api.client.post("/searches", data={"name": "math", "query": "tag:topic:math"})
        assert (saved.status_code, urlsplit(saved.headers["location"]).path) == (303, "/searches")
        assert "<code>tag:topic:math</code>" in (await api.client.get("/searches")).text
        assert await Reviewer(api).look("/review?q=saved:math&sort=oldest") == "a"
        assert (await api.client.post("/searches", data={"name": "Bad", "query": ""})).status_code == 422
        await api.client.post("/searches", data={"name": "math", "act": "delete"})
        assert (await api.client.get("/v1/searches")).json() == {"searches": []}
