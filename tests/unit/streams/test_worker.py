"""The Faust worker's own part: whatever goes wrong ends the process without a commit, and its health port says how it is."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Message
from tunemill.streams import app as worker
from tunemill.streams.app import EXIT_UNFORESEEN, build_app, feed, keep_looking
from tunemill.streams.errors import Stalled
from tunemill.streams.liveness import index_retries
from tunemill.streams.probe import serve_health

DYING = """
import asyncio, sys
from pathlib import Path
from tunemill.bus.port import Message
from tunemill.bus.sqlite import SqliteBus
from tunemill.schemas.topics import TOPICS
from tunemill.streams.app import exit_without_commit
from tunemill.streams.batch import Hop
from tunemill.streams.erased import follow_erasures
from tunemill.streams.flow import flowing
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules
from tunemill.telemetry.logs import configure

class Index:
    async def write(self, logs): raise KeyError("the text of a log") from OSError("more of it")
    async def delete(self, log_ids): pass

async def main():
    bus = SqliteBus(Path(sys.argv[1]))
    await bus.create_topics(TOPICS)
    async def commit(offsets): print("COMMITTED", offsets)
    payload = b'{"messages":[{"role":"user","content":"hi"}]}'
    async with follow_erasures(bus, Index()) as erased:
        async with flowing(Hop(Index(), bus, erased, Rulebook(load_rules())), commit) as flow:
            await flow.take([Message("llm.logs", 0, 5, None, payload, 1)])
            await asyncio.sleep(60)
    print("STILL ALIVE")

configure(service="streams")
try:
    asyncio.run(main())
except Exception as error:
    exit_without_commit(error)
"""


class Ended(BaseException):
    """The process would be gone here."""


class Taking:
    """The part of a flow that the agent sees."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.settled = 0
        self.room = asyncio.Event()
        self.room.set()

    async def take(self, messages: Sequence[Message]) -> None:
        await self.room.wait()
        self.taken += [message.offset for message in messages]

    async def settle(self) -> None:
        self.settled += 1
        await self.room.wait()


class Stream:
    """What Faust gives the agent: the records of one fetch after another."""

    def __init__(self, *fetches: Sequence[Any]) -> None:
        self.fetches = fetches

    def noack(self) -> "Stream":
        return self

    async def __aiter__(self) -> AsyncIterator[Sequence[Any]]:
        for fetch in self.fetches:
            yield fetch


def record(offset: int) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord("llm.logs", 0, offset, 1500, 0, b"k", b"v", None, 1, 1, ())


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of errors that ended the process."""
    ends: list[str] = []

    def end(error: BaseException) -> None:
        ends.append(type(error).__name__)
        raise Ended

    monkeypatch.setattr(worker, "exit_without_commit", end)
    return ends


def agent_of(flow: Taking) -> Any:
    app = build_app("kafka://127.0.0.1:1", group="a-group")
    feed(app, flow)
    (agent,) = app.agents.values()
    return agent


async def test_the_agent_hands_each_fetch_on(ends: list[str]):
    flow = Taking()
    await agent_of(flow).fun(Stream([record(1), record(2)], [record(3)]))
    assert (flow.taken, ends) == ([1, 2, 3], [])


async def test_an_agent_that_raises_ends_the_process_before_faust_goes_on_behind_the_message(ends: list[str]):
    flow = Taking()
    with pytest.raises(Ended):
        await agent_of(flow).fun(Stream([record(1)], ["no record"], [record(3)]))
    assert (flow.taken, ends) == ([1], ["AttributeError"])


async def test_an_agent_that_is_cancelled_ends_the_process_too(ends: list[str]):
    flow = Taking()
    flow.room.clear()
    handling = asyncio.create_task(agent_of(flow).fun(Stream([record(1)], [record(2)])))
    await asyncio.sleep(0)
    handling.cancel()
    with pytest.raises(Ended):
        await handling
    assert (flow.taken, ends) == ([], ["CancelledError"])


async def test_an_agent_may_be_cancelled_when_the_app_stops(ends: list[str]):
    flow = Taking()
    flow.room.clear()
    agent = agent_of(flow)
    handling = asyncio.create_task(agent.fun(Stream([record(1)])))
    await asyncio.sleep(0)
    agent.app._stopped.set()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert ends == []


async def test_a_rebalance_settles_the_flow_and_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "SETTLE_DEADLINE_S", 0.01)
    flow = Taking()
    flow.room.clear()
    await agent_of(flow).app.on_partitions_revoked.send(set())
    assert flow.settled == 1


class Looks:
    """In the place of `Liveness`: what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []

    def look(self, *, moves: int, has_work: bool) -> None:
        self.told.append((moves - index_retries(), has_work))


class Ends:
    """The part of a bus that says where topics end: each time the next of these answers, the last one for ever."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)

    async def end_offsets(self, places: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise BusUnavailable("away")
        return dict.fromkeys(places, answer)


def reading_to(position: int | None, *, rebalancing: bool = False) -> Any:
    """An app whose one partition is fetched up to there; None: it does not say."""

    async def at(_partition: Any) -> int:
        if position is None:
            await asyncio.Event().wait()
        return position or 0

    return SimpleNamespace(
        consumer=SimpleNamespace(assignment=lambda: {TP("llm.logs", 0)}, position=at), rebalancing=rebalancing
    )


@pytest.mark.parametrize(
    ("app", "bus", "is_empty", "told"),
    [
        (reading_to(5), Ends(5), True, [(7, False)] * 3),
        (reading_to(5), Ends(6), True, [(7, True)] * 3),
        (reading_to(5), Ends(5), False, [(7, True)] * 3),
        (reading_to(5, rebalancing=True), Ends(5), True, [(7, True)] * 3),
        (reading_to(None), Ends(5), True, [(7, True)] * 3),
        (reading_to(5), Ends(6, None, None, 6), True, [(7, True), (8, True), (9, True)]),
    ],
    ids=["idle", "lag", "parts begun", "a rebalance", "a consumer that does not say", "an outage is a move each time"],
)
async def test_the_worker_knows_whether_there_is_work_and_something_moves(
    monkeypatch: pytest.MonkeyPatch, app: Any, bus: Ends, is_empty: bool, told: list[tuple[int, bool]]
):
    monkeypatch.setattr(worker, "LOOK_EVERY_S", 0.01)
    looks = Looks()
    looking = asyncio.create_task(keep_looking(looks, app, bus, SimpleNamespace(moves=7, is_empty=is_empty)))
    async with asyncio.timeout(30):
        while len(looks.told) < len(told):  # noqa: ASYNC110 - what is waited for lies in a fake
            await asyncio.sleep(0.001)
    looking.cancel()
    assert looks.told[: len(told)] == told


def test_an_unforeseen_error_ends_the_process_without_a_commit_and_tells_no_text(tmp_path: Path):
    command = [sys.executable, "-c", DYING, str(tmp_path / "bus.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == EXIT_UNFORESEEN
    assert done.stdout == ""
    assert '"error": "KeyError"' in done.stderr
    assert '"cause": "OSError"' in done.stderr
    assert "text of a log" not in done.stderr
    assert "more of it" not in done.stderr


async def test_the_health_port_names_what_is_not_ready(unused_port: int):
    async def fine() -> None:
        return None

    async def away() -> None:
        raise OSError("no entry")

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client:
        async with serve_health({"bus": fine, "index": away}, fine, "127.0.0.1", unused_port):
            response = await answer(client, "/health/ready")
            assert (response.status_code, response.json()["checks"]) == (503, {"bus": "ok", "index": "failed: OSError"})
            assert (await client.get("/health/live")).status_code == 200
            assert "tunemill_logs_total" in (await client.get("/metrics")).text
        with pytest.raises(httpx.ConnectError):
            await client.get("/health/live")


async def test_the_health_port_says_when_nothing_moves(unused_port: int):
    async def stalled() -> None:
        raise Stalled

    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client,
        serve_health({}, stalled, "127.0.0.1", unused_port),
    ):
        response = await answer(client, "/health/live")
    assert (response.status_code, response.json()) == (503, {"status": "failed: Stalled"})


async def answer(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """The answer, as soon as the port is open."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await client.get(path)
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
