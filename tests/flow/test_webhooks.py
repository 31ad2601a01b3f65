"""Events reach the addresses that are to hear of them: committed ones only, signed, again where they were not taken."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engines.postgres import empty_database, postgres
from fakes.curator_api import running_api
from fakes.http_server import Answer, Asked, Server, serving
from sqlalchemy import Engine

from tunemill.curator_api import webhook_store
from tunemill.curator_api.settings import Settings
from tunemill.curator_api.webhook_delivery import deliver_until
from tunemill.registry.announce import announce
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas.records import DatasetReady
from tunemill.schemas.topics import DATASETS_READY

TAKEN = Answer(204)
PROJECT = "default"


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
        migrate(made)
        yield made
        made.dispose()
        return
    with empty_database(request.getfixturevalue("postgres_server")) as url:
        made = open_registry(url)
        migrate(made)
        yield made
        made.dispose()


def published(engine: Engine, version: int, *, project: str = PROJECT) -> None:
    event = DatasetReady(
        event_id=f"e{version}", ts_ms=1, name="math", version=version, digest="d" * 64, manifest_url="/m", rows=3
    )
    with engine.begin() as connection:
        announce(connection, project, DATASETS_READY, event, event_id=event.event_id)


def host_of(server: Server) -> str:
    return server.url.removeprefix("http://").rstrip("/")


@asynccontextmanager
async def delivering(engine: Engine, *hosts: str) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(deliver_until(stop, engine, hosts))
    try:
        yield
    finally:
        stop.set()
        await task


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError("it never came so far")


async def test_an_event_arrives_once_signed_by_its_secret(engine: Engine) -> None:
    with serving(lambda _: TAKEN) as server:
        _, secret = webhook_store.add(engine, PROJECT, f"{server.url}/hook", by="anna")
        webhook_store.add(engine, "another", f"{server.url}/other", by="anna")
        published(engine, 1)
        async with delivering(engine, host_of(server)):
            await until(lambda: webhook_store.find_all(engine, PROJECT)[0].sent == 1)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/hook")
    told = json.loads(asked.body)
    assert told["type"] == "datasets.ready"
    assert (told["data"]["name"], told["data"]["version"]) == ("math", 1)
    assert asked.headers["webhook-id"] == "e1"
    signed = f"e1.{asked.headers['webhook-timestamp']}.".encode() + asked.body
    expected = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert asked.headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()


async def test_what_is_not_committed_is_not_told(engine: Engine) -> None:
    with serving(lambda _: TAKEN) as server:
        webhook_store.add(engine, PROJECT, server.url, by="anna")
        with pytest.raises(ZeroDivisionError), engine.begin() as connection:
            event = DatasetReady(
                event_id="e1", ts_ms=1, name="math", version=1, digest="d" * 64, manifest_url="/m", rows=3
            )
            announce(connection, PROJECT, DATASETS_READY, event, event_id="e1")
            raise ZeroDivisionError
        published(engine, 2)
        async with delivering(engine, host_of(server)):
            await until(lambda: webhook_store.find_all(engine, PROJECT)[0].sent == 1)
    assert [asked.headers["webhook-id"] for asked in server.asked] == ["e2"]


async def test_what_was_not_taken_comes_again_with_its_id(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_store, "WAITS_MS", (0,) * 6)
    answers = iter([Answer(500, b"secret of theirs"), Answer(302), TAKEN])
    with serving(lambda _: next(answers)) as server:
        webhook_store.add(engine, PROJECT, server.url, by="anna")
        published(engine, 1)
        async with delivering(engine, host_of(server)):
            await until(lambda: webhook_store.find_all(engine, PROJECT)[0].sent == 1)
    assert [asked.headers["webhook-id"] for asked in server.asked] == ["e1"] * 3
    assert webhook_store.find_all(engine, PROJECT)[0].last_error is None


async def test_a_redirect_is_not_followed(engine: Engine) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(307) if asked.path == "/hook" else TAKEN

    with serving(answer) as server:
        webhook_store.add(engine, PROJECT, f"{server.url}/hook", by="anna")
        published(engine, 1)
        async with delivering(engine, host_of(server)):
            await until(lambda: webhook_store.find_all(engine, PROJECT)[0].last_error == "HTTP 307")
    assert {asked.path for asked in server.asked} == {"/hook"}


async def test_nobody_there_is_given_up_in_the_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_store, "WAITS_MS", (0, 0))
    with serving(lambda _: TAKEN) as server:
        gone = server.url
    webhook_store.add(engine, PROJECT, gone, by="anna")
    published(engine, 1)
    async with delivering(engine, gone.removeprefix("http://")):
        await until(lambda: webhook_store.given_up(engine, PROJECT) == 1)
    (hook,) = webhook_store.find_all(engine, PROJECT)
    assert (hook.sent, hook.waiting, hook.given_up, hook.last_error) == (0, 0, 1, "ConnectError")


async def test_a_host_that_is_allowed_no_more_is_not_called(engine: Engine) -> None:
    with serving(lambda _: TAKEN) as server:
        webhook_store.add(engine, PROJECT, server.url, by="anna")
        published(engine, 1)
        async with delivering(engine, "ci.example.com"):
            await until(lambda: webhook_store.find_all(engine, PROJECT)[0].last_error == "not allowed")
    assert server.asked == []


async def test_two_servers_share_the_deliveries(engine: Engine) -> None:
    with serving(lambda _: TAKEN) as server:
        webhook_store.add(engine, PROJECT, server.url, by="anna")
        for version in range(30):
            published(engine, version)
        async with delivering(engine, host_of(server)), delivering(engine, host_of(server)):
            await until(lambda: webhook_store.find_all(engine, PROJECT)[0].sent == 30)
    assert sorted(asked.headers["webhook-id"] for asked in server.asked) == sorted(f"e{n}" for n in range(30))


async def test_a_delivery_that_was_claimed_by_one_who_died_is_claimed_again(engine: Engine) -> None:
    webhook_store.add(engine, PROJECT, "https://ci.example.com", by="anna")
    published(engine, 1)
    now_ms = 4_000_000_000_000
    assert len(webhook_store.claim(engine, at_ms=now_ms, limit=8)) == 1
    assert webhook_store.claim(engine, at_ms=now_ms, limit=8) == []
    (again,) = webhook_store.claim(engine, at_ms=now_ms + webhook_store.CLAIM_MS, limit=8)
    assert again.event_id == "e1"


async def test_who_fails_after_another_has_sent_it_does_not_send_it_again(engine: Engine) -> None:
    webhook_store.add(engine, PROJECT, "https://ci.example.com", by="anna")
    published(engine, 1)
    now_ms = 4_000_000_000_000
    (late,) = webhook_store.claim(engine, at_ms=now_ms, limit=8)
    (other,) = webhook_store.claim(engine, at_ms=now_ms + webhook_store.CLAIM_MS, limit=8)
    webhook_store.sent(engine, other, at_ms=now_ms)
    webhook_store.failed(engine, late, "ConnectTimeout", at_ms=now_ms)
    assert webhook_store.claim(engine, at_ms=2 * now_ms, limit=8) == []
    (hook,) = webhook_store.find_all(engine, PROJECT)
    assert (hook.sent, hook.waiting) == (1, 0)


async def test_a_removed_webhook_hears_of_nothing_that_waits(engine: Engine) -> None:
    made, _ = webhook_store.add(engine, PROJECT, "https://ci.example.com", by="anna")
    published(engine, 1)
    assert not webhook_store.remove(engine, "another", made.webhook_id, by="anna")
    assert webhook_store.remove(engine, PROJECT, made.webhook_id, by="anna")
    assert webhook_store.claim(engine, at_ms=4_000_000_000_000, limit=8) == []


async def test_over_http_the_secret_is_shown_once_and_hosts_are_held_to_the_list(tmp_path: Path) -> None:
    with serving(lambda _: TAKEN) as server:
        async with running_api(tmp_path, settings=Settings(webhook_hosts=(host_of(server),))) as api:
            refused = await api.client.post("/v1/webhooks", json={"url": "http://169.254.169.254/latest"})
            assert refused.status_code == 422
            assert "TUNEMILL_WEBHOOK_HOSTS" in refused.json()["detail"]
            unstorable = await api.client.post("/v1/webhooks", json={"url": f"{server.url}/\0"})
            assert unstorable.status_code == 422
            made = (await api.client.post("/v1/webhooks", json={"url": server.url})).raise_for_status().json()
            assert made["secret"].startswith("whsec_")
            listed = (await api.client.get("/v1/webhooks")).text
            assert made["webhook_id"] in listed
            assert made["secret"] not in listed
            gone = await api.client.delete(f"/v1/webhooks/{made['webhook_id']}")
            assert gone.status_code == 204
            assert (await api.client.delete(f"/v1/webhooks/{made['webhook_id']}")).status_code == 404


async def test_health_says_that_an_event_was_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_store, "WAITS_MS", ())
    async with running_api(tmp_path) as api:
        webhook_store.add(api.registry, PROJECT, "https://ci.example.com", by="anna")
        published(api.registry, 1)
        (one,) = webhook_store.claim(api.registry, at_ms=4_000_000_000_000, limit=8)
        assert webhook_store.failed(api.registry, one, "HTTP 500", at_ms=1)
        health = await api.client.get("/health/ready")
    assert "webhooks" in health.text
