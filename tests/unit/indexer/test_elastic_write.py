"""Writing to an Elasticsearch that is busy, full, away, forgetful or unwilling: a stub that answers by script."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tunemill.indexer import elastic_write
from tunemill.indexer.elastic import ElasticIndex
from tunemill.indexer.errors import IndexRefused, IndexUnavailable
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.records import LogRecord, Message, TaggedLog

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
Answer = Callable[["Stub", list[str]], Any]  # ids of the request -> one status or error per id, or a whole response


class Stub:
    """`_bulk` as Elasticsearch would answer; the script says how each request goes, the last entry for all that follow."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.stored: set[str] = set()
        self.requests: list[list[str]] = []

    def create(self, log_id: str) -> dict[str, Any]:
        if log_id in self.stored:
            return failed(409, "version_conflict_engine_exception")
        self.stored.add(log_id)
        return {"status": 201}

    async def bulk(self, request: web.Request) -> web.StreamResponse:
        lines = (await request.read()).splitlines()
        ids = [json.loads(line)["create"]["_id"] for line in lines[::2]]
        self.requests.append(ids)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        answer = step(self, ids)
        if answer is None:  # hang up
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(answer, web.Response):
            return answer
        errors = any("error" in item for item in answer)
        return web.json_response({"errors": errors, "items": [{"create": item} for item in answer]}, headers=PRODUCT)


def failed(status: int, kind: str, reason: str = "because") -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "reason": reason}}


def whole(status: int, kind: str) -> Answer:
    body = {"error": {"type": kind, "reason": "because"}, "status": status}
    return lambda _stub, _ids: web.json_response(body, status=status, headers=PRODUCT)


def take_all(stub: Stub, ids: list[str]) -> Any:
    return [stub.create(log_id) for log_id in ids]


def except_for(log_id: str, error: dict[str, Any]) -> Answer:
    return lambda stub, ids: [error if each == log_id else stub.create(each) for each in ids]


def take_and_hang_up(stub: Stub, ids: list[str]) -> Any:
    take_all(stub, ids)


def too_large_over(count: int) -> Answer:
    refuse = whole(413, "content_too_long_exception")
    return lambda stub, ids: take_all(stub, ids) if len(ids) <= count else refuse(stub, ids)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_write, "FIRST_WAIT_S", 0.001)


@asynccontextmanager
async def writing_to(stub: Stub) -> AsyncIterator[ElasticIndex]:
    async def digests(request: web.Request) -> web.Response:
        docs = [{"_id": doc["_id"], "found": False} for doc in (await request.json())["docs"]]
        return web.json_response({"docs": docs}, headers=PRODUCT)

    async def one_index(_request: web.Request) -> web.Response:
        return web.json_response({"logs-default-000001": {"aliases": {"logs-default": {}}}}, headers=PRODUCT)

    app = web.Application()
    app.router.add_put("/logs-default/_bulk", stub.bulk)
    app.router.add_post("/logs-default/_bulk", stub.bulk)
    app.router.add_post("/_mget", digests)
    app.router.add_get("/_alias/logs-default", one_index)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    index = ElasticIndex(f"http://127.0.0.1:{port}", project="default")
    try:
        yield index
    finally:
        await index.close()
        await runner.cleanup()


def logs(*ids: str) -> list[TaggedLog]:
    message = Message(role="user", content="text")
    return [
        TaggedLog(log=LogRecord(log_id=log_id, ts_ms=1, messages=(message,)), content_digest=log_id) for log_id in ids
    ]


async def outcomes(stub: Stub, *ids: str) -> list[str]:
    async with writing_to(stub) as index:
        written = await asyncio.wait_for(index.write(logs(*ids)), timeout=20)
    assert [item.log_id for item in written] == list(ids)
    return [item.outcome.value for item in written]


INDEXED = ["indexed"] * 3


@pytest.mark.parametrize(
    "error",
    [
        failed(429, "es_rejected_execution_exception"),
        failed(503, "unavailable_shards_exception"),
        failed(403, "cluster_block_exception", "disk usage exceeded flood-stage watermark"),
    ],
    ids=["busy", "no shard", "full disk"],
)
async def test_only_the_item_that_was_not_taken_is_sent_again(error: dict[str, Any]) -> None:
    stub = Stub(except_for("b", error), except_for("b", error), take_all)
    assert await outcomes(stub, "a", "b", "c") == INDEXED
    assert stub.requests == [["a", "b", "c"], ["b"], ["b"]]


@pytest.mark.parametrize("answer", [whole(429, "busy"), whole(503, "away"), whole(403, "cluster_block_exception")])
async def test_a_whole_request_that_was_not_taken_is_sent_again(answer: Answer) -> None:
    stub = Stub(answer, take_all)
    assert await outcomes(stub, "a", "b", "c") == INDEXED
    assert stub.requests == [["a", "b", "c"]] * 2


async def test_an_answer_that_got_lost_doubles_nothing() -> None:
    stub = Stub(take_and_hang_up, take_all)
    assert await outcomes(stub, "a", "b") == ["duplicate", "duplicate"]
    assert stub.stored == {"a", "b"}


async def test_an_answer_that_leaves_items_out_counts_for_none() -> None:
    stub = Stub(lambda stub, ids: take_all(stub, ids)[:1], take_all)
    assert await outcomes(stub, "a", "b") == ["duplicate", "duplicate"]


async def test_an_answer_that_is_not_json_is_no_answer() -> None:
    stub = Stub(lambda *_: web.Response(text="<html>", content_type="application/json", headers=PRODUCT), take_all)
    assert await outcomes(stub, "a", "b", "c") == INDEXED


async def test_one_bad_document_does_not_hold_up_the_others() -> None:
    stub = Stub(except_for("b", failed(400, "document_parsing_exception", "failed to parse field [ts] 'secret'")))
    async with writing_to(stub) as index:
        written = await index.write(logs("a", "b", "c"))
    assert [item.outcome for item in written] == [Outcome.INDEXED, Outcome.REJECTED, Outcome.INDEXED]
    assert written[1].error_code == "mapping"
    assert "secret" not in str(written[1].reason)


@pytest.mark.parametrize(
    "answer",
    [
        whole(401, "security_exception"),
        whole(403, "security_exception"),
        except_for("b", failed(403, "security_exception")),
    ],
)
async def test_not_being_let_in_stops_at_once(answer: Answer) -> None:
    stub = Stub(answer)
    async with writing_to(stub) as index:
        with pytest.raises(IndexRefused):
            await index.write(logs("a", "b", "c"))
    assert len(stub.requests) == 1


async def test_a_request_that_is_too_large_is_halved() -> None:
    stub = Stub(too_large_over(2))
    assert await outcomes(stub, "a", "b", "c", "d", "e") == ["indexed"] * 5
    assert [len(ids) for ids in stub.requests] == [5, 2, 3, 1, 2]


async def test_a_single_document_that_is_too_large_is_rejected() -> None:
    async with writing_to(Stub(too_large_over(0))) as index:
        written = await index.write(logs("a", "b"))
    assert [(item.outcome, item.error_code) for item in written] == [(Outcome.REJECTED, "too_large")] * 2


async def test_a_search_does_not_wait_for_an_engine_that_is_away() -> None:
    index = ElasticIndex("http://127.0.0.1:9", project="default")
    with pytest.raises(IndexUnavailable):
        await index.ping()
    with pytest.raises(IndexUnavailable):
        await index.get("a")
    await index.close()
