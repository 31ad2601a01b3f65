"""A learned tag from its first label to its end: labelled, learned, measured, put in force, set on history, taken off again."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.curator_api import Running, running_api

from tunemill.bus.port import Outgoing
from tunemill.indexer.open import open_index
from tunemill.schemas import wire
from tunemill.schemas.records import LogRecord, Message
from tunemill.schemas.topics import LOGS
from tunemill.streams import rulebook
from tunemill.streams.local import run_local

TAG = "topic:refund"
ASKED = ("I want my money back for {}", "please refund {}", "you charged me twice for {}", "{} is broken, I return it")
OTHER = ("where is {} now", "can I change the colour of {}", "is {} on sale", "when do you deliver {}")
THINGS = (
    "the lamp",
    "my red shoes",
    "this phone",
    "the green chair",
    "my order",
    "the book",
    "that kettle",
    "a jacket",
)
ENDS = (
    "thanks",
    "it is urgent",
    "as I said yesterday",
    "my friend asked too",
    "hello again",
    "kind regards",
    "please answer",
)


def wants_refund(number: int) -> bool:
    return number % 5 < 2


def some_logs(numbers: Iterable[int], chance: random.Random) -> list[LogRecord]:
    """Questions of two kinds that share most of their words; some of either kind end in words of the other."""
    logs = []
    for number in numbers:
        kind, other = (ASKED, OTHER) if wants_refund(number) else (OTHER, ASKED)
        text = f"{chance.choice(kind)}, {chance.choice(ENDS)}".format(chance.choice(THINGS))
        if chance.random() < 0.1:
            text += " and " + chance.choice(other).format("it")
        logs.append(LogRecord(log_id=f"log-{number}", ts_ms=number, messages=(Message(role="user", content=text),)))
    return logs


@asynccontextmanager
async def everything(folder: Path) -> AsyncIterator[tuple[Running, rulebook.Rulebook]]:
    """The API with its backfills, and the embedded loop with the rules that it follows, over the embedded engines."""
    async with running_api(folder, index=open_index(f"local:{folder / 'index'}")) as api:
        book, stop = rulebook.open_rulebook(api.registry), asyncio.Event()
        loop = asyncio.create_task(run_local(api.bus, api.index, book, stop=stop))
        try:
            yield api, book
        finally:
            stop.set()
            await loop


async def publish(api: Running, logs: list[LogRecord], total: int) -> None:
    """Send logs, and wait until there are so many in all."""

    async def are_there() -> bool:
        await api.index.refresh()
        page = (await api.client.get("/v1/search", params={"limit": 0})).json()
        return bool(page["total"] == total)

    await api.bus.publish(LOGS, [Outgoing(wire.encode(log)) for log in logs])
    await until(are_there)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - what is waited for lies in other tasks and in files
            await asyncio.sleep(0.05)


async def tagged(api: Running, numbers: Iterable[int]) -> dict[int, str | None]:
    """Who set the tag on each log; None: it is not there."""
    logs = [(number, await api.index.get(f"log-{number}")) for number in numbers]
    return {
        number: next((tag.by for tag in log.tags if tag.tag == TAG), None) for number, log in logs if log is not None
    }


async def backfilled(api: Running) -> dict[str, Any]:
    """A backfill over all there is, when it is done."""
    state = (await api.client.post("/v1/backfills", json={})).json()

    async def has_ended() -> bool:
        state.update((await api.client.get(f"/v1/backfills/{state['backfill_id']}")).json())
        return bool(state["status"] != "running")

    await until(has_ended)
    assert state["status"] == "done"
    return dict(state)


async def test_a_learned_tag_from_its_first_label_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebook, "LOOK_EVERY_S", 0.05)
    chance = random.Random(11)
    history, labelled, new = range(300), range(120), range(300, 360)
    async with everything(tmp_path) as (api, book):
        await publish(api, some_logs(history, chance), 300)

        labels = [{"log_id": f"log-{one}", "tag": TAG, "label": wants_refund(one)} for one in labelled]
        assert (await api.client.post("/v1/labels", json={"labels": labels})).json()["labelled"] == 120
        learned = (await api.client.post("/v1/learned-tags", json={"tag": TAG, "precision": 0.9})).json()
        held_out = learned["report"]["held_out"]
        assert held_out["precision"]["share"] > 0.8 and held_out["recall"]["share"] > 0.7

        enabled = (await api.client.post(f"/v1/learned-tags/{TAG}/enable", json={})).json()

        async def is_taken_up() -> bool:
            return bool(book.revision == enabled["revision"])

        await until(is_taken_up)
        await publish(api, some_logs(new, chance), 360)
        live = await tagged(api, new)
        assert {by for by in live.values() if by} == {"learned@1"}
        assert_good(live, held_out)
        assert set((await tagged(api, range(120, 300))).values()) == {None}  # history waits for a backfill

        first = await backfilled(api)
        past = await tagged(api, range(120, 300))
        assert first["changed"] == sum(by is not None for by in past.values())
        assert_good(past, held_out)
        by_people = await tagged(api, labelled)
        assert {one for one, by in by_people.items() if by} == {one for one in labelled if wants_refund(one)}
        assert all(by is None or by.startswith("person:") for by in by_people.values())

        await api.client.post(f"/v1/learned-tags/{TAG}/disable")
        await backfilled(api)
        assert set((await tagged(api, range(120, 360))).values()) == {None}
        assert await tagged(api, labelled) == by_people


def assert_good(by: dict[int, str | None], held_out: dict[str, Any]) -> None:
    """As good on logs that nobody labelled as it was said to be, about."""
    hits = sum(wants_refund(number) for number, who in by.items() if who)
    assert hits / max(1, sum(who is not None for who in by.values())) > held_out["precision"]["low"] - 0.1
    assert hits / sum(map(wants_refund, by)) > held_out["recall"]["low"] - 0.1
