"""Reading by id from an Elasticsearch that is away, half there or new, and replacing what it holds: a stub answers by script."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from tunemill.indexer import elastic_copies, elastic_write
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.errors import IndexRefused, SearchIndexError
from tunemill.schemas.records import LogRecord, Message, TaggedLog
from tunemill.schemas.stored import StoredLog, StoredNote
from tunemill.schemas.trace import TraceNote

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
LOG = TaggedLog(log=LogRecord(log_id="a", ts_ms=1, messages=(Message(role="user", content="x"),)), content_digest="d")
READ = ("logs-default-000001", 7, 2)
NOTE = TraceNote(trace_id="t", user_id="u")
FOUND = {
    "logs-default": {"record": msgspec.to_builtins(LOG)},
    "traces-default": {"note": msgspec.to_builtins(NOTE)},
}


class Stub:
    """`_mget` and `_bulk`; each script holds what is answered in turn, the last entry for all that follow."""

    def __init__(self, *, mget: list[Any] | None = None, bulk: list[Any] | None = None) -> None:
        self.scripts = {"mget": mget or ["found"], "bulk": bulk or [201]}
        self.asked: list[int] = []  # how many documents each `_mget` asked for
        self.actions: list[dict[str, Any]] = []
        self.templates: list[str] = []

    def _next(self, name: str) -> Any:
        script = self.scripts[name]
        return script.pop(0) if len(script) > 1 else script[0]

    async def mget(self, request: web.Request) -> web.Response:
        docs = (await request.json())["docs"]
        self.asked.append(len(docs))
        answer = self._next("mget")
        if isinstance(answer, int):
            return failed(answer)
        return web.json_response({"docs": [self._doc(doc, answer) for doc in docs]}, headers=PRODUCT)

    def _doc(self, doc: dict[str, Any], answer: str) -> dict[str, Any]:
        place = {"_index": doc["_index"], "_id": doc["_id"]}
        if answer == "error":
            return place | {"error": {"type": "index_not_found_exception"}}
        if answer == "none":
            return place | {"found": False}
        return place | {"found": True, "_seq_no": 7, "_primary_term": 2, "_source": FOUND[doc["_index"]]}

    async def bulk(self, request: web.Request) -> web.Response:
        actions = [json.loads(line) for line in (await request.read()).splitlines()[::2]]
        self.actions += actions
        status = self._next("bulk")
        error = {} if status < 300 else {"error": {"type": "version_conflict_engine_exception", "reason": "because"}}
        items = [{next(iter(action)): {"status": status, **error}} for action in actions]
        return web.json_response({"items": items}, headers=PRODUCT)

    async def template(self, request: web.Request) -> web.Response:
        self.templates.append(request.match_info["name"])
        return web.json_response({"acknowledged": True}, headers=PRODUCT)

    async def alias(self, _request: web.Request) -> web.Response:
        return web.Response(headers=PRODUCT)


def failed(status: int) -> web.Response:
    return web.json_response({"error": {"type": "because"}, "status": status}, status=status, headers=PRODUCT)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_write, "FIRST_WAIT_S", 0.001)


@asynccontextmanager
async def asking(stub: Stub) -> AsyncIterator[ElasticIndex]:
    app = web.Application()
    app.router.add_post("/_mget", stub.mget)
    for name in ("logs-default", "traces-default"):
        app.router.add_put(f"/{name}/_bulk", stub.bulk)
        app.router.add_post(f"/{name}/_bulk", stub.bulk)
    app.router.add_put("/_index_template/{name}", stub.template)
    app.router.add_get("/_alias/{name}", stub.alias)  # HEAD, too
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    index = ElasticIndex(f"http://127.0.0.1:{runner.addresses[0][1]}", project="default")
    try:
        async with asyncio.timeout(20):
            yield index
    finally:
        await index.close()
        await runner.cleanup()


async def test_logs_and_notes_are_read_in_one_request() -> None:
    stub = Stub()
    async with asking(stub) as index:
        stored = await index.stored(log_ids=["a"], trace_ids=["t"])
        assert (stored.logs, stored.notes) == (
            {"a": StoredLog(LOG, ("logs-default", 7, 2))},
            {"t": StoredNote(NOTE, ("traces-default", 7, 2))},
        )
        await index.stored(log_ids=[], trace_ids=[])
    assert stub.asked == [2]


async def test_many_are_read_in_requests_of_a_good_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_copies, "MGET_DOCUMENTS", 3)
    stub = Stub()
    async with asking(stub) as index:
        stored = await index.stored(log_ids=list("abcd"), trace_ids=list("tu"))
    assert (len(stored.logs), len(stored.notes), stub.asked) == (4, 2, [3, 3])


@pytest.mark.parametrize("trouble", [503, 429, "error"], ids=["away", "busy", "no index or shard"])
async def test_what_cannot_be_read_now_is_asked_for_again(trouble: Any) -> None:
    stub = Stub(mget=[trouble, trouble, "none"])
    async with asking(stub) as index:
        stored = await index.stored(log_ids=["a"], trace_ids=["t"])
    assert (stored.logs, stored.notes) == ({}, {})
    assert stub.asked == [2, 2, 2]


async def test_an_index_that_is_not_there_yet_is_made() -> None:
    stub = Stub(mget=[404, "none"])
    async with asking(stub) as index:
        await index.stored(log_ids=["a"], trace_ids=[])
    assert stub.templates == ["logs-default", "traces-default", "feedback-default"]


async def test_not_being_let_in_stops_at_once() -> None:
    stub = Stub(mget=[401])
    async with asking(stub) as index:
        with pytest.raises(IndexRefused):
            await index.stored(log_ids=["a"], trace_ids=[])
    assert stub.asked == [1]


async def test_what_is_replaced_names_the_state_that_was_read() -> None:
    stub = Stub(bulk=[429, 200, 201])
    async with asking(stub) as index:
        assert [end and end.outcome.value for end in await index.replace([StoredLog(LOG, READ)])] == ["merged"]
        assert list(await index.put_notes([StoredNote(NOTE, ("traces-default-000001", 3, 1)), StoredNote(NOTE)])) == [
            True,
            True,
        ]
    versioned = {"_index": READ[0], "require_alias": False, "_id": "a", "if_seq_no": 7, "if_primary_term": 2}
    note = {"_index": "traces-default-000001", "require_alias": False, "_id": "t", "if_seq_no": 3, "if_primary_term": 1}
    assert stub.actions == [
        {"index": versioned},
        {"index": versioned},
        {"index": note},
        {"create": {"_id": "t"}},
    ]


async def test_a_state_that_is_gone_is_said_to_be() -> None:
    stub = Stub(bulk=[409])
    async with asking(stub) as index:
        assert list(await index.replace([StoredLog(LOG, READ)])) == [None]
        assert list(await index.put_notes([StoredNote(NOTE)])) == [False]


async def test_a_state_whose_index_is_gone_is_said_to_be() -> None:
    stub = Stub(bulk=[404])
    async with asking(stub) as index:
        assert list(await index.replace([StoredLog(LOG, READ)])) == [None]
    assert len(stub.actions) == 1
    assert stub.templates == []


async def test_a_note_that_the_index_never_takes_is_an_error_and_no_endless_loop() -> None:
    async with asking(Stub(bulk=[400])) as index:
        with pytest.raises(SearchIndexError, match="mapping"):
            await index.put_notes([StoredNote(NOTE)])
