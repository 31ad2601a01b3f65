"""A log, search and dead letters over HTTP."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import running_api, tagged
from fakes.search_memory import MemorySearch
from sqlalchemy import select

from tunemill.curator_api.edit_store import Act, record
from tunemill.curator_api.settings import Settings
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
        assert answer.json() == {"tags": ["topic:math", "team:x"], "revision": 3}
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


async def test_no_tag_to_change_changes_nothing(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        assert (await api.client.post("/v1/logs/a/tags", json={})).json() == {"tags": ["topic:math"], "revision": 0}
        assert (await api.client.post("/v1/logs/a/tags", json={"expected_revision": 1})).status_code == 409


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
    assert answer.json() == {"tags": ["n:1", "n:2", "team:x"], "revision": 2}


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def texts(log: dict[str, Any]) -> list[str]:
    return [message["content"] for message in (*log["messages"], *log["output"])]


async def test_edited_messages_are_shown_and_found_and_what_came_is_kept(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", "What is 2+3?", "six")) as api:
        changed = await api.client.patch("/v1/logs/a", json={"output": [said("assistant", "five")], "why": "wrong sum"})
        found = (await api.client.get("/v1/logs/a")).json()
        stored = await api.index.get("a")
        totals = [(await api.client.get("/v1/search", params={"q": q})).json()["total"] for q in ("five", "six")]
    assert changed.status_code == 200 and changed.json() == found
    assert texts(found) == ["What is 2+3?", "five"] and texts(found["original"]) == ["What is 2+3?", "six"]
    assert stored is not None and stored.log == tagged("a", "What is 2+3?", "six").log
    assert stored.content_digest == tagged("a", "What is 2+3?", "six").content_digest
    assert totals == [1, 0]
    (edit,) = found["edits"]
    assert found["revision"] == edit["revision"] == 1
    assert (edit["kind"], edit["why"], edit["by"]) == ("messages", "wrong sum", f"person:{api.key.split('_')[1]}")
    assert edit["value"] is None and not edit["as_it_came"]


async def test_an_edit_over_one_that_was_not_seen_is_refused_with_the_revision(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        first = {"output": [said("assistant", "five")], "expected_revision": 0}
        assert (await api.client.patch("/v1/logs/a", json=first)).json()["revision"] == 1
        for path, sent in (
            ("/v1/logs/a", first),
            ("/v1/logs/a/tags", {"add": ["team:x"], "expected_revision": 0}),
            ("/v1/logs/a/revert", {"revision": 0, "expected_revision": 2}),
        ):
            method = "PATCH" if path.endswith("a") else "POST"
            refused = await api.client.request(method, path, json=sent)
            assert (refused.status_code, refused.json()["revision"]) == (409, 1), path
            assert refused.json()["type"] == "urn:tunemill:problem:edited-meanwhile"
            assert "at revision 1: look at it" in refused.json()["detail"]
        found = (await api.client.get("/v1/logs/a")).json()
        assert (found["revision"], len(found["edits"]), found["tags"]) == (1, 1, ["topic:math"])


async def test_half_an_edit_leaves_the_other_half_to_whoever_else_edits(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", "question", "answer")) as api:
        halves = {"messages": [said("user", "a better question")], "output": [said("assistant", "a better answer")]}
        await asyncio.gather(*(api.client.patch("/v1/logs/a", json={name: half}) for name, half in halves.items()))
        assert texts((await api.client.get("/v1/logs/a")).json()) == ["a better question", "a better answer"]


async def test_an_edit_is_taken_back_to_any_revision(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", "q", "zero")) as api:
        for answer in ("one", "two"):
            await api.client.patch("/v1/logs/a", json={"output": [said("assistant", answer)]})
        await api.client.post("/v1/logs/a/tags", json={"add": ["team:x"]})
        shown = [
            (await api.client.post("/v1/logs/a/revert", json={"revision": revision, "why": "no"})).json()
            for revision in (1, 0, 3)
        ]
        assert [texts(log)[-1] for log in shown] == ["one", "zero", "two"]
        assert [log["original"] is None for log in shown] == [False, True, False]
        assert shown[-1]["tags"] == ["topic:math", "team:x"] and shown[-1]["revision"] == 6
        assert [edit["kind"] for edit in shown[-1]["edits"]] == ["messages"] * 2 + ["tag"] + ["messages"] * 3
        assert [edit["revision"] for edit in shown[-1]["edits"] if edit["as_it_came"]] == [5]
        at = [(await api.client.get("/v1/logs/a", params={"revision": n})).json() for n in (0, 1, 2, 3, 5, 6)]
        assert [texts(log)[-1] for log in at] == ["zero", "one", "two", "two", "zero", "two"]
        assert [(log["original"] is None, log["revision"]) for log in at[:2]] == [(True, 6), (False, 6)]
        assert (await api.client.get("/v1/logs/a", params={"revision": 7})).status_code == 404
        missing = await api.client.post("/v1/logs/a/revert", json={"revision": 7})
        assert missing.status_code == 404 and "no revision 7" in missing.json()["detail"]


async def test_a_persons_word_on_consent_goes_before_the_logs_own(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", consent="train")) as api:
        for consent, shown in (("none", "none"), ("eval_only", "eval_only"), (None, "train")):
            answer = await api.client.patch("/v1/logs/a", json={"consent": consent})
            assert answer.json()["consent"] == shown
            hits = (await api.client.get("/v1/search", params={"q": f"consent:{shown}"})).json()
            assert hits["total"] == 1
            assert answer.json()["consent_said"] == consent
        said = [(edit["value"], edit["as_it_came"]) for edit in answer.json()["edits"]]
        assert said == [("none", False), ("eval_only", False), (None, True)]


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ({}, "it changes nothing"),
        ({"consent": "maybe"}, "consent"),
        (
            {"consent": "none", "why": "it held sk-proj-" + "aB3dE5fG7h" * 5},
            "why: it holds what looks like",
        ),
        ({"messages": [], "output": []}, "at least one message"),
        ({"messages": []}, "messages: an answer needs at least one message before it"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "the role of messages[0]"),
        ({"messages": [said("user", " ")]}, "messages[0] says nothing"),
        ({"output": [said("user", "x")]}, "output[0] is an answer"),
        ({"messages": [{"role": "user", "content": "x", "mood": "fine"}]}, "mood"),
        ({"messages": [said("user", "half a pair \ud800")]}, "surrogate"),
        ({"output": [said("assistant", "write to ann@example.com")]}, "output[0] holds what looks like pii:email"),
        ({"output": [said("assistant", "sk-proj-" + "aB3dE5fG7h" * 5)]}, "output[0] holds what looks like secret:"),
        (
            {"output": [{"role": "assistant", "parts": [{"type": "x", "deep": ["write to ann@example.com"]}]}]},
            "pii:email",
        ),
    ],
)
async def test_messages_that_no_log_may_have_are_refused(tmp_path: Path, edit: dict[str, Any], complaint: str) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        as_json = {"content-type": "application/json"}
        answer = await api.client.patch("/v1/logs/a", content=json.dumps(edit), headers=as_json)
        assert answer.status_code == 422
        assert complaint in answer.text and "ann@" not in answer.text
        assert (await api.client.get("/v1/logs/a")).json()["revision"] == 0


async def test_the_page_edits_as_the_endpoint_does(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a"), settings=Settings(require_key=False)) as api:
        for sent, status in (
            ({"act": "edit", "revision": "0", "output-0": "five", "why": "sum"}, 303),
            ({"act": "edit", "revision": "0", "output-0": "six"}, 409),
            ({"act": "edit", "revision": "1", "output-0": "ask ann@example.com"}, 422),
            ({"act": "consent", "revision": "1", "consent": "maybe"}, 422),
            ({"act": "consent", "revision": "1", "consent": "none"}, 303),
            ({"act": "revert", "revision": "2", "to": "0"}, 303),
        ):
            answer = await api.client.post("/logs/a", data=sent)
            assert answer.status_code == status, sent
        log = (await api.client.get("/v1/logs/a")).json()
        assert (texts(log)[-1], log["consent"], log["revision"]) == ("4", "none", 3)
        assert [(edit["why"], edit["by"]) for edit in log["edits"]] == [("sum", "person:local")] + [
            (None, "person:local")
        ] * 2
        shown = await api.client.get("/logs/a")
        assert "person:local" in shown.text and "five" not in shown.text


async def test_of_thousands_of_edits_the_last_are_shown_and_none_of_their_texts_but_the_one_in_force(
    tmp_path: Path,
) -> None:
    async with running_api(tmp_path, tagged("a"), settings=Settings(require_key=False)) as api:
        acts = [Act("consent", value="none"), Act("consent"), Act("consent", value="eval_only")]
        for number in range(4_997):
            long = {"messages": [said("user", "2+2?")], "output": [said("assistant", f"{number} {'x' * 1_000}")]}
            acts.append(Act("messages", value=long))
        await asyncio.to_thread(record, api.registry, "default", {"a": acts}, by="person:ann")
        answer = await api.client.get("/v1/logs/a")
        page = await api.client.get("/logs/a")
    assert "4,800 earlier" in page.text and "4995 x" not in page.text
    log = answer.json()
    assert (log["revision"], len(log["edits"]), log["consent_said"]) == (5_000, 200, "eval_only")
    assert [edit["revision"] for edit in log["edits"]] == list(range(4_801, 5_001))
    assert texts(log)[-1].startswith("4996 ") and answer.text.count("x" * 1_000) == 1


async def test_an_edit_that_the_index_does_not_have_yet_is_shown(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        value = {"messages": [], "output": [said("assistant", "five")]}
        await asyncio.to_thread(record, api.registry, "default", {"a": [Act("messages", value=value)]}, by="person:ann")
        log = (await api.client.get("/v1/logs/a")).json()
        assert (texts(log), log["revision"]) == (["five"], 1)


async def test_what_a_log_held_itself_may_stay(tmp_path: Path) -> None:
    odd = (Message(role="function", content=""), Message(role="user", content="I am ann@example.com"))
    async with running_api(tmp_path, tagged("a", messages=odd)) as api:
        log = (await api.client.get("/v1/logs/a")).json()
        log["output"][0]["content"] = "Hello ann@example.com"
        answer = await api.client.patch("/v1/logs/a", json={name: log[name] for name in ("messages", "output")})
        assert texts(answer.json())[-1] == "Hello ann@example.com"


async def test_a_secret_that_a_log_held_itself_may_not_be_written_down_again(tmp_path: Path) -> None:
    secret = "sk-proj-" + "aB3dE5fG7h" * 5
    async with running_api(tmp_path, tagged("a", "question", f"use {secret}")) as api:
        again = await api.client.patch("/v1/logs/a", json={"output": [said("assistant", f"rather use {secret}")]})
        assert again.status_code == 422 and secret not in again.text
        assert (await api.client.patch("/v1/logs/a", json={"output": [said("assistant", "use yours")]})).is_success


async def test_what_is_taken_out_of_a_text_is_out_of_its_parts(tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://pictures.test/1"}}
    parts = [{"type": "text", "text": "call me Ann"}, picture]
    async with running_api(
        tmp_path, tagged("a", messages=(Message(role="user", content="call me Ann", parts=parts),))
    ) as api:
        (message,) = (await api.client.get("/v1/logs/a")).json()["messages"]
        answer = await api.client.patch("/v1/logs/a", json={"messages": [message | {"content": "call me"}]})
        assert answer.json()["messages"][0]["parts"] == [picture]


async def test_an_edit_may_not_make_a_log_larger_than_one_that_comes(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        answer = await api.client.patch("/v1/logs/a", json={"output": [said("assistant", "x" * (4 * 2**20))]})
        assert answer.status_code == 413 and "4194304 is the most" in answer.json()["detail"]


async def test_an_erasure_takes_what_people_wrote_along(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a"), tagged("b")) as api:
        for log_id in ("a", "b"):
            await api.client.patch(f"/v1/logs/{log_id}", json={"output": [said("assistant", "my name")], "why": "hers"})
        await api.client.delete("/v1/logs/a")
        with api.registry.connect() as connection:
            rows = connection.execute(select(edits.c.log_id, edits.c.revision, edits.c.kind, edits.c.why)).all()
        assert sorted(rows) == [("a", 1, "erase", None), ("a", 2, "erase", None), ("b", 1, "messages", "hers")]


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
