"""Feedback over HTTP: what is taken, what its sender hears of each item, and what lies on the bus."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import Running, running_api
from fakes.stream_worker import StreamWorker

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.indexer.open import open_index
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.packing import pack
from tunemill.schemas.records import Feedback, LogRecord, Message
from tunemill.schemas.topics import FEEDBACK, Topic

THUMB = {"name": "helpful", "score": 1, "log_id": "a"}


async def on_the_bus(api: Running) -> list[Feedback]:
    messages = await api.bus.tail(FEEDBACK, limit=99)
    found = [wire.decode(message.value, Feedback) for message in reversed(messages)]
    assert [message.key for message in reversed(messages)] == [item.feedback_id for item in found]
    return found


async def test_feedback_lies_on_the_bus_with_an_id_a_time_and_who_it_is_from(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/feedback", json=THUMB)
        (found,) = await on_the_bus(api)
        assert answer.status_code == 202
        assert answer.json() == {"accepted": 1, "feedback_ids": [found.feedback_id], "rejected": []}
        assert (found.log_id, found.name, found.score) == ("a", "helpful", 1.0)
        assert found.by == f"person:{api.key.split('_')[1]}"
        assert found.ts_ms > 1_700_000_000_000


async def test_what_the_sender_says_holds(tmp_path: Path) -> None:
    whole: dict[str, Any] = {
        "feedback_id": "mine-1",
        "name": "answer",
        "response_id": "chatcmpl-1",
        "trace_id": "0" * 32,
        "label": "wrong",
        "correction": "4, ни больше ни меньше",
        "comment": "two\nlines",
        "by": "customer-7",
        "ts_ms": 5,
    }
    async with running_api(tmp_path) as api:
        assert (await api.client.post("/v1/feedback", json=whole)).json()["feedback_ids"] == ["mine-1"]
        assert await on_the_bus(api) == [Feedback(**whole)]


@pytest.mark.parametrize(
    "body",
    [
        msgspec.json.encode([THUMB, THUMB]),
        msgspec.json.encode(THUMB) + b"\n\n" + msgspec.json.encode(THUMB) + b"\n",
    ],
)
async def test_many_items_come_as_an_array_or_as_lines(tmp_path: Path, body: bytes) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/feedback", content=body)
        ids = answer.json()["feedback_ids"]
        assert (answer.json()["accepted"], len(set(ids))) == (2, 2)
        assert [item.feedback_id for item in await on_the_bus(api)] == ids


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "helpful", "score": 1}, "log_id, response_id or trace_id"),
    ({"name": "helpful", "log_id": "a"}, "score, label, correction or comment"),
    ({"score": 1, "log_id": "a"}, "name"),
    ({**THUMB, "score": "private"}, "score"),
    ({**THUMB, "rating": 3}, "rating"),
    ({**THUMB, "name": ""}, "name"),
    ({**THUMB, "feedback_id": "a\nb"}, "feedback_id"),
    ({**THUMB, "log_id": "a" * 129}, "log_id"),
    ({**THUMB, "comment": "private\x00"}, "comment"),
    ({**THUMB, "ts_ms": -1}, "ts_ms"),
]


@pytest.mark.parametrize(("item", "said"), BAD)
async def test_feedback_that_cannot_be_taken_is_named_with_what_is_wrong(
    tmp_path: Path, item: dict[str, Any], said: str
) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/feedback", json=item)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:tunemill:problem:unprocessable")
        assert said in answer.json()["detail"]
        assert "private" not in answer.text
        assert await on_the_bus(api) == []


async def test_a_body_of_lines_is_cut_at_line_ends(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        headers = {"content-type": "application/x-ndjson"}
        answer = await api.client.post("/v1/feedback", content=b'{"torn\n\n', headers=headers)
    assert (answer.status_code, [one["item"] for one in answer.json()["rejected"]]) == (422, [0])


async def test_one_bad_item_spoils_nothing_but_itself(tmp_path: Path) -> None:
    bad = [b'{"name":"helpful","score":1}', b"7", b'{"name":"helpful","log_id":"a","score":1e999}']
    good = [msgspec.json.encode(THUMB), msgspec.json.encode({**THUMB, "log_id": "b"})]
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/feedback", content=b"[" + b",".join([good[0], *bad, good[1]]) + b"]")
        assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
        assert [(one["item"], one["code"]) for one in answer.json()["rejected"]] == [(n, "invalid") for n in (1, 2, 3)]
        assert [item.log_id for item in await on_the_bus(api)] == ["a", "b"]


@pytest.mark.parametrize("body", [b"", b"{", b"7", b'{"name":' + b"[" * 500 + b"]" * 500 + b"}"])
async def test_what_is_no_json_object_is_refused(tmp_path: Path, body: bytes) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.client.post("/v1/feedback", content=body)).status_code == 400


async def test_without_the_bus_nothing_is_accepted(tmp_path: Path) -> None:
    class Away(SqliteBus):
        async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
            raise BusUnavailable("away")

    async with running_api(tmp_path, bus=Away(tmp_path / "bus.db")) as api:
        assert (await api.client.post("/v1/feedback", json=THUMB)).status_code == 503


async def test_its_description_names_each_field(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        described = (await api.client.get("/openapi.json")).json()["paths"]["/v1/feedback"]["post"]
    one, many = described["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert many["items"] == one
    assert set(one["properties"]) == set(Feedback.__struct_fields__) - {"project"}


@pytest.mark.parametrize("about", [{"log_id": "a"}, {"response_id": "chatcmpl-1"}, {"trace_id": "t-1"}])
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_correction_is_shown_beside_the_answer_it_is_about_and_outlives_a_replay(
    tmp_path: Path, about: dict[str, str], is_first: bool
) -> None:
    log = LogRecord(
        log_id="a", ts_ms=1, messages=(Message(role="user", content="What is 2+2?"),), response_id="chatcmpl-1",
        output=(Message(role="assistant", content="Five, I think."),), trace_id="t-1",
    )  # fmt: skip
    said = {"name": "answer", "correction": "Four, for certain.", "by": "ann", "feedback_id": "f", **about}
    async with running_api(tmp_path, index=open_index(f"local:{tmp_path / 'index'}", project="default")) as api:
        worker = StreamWorker(api.bus, api.index)
        if is_first:
            assert (await api.client.post("/v1/feedback", json=said)).status_code == 202
            await worker.work()
        await worker.publish(pack([log]))
        await worker.work()
        if not is_first:
            assert (await api.client.post("/v1/feedback", json=said)).status_code == 202
            assert await worker.work() == {Outcome.INDEXED: 1}
        for _ in range(2):
            await api.index.refresh()
            shown = (await api.client.get("/v1/logs/a")).json()
            assert [item["content"] for item in shown["output"]] == ["Five, I think."]
            assert [(item["correction"], item["by"]) for item in shown["feedback"]] == [("Four, for certain.", "ann")]
            await worker.publish(pack([log]))
            assert await worker.work() == {Outcome.DUPLICATE: 1}
        api.client.cookies.set("tunemill_key", api.key)
        page = (await api.client.get("/logs/a")).text
    assert page.index("Five, I think.") < page.index("A better answer:") < page.index("Four, for certain.")
