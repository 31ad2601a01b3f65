"""A log, search and dead letters over HTTP."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from fakes.curator_api import running_api, tagged
from fakes.search_memory import MemorySearch
from sqlalchemy import select

from tunemill.registry import outbox
from tunemill.registry.tables import audit, edits, erasures
from tunemill.schemas import wire
from tunemill.schemas.outcome import Written
from tunemill.schemas.records import Erasure, Feedback, Message, Tag, ToolCall
from tunemill.schemas.stored import StoredLog
from tunemill.schemas.topics import ERASURES


async def test_a_log_has_every_field_and_who_set_its_tags(tmp_path: Path) -> None:
    call = ToolCall(name="add", arguments='{"a":2}', id="c1")
    log = tagged("a", output=(Message(role="assistant", tool_calls=(call,)),), metadata={"team": "x"})
    async with running_api(tmp_path, log) as api:
        found = (await api.client.get("/v1/logs/a")).json()
        missing = await api.client.get("/v1/logs/b")
    assert found["messages"][0] == {
        "role": "user",
        "content": "What is 2+2?",
        "parts": None,
        "tool_calls": [],
        "tool_call_id": None,
        "name": None,
        "refusal": None,
        "reasoning": None,
    }
    assert found["output"][0]["tool_calls"] == [{"id": "c1", "name": "add", "arguments": '{"a":2}'}]
    assert found["usage"] == {"input_tokens": None, "output_tokens": None}
    assert (found["tags"], found["tagged_by"]) == (["topic:math"], {"topic:math": "rule@1"})
    assert (found["model"], found["metadata"], found["tag_status"]) == (None, {"team": "x"}, "ok")
    assert missing.status_code == 404


async def test_a_log_shows_what_was_said_about_it(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", response_id="r"), tagged("b")) as api:
        said = [
            Feedback(feedback_id="late", ts_ms=2, name="helpful", response_id="r", score=1.0, by="person:ann"),
            Feedback(feedback_id="early", ts_ms=1, name="correct", log_id="a", correction="five", comment="no"),
        ]
        await api.index.add_feedback(said)
        found = (await api.client.get("/v1/logs/a")).json()["feedback"]
        assert (await api.client.get("/v1/logs/b")).json()["feedback"] == []
    assert [item["feedback_id"] for item in found] == ["early", "late"]
    assert found[1] == {
        "feedback_id": "late",
        "ts_ms": 2,
        "name": "helpful",
        "score": 1.0,
        "by": "person:ann",
        "response_id": "r",
        **dict.fromkeys(("log_id", "trace_id", "label", "correction", "comment")),
    }


async def test_tags_that_a_person_edits_are_in_the_index_and_in_the_ledger(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", tags=("topic:math", "pii:email"))) as api:
        answer = await api.client.post(
            "/v1/logs/a/tags", json={"add": ["team:x", "topic:math"], "remove": ["pii:email"]}
        )
        assert answer.json() == {"tags": ["topic:math", "team:x"]}
        found = (await api.client.get("/v1/logs/a")).json()
        key_id = api.key.split("_")[1]
        assert found["tagged_by"] == {"topic:math": f"person:{key_id}", "team:x": f"person:{key_id}"}
        with api.registry.connect() as connection:
            rows = connection.execute(select(edits.c.revision, edits.c.kind, edits.c.tag, edits.c.by)).all()
        by = f"person:{key_id}"
        acts = [("untag", "pii:email"), ("tag", "team:x"), ("tag", "topic:math")]
        assert rows == [(number, *act, by) for number, act in enumerate(acts, start=1)]
        hits = (await api.client.get("/v1/search", params={"q": "tag:team:x"})).json()
        assert [hit["log_id"] for hit in hits["hits"]] == ["a"]


async def test_what_a_person_took_off_is_remembered_until_a_person_adds_it(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", tags=("topic:math",))) as api:
        for edit, removed in (
            ({"remove": ["topic:math", "not:there"]}, ("topic:math", "not:there")),
            ({"add": ["topic:math"], "remove": ["topic:sql"]}, ("not:there", "topic:sql")),
        ):
            assert (await api.client.post("/v1/logs/a/tags", json=edit)).status_code == 200
            assert (await api.index.get("a")).removed == removed  # type: ignore[union-attr]


async def test_an_edit_neither_loses_nor_is_lost_to_what_changes_the_log_meanwhile(tmp_path: Path) -> None:
    class Busy(MemorySearch):
        async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
            grown = self.logs["a"]
            if len(grown.tags) < 3:
                self.logs["a"] = msgspec.structs.replace(grown, tags=(*grown.tags, Tag(f"n:{len(grown.tags)}", "r@1")))
            return await super().replace(changed)

    async with running_api(tmp_path, tagged("a"), index=Busy()) as api:
        answer = await api.client.post("/v1/logs/a/tags", json={"add": ["team:x"], "remove": ["topic:math"]})
    assert answer.json() == {"tags": ["n:1", "n:2", "team:x"]}


async def test_an_edit_of_an_erased_log_is_not_remembered(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        await api.client.delete("/v1/logs/a")
        await api.index.write([tagged("a")])  # as a worker may that has not heard of it
        assert (await api.client.post("/v1/logs/a/tags", json={"add": ["team:x"]})).status_code == 404
        with api.registry.connect() as connection:
            assert connection.execute(select(edits.c.kind)).scalars().all() == ["erase"]


@pytest.mark.parametrize(
    "tag", ["math", "topic:", ":math", "Topic:math", "topic:a b", "x" * 40 + ":a", "a:" + "b" * 200]
)
async def test_a_tag_that_is_no_tag_is_refused(tmp_path: Path, tag: str) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        answer = await api.client.post("/v1/logs/a/tags", json={"add": [tag]})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["where"] == "body.add.0"
        assert (await api.client.get("/v1/logs/a")).json()["tags"] == ["topic:math"]


async def test_an_id_with_slashes_is_an_id_like_any_other(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("svc/../a/tags"), tagged("svc")) as api:
        path = "/v1/logs/svc%2F..%2Fa%2Ftags"
        assert (await api.client.get(path)).json()["log_id"] == "svc/../a/tags"
        assert (await api.client.post(f"{path}/tags", json={"add": ["team:x"]})).json()["tags"][-1] == "team:x"
        row = "/v1/datasets/d/rows/svc%2F..%2Fa%2Ftags"
        await api.client.post("/v1/datasets", json={"name": "d", "query": ""})
        assert (await api.client.delete(row)).status_code == 204
        assert (await api.client.delete(path)).json()["found"] is True
        assert (await api.client.get(path)).status_code == 404
        assert (await api.client.get("/v1/logs/svc")).status_code == 200


async def test_an_erased_log_is_gone_at_once_and_everyone_is_told_once(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        first = await api.client.delete("/v1/logs/a")
        again = await api.client.delete("/v1/logs/a")
        assert (first.status_code, first.json()["found"], again.json()["found"]) == (202, True, False)
        assert first.json()["erasure_id"] == again.json()["erasure_id"]
        assert (await api.client.get("/v1/logs/a")).status_code == 404
        assert (await api.client.get("/v1/search")).json()["total"] == 0
        with api.registry.connect() as connection:
            assert connection.execute(select(erasures.c.log_id)).scalars().all() == ["a"]
            assert connection.execute(select(audit.c.action, audit.c.target)).all() == [("log.erase", "a")]
        published: list[bytes] = []

        async def publish(_topic: object, _key: str, value: bytes) -> None:
            published.append(value)

        await outbox.relay(api.registry, [ERASURES], publish)
        sent = [message.value for message in await api.bus.tail(ERASURES, limit=9)] + published
        assert {wire.decode(value, Erasure).log_id for value in sent} == {"a"}


async def test_an_erasure_holds_even_where_the_index_cannot_delete(tmp_path: Path) -> None:
    class CannotDelete(MemorySearch):
        async def delete(self, log_ids: object) -> None:
            self.away = True
            self._answer()

    index = CannotDelete(tagged("a"))
    async with running_api(tmp_path, index=index) as api:
        assert (await api.client.delete("/v1/logs/a")).status_code == 202
        index.away = False
        assert await index.get("a") is not None
        assert (await api.client.get("/v1/logs/a")).status_code == 404


async def test_search_gives_hits_facets_highlights_and_pages(tmp_path: Path) -> None:
    logs = [tagged(f"l{n}", f"a math question, number {n}", ts_ms=n, app="tutor") for n in range(5)]
    async with running_api(tmp_path, *logs, tagged("other", "a poem", tags=())) as api:
        first = (await api.client.get("/v1/search", params={"q": "math", "limit": 3, "sort": "newest"})).json()
        assert (first["total"], [hit["log_id"] for hit in first["hits"]]) == (5, ["l4", "l3", "l2"])
        assert first["facets"]["tag"] == [{"value": "topic:math", "count": 5}]
        assert first["hits"][0]["highlights"] == [[["a ", False], ["math", True], [" question, number 4", False]]]
        assert (first["hits"][0]["prompt"], first["hits"][0]["answer"]) == ("a math question, number 4", "4")
        parameters = {"q": "math", "limit": 3, "sort": "newest", "cursor": first["cursor"]}
        second = (await api.client.get("/v1/search", params=parameters)).json()
        assert ([hit["log_id"] for hit in second["hits"]], second["cursor"]) == (["l1", "l0"], None)


async def test_a_query_that_cannot_be_read_names_its_column(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.get("/v1/search", params={"q": "math AND"})
        assert answer.status_code == 400
        problem = answer.json()
        assert problem["type"] == "urn:tunemill:problem:bad-query"
        assert problem["column"] == 9
        assert problem["expected"]
        assert (await api.client.get("/v1/search", params={"cursor": "nonsense"})).status_code == 400
