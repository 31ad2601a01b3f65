"""What Langfuse's SDKs ask of a server: batches, scores, media, and whom they speak to."""

import base64
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from fakes.curator_api import Running, running_api
from sqlalchemy import update

from tunemill.curator_api.media_bytes import MAX_BYTES, media_id_of, sha256_of, signature
from tunemill.curator_api.settings import Settings
from tunemill.registry.tables import api_keys
from tunemill.schemas.packing import split
from tunemill.schemas.topics import LOGS
from tunemill.streams.decode import examine

CAPTURES = Path(__file__).parents[1] / "streams" / "captures"
TOLD = "2026-11-22T18:47:05.500Z"
PICTURE = b"\x89PNG, or so it says"
OPEN = Settings(require_key=False)


def event(kind: str, event_id: str = "e1", **body: Any) -> dict[str, Any]:
    return {"id": event_id, "type": kind, "timestamp": TOLD, "body": body}


def generation(event_id: str, trace_id: str = "t", text: str = "hi") -> dict[str, Any]:
    return event("generation-create", event_id, id=f"g-{event_id}", traceId=trace_id, input=text)


async def published(api: Running) -> list[tuple[str | None, list[dict[str, Any]]]]:
    """The messages on the bus, each as its key and its items, the oldest first."""
    found = await api.bus.tail(LOGS, limit=99)
    return [(message.key, [msgspec.json.decode(item) for item in split(message.value)]) for message in reversed(found)]


async def ingest(api: Running, *items: Any) -> httpx.Response:
    return await api.client.post("/api/public/ingestion", json={"batch": list(items), "metadata": {"sdk_name": "x"}})


@pytest.mark.parametrize("case", ["plain", "tools", "image", "error"])
async def test_what_sdk_2_sends_is_taken_whole_and_kept_together_by_trace(tmp_path: Path, case: str) -> None:
    requests = (CAPTURES / "langfuse2" / f"ingestion-{case}.jsonl").read_bytes().splitlines()
    async with running_api(tmp_path, examine=examine) as api:
        basic = base64.b64encode(f"pk-tunemill:{api.key}".encode()).decode()
        for body in requests:
            headers = {"authorization": f"Basic {basic}", "content-type": "application/json"}
            answer = await api.client.post("/api/public/ingestion", content=body, headers=headers)
            sent = msgspec.json.decode(body)["batch"]
            assert answer.status_code == 207
            assert answer.json() == {"successes": [{"id": item["id"], "status": 201} for item in sent], "errors": []}
        messages = await published(api)
    sent = [item for body in requests for item in msgspec.json.decode(body)["batch"]]
    assert sorted(msgspec.json.encode(item) for _, items in messages for item in items) == sorted(
        msgspec.json.encode(item) for item in sent
    )
    (trace_id,) = {key for key, _ in messages}
    assert trace_id == sent[0]["body"]["id"]


async def test_each_event_is_answered_for_itself(tmp_path: Path) -> None:
    batch: list[Any] = [
        generation("good"),
        event("generation-create", "unread", id=7, traceId="t"),
        event("generation-delete", "unknown", id="g"),
        {"id": "untimed", "type": "sdk-log", "body": {}},
        {"type": "sdk-log", "timestamp": TOLD, "body": {}},
        42,
        generation("also-good", "u"),
    ]
    async with running_api(tmp_path, examine=examine) as api:
        answer = await ingest(api, *batch)
        on_bus = [item["id"] for _, items in await published(api) for item in items]
        metrics = (await api.client.get("/metrics")).text
    assert answer.status_code == 207
    assert answer.json()["successes"] == [{"id": "good", "status": 201}, {"id": "also-good", "status": 201}]
    errors = [(error["id"], error["status"], error["error"]) for error in answer.json()["errors"]]
    assert errors == [
        ("unread", 400, "invalid"),
        ("unknown", 400, "unknown_shape"),
        ("untimed", 400, "invalid"),
        ("", 400, "invalid"),
        ("", 400, "invalid"),
    ]
    assert all(error["message"] for error in answer.json()["errors"])
    assert sorted(on_bus) == ["also-good", "good", "unknown", "unread"], "what is an event becomes a dead letter, too"
    assert 'code="invalid",stage="receive"' in metrics


async def test_the_reason_never_repeats_what_was_sent(tmp_path: Path) -> None:
    async with running_api(tmp_path, examine=examine) as api:
        answer = await ingest(
            api,
            {"id": 7, "type": "a private type", "timestamp": "a private time", "body": "a private body"},
            {**generation("x"), "timestamp": "a private time"},
            event("a private type", "y"),
        )
    assert len(answer.json()["errors"]) == 3
    assert "private" not in answer.text


async def test_events_of_one_trace_travel_together_under_its_name(tmp_path: Path) -> None:
    batch = [
        event("trace-create", "a", id="t1", userId="u"),
        generation("b", "t2"),
        generation("c", "t1"),
        event("sdk-log", "d", log="x"),
        generation("e", "t" * 4000),
    ]
    async with running_api(tmp_path) as api:
        assert (await ingest(api, *batch)).status_code == 207
        messages = await published(api)
    assert {(key, tuple(item["id"] for item in items)) for key, items in messages} == {
        ("t1", ("a", "c")),
        ("t2", ("b",)),
        (None, ("d",)),
        (None, ("e",)),
    }


async def test_a_large_batch_is_cut_into_messages_that_hold_every_event_once(tmp_path: Path) -> None:
    batch = [generation(str(number), text="x" * 100_000) for number in range(30)]
    async with running_api(tmp_path) as api:
        assert len((await ingest(api, *batch)).json()["successes"]) == 30
        messages = await published(api)
    assert len(messages) > 1
    assert sorted(int(item["id"]) for _, items in messages for item in items) == list(range(30))


async def test_an_event_that_no_message_can_hold_is_refused_alone(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await ingest(api, generation("giant", text="x" * LOGS.max_message_bytes), generation("small"))
        on_bus = [item["id"] for _, items in await published(api) for item in items]
    assert [(error["id"], error["status"]) for error in answer.json()["errors"]] == [("giant", 413)]
    assert on_bus == ["small"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"batch": {}}', b'{"batch": [', b"\xff", b'{"batch":' + b"[" * 200 + b"]" * 200 + b"}"],
)
async def test_what_is_no_batch_is_a_clear_400(tmp_path: Path, body: bytes) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/api/public/ingestion", content=body)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
        assert await published(api) == []


async def test_an_empty_batch_is_nothing_to_hand_on(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert (await ingest(api)).json() == {"successes": [], "errors": []}
        assert await published(api) == []


@pytest.mark.parametrize("path", ["ingestion", "scores", "media", "projects", "health"])
async def test_nobody_gets_in_without_a_key(tmp_path: Path, path: str) -> None:
    async with running_api(tmp_path) as api:
        for wrong in ("", "Basic eDp5", "Bearer nobody"):
            answer = await api.client.post(f"/api/public/{path}", headers={"authorization": wrong}, content=b"x")
            assert answer.status_code == 401


async def test_the_sdks_find_out_whom_they_speak_to(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        (project,) = (await api.client.get("/api/public/projects")).json()["data"]
        health = (await api.client.get("/api/public/health")).json()
    assert (project["id"], project["name"], project["metadata"]) == ("default", "default", {})
    assert set(project["organization"]) == {"id", "name"}
    assert health["status"] == "OK"


async def test_one_score_is_an_event_like_those_of_a_batch(tmp_path: Path) -> None:
    score = {"traceId": "t", "name": "helpful", "value": 0.5}
    async with running_api(tmp_path, examine=examine) as api:
        named = await api.client.post("/api/public/scores", json={**score, "id": "s1"})
        unnamed = await api.client.post("/api/public/scores", json=score)
        bodies = [item["body"] for _, items in await published(api) for item in items]
    assert (named.status_code, named.json()) == (200, {"id": "s1"})
    assert bodies == [{**score, "id": "s1"}, {**score, "id": unnamed.json()["id"]}]


async def test_a_score_that_says_nothing_is_refused(tmp_path: Path) -> None:
    async with running_api(tmp_path, examine=examine) as api:
        for body in ({"traceId": "t", "name": "helpful"}, {"name": "helpful", "value": 1}, {"id": 7}):
            answer = await api.client.post("/api/public/scores", json=body)
            assert answer.status_code == 400, body
        for text in (b"", b"3", b"[3]", b"{"):
            assert (await api.client.post("/api/public/scores", content=text)).status_code == 400, text


async def test_what_sdk_5_sends_is_a_list_of_scores(tmp_path: Path) -> None:
    body = (CAPTURES / "langfuse5" / "scores-plain.jsonl").read_bytes()
    async with running_api(tmp_path, examine=examine) as api:
        whole = await api.client.post("/api/public/scores", content=body)
        partly = await api.client.post("/api/public/scores", json=[*msgspec.json.decode(body), {"name": "nothing"}])
        sent = [item["body"] for _, items in (await published(api))[:1] for item in items]
    assert (whole.status_code, whole.json()) == (202, {"message": "Accepted"})
    assert sent == msgspec.json.decode(body)
    assert partly.status_code == 207
    assert (partly.json()["accepted"], partly.json()["rejected"]) == (1, 1)
    assert len(partly.json()["errors"]) == 1


def announcement(content: bytes = PICTURE, **more: Any) -> dict[str, Any]:
    named = {"contentType": "image/png", "contentLength": len(content), "sha256Hash": sha256_of(content)}
    return {"traceId": "t", "observationId": "g", "datasetId": None, "field": "input", **named, **more}


async def announce(api: Running, content: bytes = PICTURE, **more: Any) -> dict[str, Any]:
    answer = await api.client.post("/api/public/media", json=announcement(content, **more))
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def stranger(api: Running) -> httpx.AsyncClient:
    """A client without a key: what the SDKs use for the bytes."""
    transport = api.client._transport
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_a_picture_is_announced_sent_without_a_key_and_read_again(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, stranger(api) as client:
        told = await announce(api)
        assert told["mediaId"] == media_id_of(sha256_of(PICTURE))
        assert (await api.client.get(f"/api/public/media/{told['mediaId']}")).status_code == 404
        sent = await client.put(told["uploadUrl"], content=PICTURE, headers={"content-type": "image/png"})
        assert sent.status_code == 200, sent.text
        reported = await api.client.patch(
            f"/api/public/media/{told['mediaId']}",
            json={"uploadedAt": TOLD, "uploadHttpStatus": 200, "uploadHttpError": "", "uploadTimeMs": 3},
        )
        assert reported.status_code == 204
        known = (await api.client.get(f"/api/public/media/{told['mediaId']}")).json()
        assert (known["contentType"], known["contentLength"]) == ("image/png", len(PICTURE))
        read = await client.get(known["url"])
        again = await announce(api, contentType="image/jpeg")
    assert (read.status_code, read.content, read.headers["content-type"]) == (200, PICTURE, "image/png")
    assert read.headers["content-disposition"].startswith("attachment")
    assert read.headers["x-content-type-options"] == "nosniff"
    assert again == {"mediaId": told["mediaId"], "uploadUrl": None}


async def test_an_upload_is_the_file_that_was_announced_or_nothing(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, stranger(api) as client:
        told = await announce(api)
        for other in (PICTURE[:-1] + b"x", PICTURE + b"x", b""):
            assert (await client.put(told["uploadUrl"], content=other)).status_code == 400
        assert not list(api.files.rglob("media/*/*"))
        missing = {"uploadedAt": TOLD, "uploadHttpStatus": 200}
        failed = {"uploadedAt": TOLD, "uploadHttpStatus": 403, "uploadHttpError": "no"}
        path = f"/api/public/media/{told['mediaId']}"
        assert (await api.client.patch(path, json=missing)).status_code == 404
        assert (await api.client.patch(path, json=failed)).status_code == 204


async def test_the_same_file_sent_twice_at_once_is_one(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, stranger(api) as client:
        first, second = await announce(api), await announce(api, contentType="image/jpeg")
        assert (await client.put(first["uploadUrl"], content=PICTURE)).status_code == 200
        assert (await client.put(second["uploadUrl"], content=PICTURE)).status_code == 200
        known = (await api.client.get(f"/api/public/media/{first['mediaId']}")).json()
    assert known["contentType"] == "image/png"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signature", "0" * 64),
        ("signature", "é"),
        ("signature", ""),
        ("content_type", "text/html"),
        ("content_length", "18"),
        ("sha256", sha256_of(b"another")),
        ("expires_s", "99999999999"),
        ("by", "somebody"),
    ],
)
async def test_an_address_that_was_changed_lets_nobody_in(tmp_path: Path, name: str, value: str) -> None:
    async with running_api(tmp_path) as api, stranger(api) as client:
        told = await announce(api)
        address = urlsplit(told["uploadUrl"])
        query = {key: values[0] for key, values in parse_qs(address.query).items()} | {name: value}
        answer = await client.put(address.path, params=query, content=PICTURE)
        assert answer.status_code in {401, 403}
        assert not list(api.files.rglob("media/*/*"))


async def test_an_address_holds_for_its_own_file_its_own_use_and_its_own_hour(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, stranger(api) as client:
        upload = (await announce(api))["uploadUrl"]
        other = upload.replace(media_id_of(sha256_of(PICTURE)), "A" * 22)
        assert (await client.put(other, content=PICTURE)).status_code == 403
        assert (await client.put(upload, content=PICTURE)).status_code == 200
        assert (await client.get(upload)).status_code == 403, "an address to send to is none to read from"
        media_id = media_id_of(sha256_of(PICTURE))
        assert (await client.get(f"/media/{media_id}")).status_code == 401
        with api.registry.connect() as connection:
            key_id, secret = connection.execute(
                api_keys.select().with_only_columns(api_keys.c.key_id, api_keys.c.key_sha256)
            ).one()
        for expires_s, status in ((int(time.time()) + 60, 200), (int(time.time()) - 1, 403)):
            signed = {"by": key_id, "expires_s": expires_s, "signature": signature(secret, media_id, None, expires_s)}
            assert (await client.get(f"/media/{media_id}", params=signed)).status_code == status
        url = (await api.client.get(f"/api/public/media/{media_id}")).json()["url"]
        with api.registry.begin() as connection:
            connection.execute(update(api_keys).values(revoked_ms=1))
        assert (await client.get(url)).status_code == 403, "its key is no more"


async def test_where_no_key_is_asked_for_this_machine_needs_none_for_bytes(tmp_path: Path) -> None:
    async with running_api(tmp_path, settings=OPEN) as api:
        told = await announce(api)
        assert "signature" not in told["uploadUrl"]
        assert (await api.client.put(told["uploadUrl"], content=PICTURE)).status_code == 200
    async with running_api(tmp_path, settings=OPEN, client_host="10.0.0.9") as api:
        assert (await api.client.get(urlsplit(told["uploadUrl"]).path)).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"contentType": "image/png\r\nx: y"},
        {"contentType": "text"},
        {"contentLength": 0},
        {"contentLength": "many"},
        {"sha256Hash": "../../etc/passwd"},
        {"sha256Hash": None},
    ],
)
async def test_an_announcement_that_makes_no_sense_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.client.post("/api/public/media", json=announcement(**wrong))).status_code == 422


async def test_a_file_of_more_than_10_mib_is_refused_by_its_size(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/api/public/media", json=announcement(contentLength=MAX_BYTES + 1))
        whole = b"x" * MAX_BYTES
        told = await announce(api, whole)
        sent = await api.client.put(told["uploadUrl"], content=whole)
    assert (answer.status_code, answer.json()["limit"]) == (413, MAX_BYTES)
    assert sent.status_code == 200


@pytest.mark.parametrize("media_id", ["a", "A" * 23, "%2e%2e%2f" + "A" * 13])
async def test_an_id_that_is_none_names_no_file(tmp_path: Path, media_id: str) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.client.get(f"/api/public/media/{media_id}")).status_code in {404, 405, 422}
        assert (await api.client.get(f"/media/{media_id}")).status_code in {404, 422}
