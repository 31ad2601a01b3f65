"""Who is let in, from where, with how much; and what goes with every answer."""

import base64
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes.curator_api import Running, running_api, tagged
from fakes.search_memory import MemorySearch
from fastapi import FastAPI
from sqlalchemy import QueuePool, select

from tunemill.curator_api import keys
from tunemill.curator_api.access import Person
from tunemill.curator_api.guard import ELSEWHERE_BODY_BYTES, SIGN_IN_BYTES
from tunemill.curator_api.settings import Settings
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import api_keys
from tunemill.schemas.topics import LOGS

OPEN = Settings(require_key=False)
SECURE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def test_a_key_is_made_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    engine = open_registry(f"sqlite:///{tmp_path / 'r.db'}")
    migrate(engine)
    key = keys.ensure_key(engine, "default")
    assert key is not None
    assert keys.ensure_key(engine, "default") is None
    _, key_id, secret = key.split("_", 2)
    assert keys.key_id_of(engine, "default", key) == key_id
    assert keys.key_id_of(engine, "other", key) is None
    assert keys.key_id_of(engine, "default", key[:-1] + ("a" if key[-1] != "a" else "b")) is None
    assert keys.key_id_of(engine, "default", f"tm_{'0' * 12}_{secret}") is None
    with engine.connect() as connection:
        stored = connection.execute(select(api_keys)).one()
    assert secret not in str(stored)
    engine.dispose()
    assert secret.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("r.db*"))


def test_a_key_of_the_operators_choice_is_let_in(tmp_path: Path) -> None:
    engine = open_registry(f"sqlite:///{tmp_path / 'r.db'}")
    migrate(engine)
    key = keys.new_key()
    same_id = key[:-1] + ("a" if key[-1] != "a" else "b")
    for chosen in (key, key, same_id, "of-my-own"):
        keys.accept_key(engine, "default", chosen)
    assert keys.key_id_of(engine, "default", key) == keys.key_id_of(engine, "default", same_id) == key.split("_")[1]
    own = keys.key_id_of(engine, "default", "of-my-own")
    assert own is not None
    assert "of-my-own" not in own
    assert keys.key_id_of(engine, "default", "of-my-owm") is None
    for bad in ("", "two words", "ключ", "x" * 257, "line\nbreak"):
        with pytest.raises(keys.MalformedKey):
            keys.accept_key(engine, "default", bad)
    engine.dispose()


ADDRESSES = [
    ("GET", "/v1/search"),
    ("POST", "/v1/logs"),
    ("POST", "/v1/litellm"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/nowhere"),
    ("GET", "/api/public/nowhere"),
    ("GET", "/v1/logs/a"),
    ("DELETE", "/v1/logs/a"),
    ("GET", "/v1/datasets"),
    ("GET", "/v1/rejected"),
    ("GET", "/v1/rejected/llm.logs:0:0:0"),
    ("POST", "/v1/rejected/redrive"),
    ("GET", "/v1/runs"),
    ("POST", "/v1/runs/x/cancel"),
]


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
async def test_without_a_key_nobody_gets_in(tmp_path: Path, method: str, path: str) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        right = base64.b64encode(f"{api.key}:".encode()).decode()  # as the user's name, not as the password
        for wrong in (
            None,
            "Bearer tm_" + "0" * 12 + "_" + "0" * 43,
            "Bearer ",
            "Basic eDp5",
            f"Basic {right}",
            b"Basic \xff",
            f"Token {api.key}",
            api.key,
        ):
            del api.client.headers["authorization"]
            api.client.headers.update({} if wrong is None else {"authorization": wrong})
            answer = await api.client.request(method, path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["type"] == "urn:tunemill:problem:unauthorised"
            api.client.headers["authorization"] = "-"
        assert await api.index.get("a") is not None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic", "BASIC"])
async def test_a_key_may_come_as_a_token_or_as_a_password(tmp_path: Path, scheme: str) -> None:
    async with running_api(tmp_path, tagged("a")) as api:
        password = base64.b64encode(f"pk-whoever:{api.key}".encode()).decode()
        sent = f"{scheme} {api.key if scheme.lower() == 'bearer' else password}"
        answer = await api.client.post("/v1/logs/a/tags", json={"add": ["team:x"]}, headers={"authorization": sent})
        assert answer.status_code == 200
        tagged_by = (await api.client.get("/v1/logs/a")).json()["tagged_by"]
        assert tagged_by["team:x"] == f"person:{api.key.split('_')[1]}"


@pytest.mark.parametrize("path", ["/v1/logs", "/v1/traces", "/v1/nowhere", "/api/public/nowhere"])
@pytest.mark.parametrize(("stated", "closes"), [(2**25, True), (None, True), (2**10, False)])
async def test_the_body_of_a_stranger_is_not_read(tmp_path: Path, path: str, stated: int | None, closes: bool) -> None:
    """And where it is large, the connection ends, or the server would have to read it away."""
    async with running_api(tmp_path) as api:
        length = (b"transfer-encoding", b"chunked") if stated is None else (b"content-length", str(stated).encode())
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("the body was read")

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"", "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"localhost"), length, (b"authorization", b"Bearer nobody")],
        }  # fmt: skip
        await api.app(scope, receive, send)
    assert sent[0]["status"] == 401
    assert ((b"connection", b"close") in sent[0]["headers"]) is closes


async def test_an_endpoint_where_the_guard_does_not_look_lets_nobody_in(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert isinstance(api.app, FastAPI)

        @api.app.get("/elsewhere")
        def elsewhere(_person: Person) -> None: ...

        assert (await api.client.get("/elsewhere")).status_code == 401


async def test_a_body_whose_client_went_away_is_not_taken_for_whole(tmp_path: Path) -> None:
    messages = [
        {"type": "http.request", "body": b'{"log_id":"a"}\n{"log_id":"b"}\n', "more_body": True},
        {"type": "http.disconnect"},
    ]
    async with running_api(tmp_path) as api:

        async def receive() -> Any:
            return messages.pop(0)

        async def send(_message: Any) -> None:
            raise AssertionError("nobody listens")

        scope = {
            "type": "http", "method": "POST", "path": "/v1/logs", "query_string": b"", "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {api.key}".encode())],
        }  # fmt: skip
        await api.app(scope, receive, send)
        assert await api.bus.tail(LOGS, limit=9) == []


@pytest.mark.parametrize(("path", "limit"), [("/sign-in", SIGN_IN_BYTES), ("/media/" + "A" * 22, ELSEWHERE_BODY_BYTES)])
async def test_elsewhere_a_body_may_be_no_larger_than_a_form(tmp_path: Path, path: str, limit: int) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post(path, content=b"x" * (limit + 1))
        assert (answer.status_code, answer.json()["limit"]) == (413, limit)


async def test_a_form_without_a_stated_length_is_counted_as_it_comes(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (SIGN_IN_BYTES // 2)

    async with running_api(tmp_path) as api:
        assert (await api.client.post("/sign-in", content=chunks())).status_code == 413


@pytest.mark.parametrize("path", ["/nowhere", "/datasets", "/media/" + "A" * 22, "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_elsewhere_a_body_is_read_by_whoever_lets_its_sender_in(tmp_path: Path, path: str, method: str) -> None:
    """Else many strangers could fill the memory with what nobody wants."""
    async with running_api(tmp_path) as api:
        status, headers, read = await sent_by_hand(api, method, path, [b"x" * 2**20] * 3)
    assert 300 < status < 500
    assert (read, headers.get(b"connection")) == (0, b"close")


@pytest.mark.parametrize(("headers", "read"), [({}, 20), ({"expect": "100-continue"}, 0)])
async def test_a_body_that_is_too_large_is_read_away_so_that_the_answer_arrives(
    tmp_path: Path, headers: dict[str, str], read: int
) -> None:
    """But for a client that waits to be asked for it."""
    async with running_api(tmp_path, settings=Settings(max_body_bytes=1000)) as api:
        headers = {"authorization": f"Bearer {api.key}", "content-length": "2000", **headers}
        status, _, found = await sent_by_hand(api, "POST", "/v1/logs", [b"x" * 100] * 20, headers)
    assert (status, found) == (413, read)


async def sent_by_hand(
    api: Running, method: str, path: str, parts: list[bytes], headers: dict[str, str] | None = None
) -> tuple[int, dict[bytes, bytes], int]:
    """The status and the headers of the answer, and how many parts of the body were read."""
    pending, sent = list(parts), []
    headers = (
        {"host": "localhost", "transfer-encoding": "chunked"} if headers is None else {"host": "localhost"} | headers
    )

    async def receive() -> Any:
        return {"type": "http.request", "body": pending.pop(0), "more_body": bool(pending)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "client": ("127.0.0.1", 1),
        "scheme": "http", "server": ("localhost", 80), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await api.app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), len(parts) - len(pending)


async def test_every_endpoint_under_v1_asks_for_a_key(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        described = (await api.client.get("/openapi.json")).json()["paths"]
        asked = [(method, path) for path, methods in described.items() for method in methods]
        assert len(asked) > 20
        for method, path in asked:
            assert described[path][method]["security"] == [{"HTTPBearer": []}, {"HTTPBasic": []}], (method, path)


async def test_every_endpoint_says_what_any_request_may_be_answered_with(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        described = (await api.client.get("/openapi.json")).json()["paths"]
        answers = [operation["responses"] for methods in described.values() for operation in methods.values()]
        assert len(answers) > 20
        for documented in answers:
            assert {"400", "401", "403", "413", "415", "500", "503"} <= set(documented)


async def test_a_key_of_another_server_on_this_machine_is_no_hindrance_where_none_is_asked_for(tmp_path: Path) -> None:
    """Browsers send a cookie to every port of a host."""
    async with running_api(tmp_path, settings=OPEN) as api:
        api.client.cookies.set("tunemill_key", keys.new_key())
        assert (await api.client.get("/")).status_code == 200
    async with running_api(tmp_path) as api:
        api.client.cookies.set("tunemill_key", keys.new_key())
        assert (await api.client.get("/")).status_code == 303


async def test_this_machine_needs_no_key_where_none_is_asked_for(tmp_path: Path) -> None:
    async with running_api(tmp_path, settings=OPEN) as api:
        assert (await api.client.get("/v1/search")).status_code == 200
        elsewhere = await api.client.get("/v1/search", headers={"authorization": f"Bearer {keys.new_key()}"})
        assert elsewhere.status_code == 200, "a key in the environment that is meant for another server"


async def test_another_machine_always_needs_one(tmp_path: Path) -> None:
    async with running_api(tmp_path, settings=OPEN, client_host="10.0.0.9") as api:
        assert (await api.client.get("/v1/search")).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "", "["]
)
async def test_a_name_that_was_bound_to_this_machine_is_refused(tmp_path: Path, host: str) -> None:
    async with running_api(tmp_path, settings=OPEN) as api:
        assert (await api.client.get("/v1/search", headers={"host": host})).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"])
async def test_this_machines_names_are_let_through(tmp_path: Path, host: str) -> None:
    async with running_api(tmp_path, settings=OPEN) as api:
        own = {"host": host, "origin": f"http://{host}"}
        assert (await api.client.post("/v1/logs", content=b"{}", headers=own)).status_code == 202


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "http://["])
async def test_a_page_of_another_site_cannot_act(tmp_path: Path, origin: str) -> None:
    async with running_api(tmp_path, tagged("a"), settings=OPEN) as api:
        answer = await api.client.post("/v1/logs", content=b"{}", headers={"origin": origin})
        assert answer.status_code == 403


async def test_a_body_is_counted_as_it_comes(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    async with running_api(tmp_path, settings=Settings(max_body_bytes=1000)) as api:
        streamed = await api.client.post("/v1/logs", content=chunks())
        stated = await api.client.post("/v1/logs", content=b"x" * 1001)
        fits = await api.client.post("/v1/logs", content=b'{"a":"' + b"x" * 900 + b'"}')
    assert (streamed.status_code, stated.status_code, fits.status_code) == (413, 413, 202)
    assert streamed.json()["limit"] == 1000


async def test_deep_or_broken_json_is_the_clients_fault(tmp_path: Path) -> None:
    deep = '{"add": ' + "[" * 100_000 + "]" * 100_000 + "}"
    async with running_api(tmp_path, tagged("a")) as api:
        for body in (deep, "{", '{"add": ["\\ud800:x"]}', '{"add": 3}', '{"other": 3}', "\x00"):
            headers = {"content-type": "application/json"}
            answer = await api.client.post("/v1/logs/a/tags", content=body, headers=headers)
            assert answer.status_code in {400, 422}, body[:40]
            assert answer.headers["content-type"] == "application/problem+json"


async def test_every_answer_carries_the_security_headers(tmp_path: Path) -> None:
    async with running_api(tmp_path, settings=Settings(max_body_bytes=10)) as api:
        answers = [
            await api.client.get(path) for path in ("/v1/search", "/nowhere", "/v1/logs/x", "/health/live", "/metrics")
        ]
        answers.append(await api.client.post("/v1/logs", content=b"x" * 11))
    assert [answer.status_code for answer in answers] == [200, 404, 404, 200, 200, 413]
    for answer in answers:
        assert {name: answer.headers[name] for name in SECURE} == SECURE


async def test_what_does_not_answer_is_a_503_that_says_which(tmp_path: Path) -> None:
    index = MemorySearch(tagged("a"))
    async with running_api(tmp_path, index=index) as api:
        assert (await api.client.get("/health/ready")).status_code == 200
        index.away = True
        answer = await api.client.get("/v1/search")
        ready = await api.client.get("/health/ready")
        live = await api.client.get("/health/live")
    assert (answer.status_code, "index" in answer.json()["detail"]) == (503, True)
    assert (ready.status_code, ready.json()["checks"]["bus"]) == (503, "ok")
    assert live.status_code == 200


async def test_a_database_that_is_too_busy_is_a_503(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        pool = api.registry.pool
        assert isinstance(pool, QueuePool)
        with contextlib.ExitStack() as all_of_them:
            for _ in range(pool.size() + pool._max_overflow):
                all_of_them.enter_context(contextlib.closing(api.registry.raw_connection()))
            pool._timeout = 0
            answer = await api.client.get("/v1/datasets")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tunemill:problem:unavailable")


async def test_an_error_of_ours_tells_the_client_nothing_of_its_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(MemorySearch):
        async def search(self, request: Any) -> Any:
            raise RuntimeError("the text of a private log")

    with caplog.at_level(logging.DEBUG):
        async with running_api(tmp_path, index=Broken()) as api:
            answer = await api.client.get("/v1/search")
    said = capsys.readouterr()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "private" not in answer.text + caplog.text + said.out + said.err
    assert "RuntimeError" in said.out + said.err


async def test_requests_are_counted_by_route_never_by_path(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.client.get("/v1/logs/a-private-name")
        metrics = (await api.client.get("/metrics")).text
    assert 'route="/v1/logs/{log_id}"' in metrics
    assert "a-private-name" not in metrics
