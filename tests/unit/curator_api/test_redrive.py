"""Dead letters over HTTP, and the way back: each record is sent again once it is durable, and what fails again stays one letter."""

import asyncio
import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.curator_api import Running, running_api
from fakes.index_memory import MemoryIndex
from fakes.stream_worker import StreamWorker
from sqlalchemy import select

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Message as BusMessage
from tunemill.bus.port import Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.curator_api import dead_letters
from tunemill.curator_api import redrive as redriving
from tunemill.curator_api.open_letters import OpenLetters
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import runs
from tunemill.schemas import wire
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.packing import pack
from tunemill.schemas.records import DatasetReady, Erasure, Feedback, LogBatch, LogRecord, Message, RejectedLog
from tunemill.schemas.topics import DATASETS_READY, ERASURES, FEEDBACK, LOGS, REJECTED, Topic
from tunemill.streams import process as processing
from tunemill.streams.unpack import records_in
from tunemill.trainer.doorbell import GROUP, answer

SECRET = "sk-" + "a1B2" * 8


def log(log_id: str, text: str = "hello") -> LogRecord:
    return LogRecord(log_id=log_id, ts_ms=1, messages=(Message(role="user", content=text),))


class Worker(StreamWorker):
    """The stream, and what is asked over HTTP about what it rejected."""

    index: MemoryIndex

    def __init__(self, api: Running) -> None:
        super().__init__(api.bus, MemoryIndex())
        self.api = api

    async def rejected(self, **params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.api.client.get("/v1/rejected", params=params)).json()["rejected"]
        return found

    async def redrive(self, *ids: str, **kind: str) -> dict[str, int]:
        reply = await self.api.client.post("/v1/rejected/redrive", json={"ids": ids} if ids else kind)
        assert reply.status_code == 200, reply.text
        counts: dict[str, int] = reply.json()
        return counts

    async def newest(self, topic: Topic = LOGS) -> BusMessage:
        return (await self.bus.tail(topic, limit=1))[0]


def sent(redriven: int, no_payload: int = 0, not_found: int = 0) -> dict[str, int]:
    return {"redriven": redriven, "no_payload": no_payload, "not_found": not_found}


async def test_letters_are_listed_without_payload_newest_first_and_counted_by_kind(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        worker = Worker(api)
        worker.index.rejects = {"bad"}
        await worker.publish(b"private", pack([log("good"), log("bad", "private")]), b"", b"private, too")
        await worker.work()
        page = (await api.client.get("/v1/rejected", params={"limit": 3})).json()
        assert (len(page["rejected"]), page["total"], page["older"]) == (3, 4, 0)
        assert page["counts"][0] == {"stage": "decode", "error_code": "not_json", "count": 2}
        (bad,) = await worker.rejected(stage="index", error_code="mapping", topic="llm.logs")
        assert (bad["rejected_id"], bad["attempts"], bad["first_ts_ms"]) == ("llm.logs:0:1:1", 1, None)
        assert await worker.rejected(topic="llm.feedback") == []
        assert "private" not in str(page)


async def test_letters_of_other_projects_and_what_is_no_letter_are_left_out(tmp_path: Path) -> None:
    theirs = RejectedLog(rejected_id="t", ts_ms=1, topic="llm.logs", partition=0, offset=0, stage="decode",
                         error_code="invalid", reason="r", payload=b"", payload_bytes=0, project="theirs")  # fmt: skip
    async with running_api(tmp_path) as api:
        await api.bus.publish(REJECTED, [Outgoing(wire.encode(theirs)), Outgoing(b"torn")])
        await Worker(api).publish(b"torn")
        await Worker(api).work()
        assert [one["rejected_id"] for one in await Worker(api).rejected()] == ["llm.logs:0:0:0"]
        assert (await api.client.get("/v1/rejected/t")).status_code == 404


async def test_a_letter_is_shown_with_its_masked_payload(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        worker = Worker(api)
        await worker.publish(f"key {SECRET}".encode(), b"\xff\xfe", b"")
        await worker.work()
        shown = [(await api.client.get(f"/v1/rejected/llm.logs:0:{n}:0")).json() for n in range(3)]
        assert [(one["payload"], one["payload_encoding"]) for one in shown] == [
            ("key [SECRET:api-key]", "text"),
            (base64.b64encode(b"\xff\xfe").decode(), "base64"),
            (None, None),
        ]


async def test_a_record_that_can_be_read_now_is_sent_again_and_its_letter_is_gone(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {"b"}
        await worker.publish(pack([log("a"), log("b", f"use {SECRET}"), log("c")]), key="session-1")
        assert await worker.work() == {Outcome.INDEXED: 2, Outcome.REJECTED: 1}
        worker.index.rejects = set()
        assert await worker.redrive("llm.logs:0:0:1", "llm.logs:0:0:7") == sent(1, not_found=1)
        assert await worker.rejected() == []
        metrics = (await api.client.get("/metrics")).text
        assert 'tunemill_redriven_total{topic="llm.logs"}' in metrics
        again = await worker.newest()
        assert (again.key, again.value) == ("session-1", msgspec.json.encode(log("b", f"use {SECRET}")))
        assert await worker.work() == {Outcome.INDEXED: 1}, "that record alone"
        assert worker.index.logs["b"].log == log("b", "use [SECRET:api-key]")
        assert await worker.redrive("llm.logs:0:0:1") == sent(0, not_found=1)


async def test_what_is_rejected_again_is_the_same_letter_with_one_attempt_more(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {"b"}
        bad = log("b", f"use {SECRET}")
        await worker.publish(pack([log("a"), bad]))
        await worker.work()
        (first,) = await worker.rejected()
        for attempts in (2, 3):
            assert await worker.redrive(first["rejected_id"]) == sent(1)
            assert (await worker.newest()).value == msgspec.json.encode(bad), "as it came, each time"
            assert await worker.work() == {Outcome.REJECTED: 1}
            (again,) = await worker.rejected()
            assert (again["rejected_id"], again["attempts"]) == (first["rejected_id"], attempts)
            assert (again["first_ts_ms"], again["offset"]) == (first["ts_ms"], attempts - 1)
        worker.index.rejects = set()
        assert await worker.redrive(stage="index", error_code="mapping") == sent(1)
        assert await worker.work() == {Outcome.INDEXED: 1}
        assert await worker.rejected() == []


async def test_a_message_that_could_not_be_taken_apart_is_sent_again_whole(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        whole = pack([log(str(n)) for n in range(3)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processing, "unpack", lambda _value, _schemas: 1 / 0)
            await worker.publish(whole)
            assert await worker.work() == {Outcome.REJECTED: 1}
        assert await worker.redrive("llm.logs:0:0:0") == sent(1)
        assert await worker.work() == {Outcome.INDEXED: 3}


async def test_a_record_without_a_time_keeps_the_time_at_which_it_came(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {"a"}
        await worker.publish(b'{"log_id": "a", "messages": [{"role": "user", "content": "hello"}]}')
        await worker.work()
        ((letter,), worker.index.rejects) = (await worker.rejected(), set())
        await worker.redrive("llm.logs:0:0:0")
        await worker.work()
    assert worker.index.logs["a"].log.ts_ms == letter["ts_ms"]


async def test_a_torn_message_that_nobody_can_take_apart_is_sent_again_whole(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        torn = wire.encode(LogBatch((log("a"), log("b"))))[:-1]
        await worker.publish(torn)
        await worker.work()
        assert await worker.redrive("llm.logs:0:0:0") == sent(1)
        assert (await worker.newest()).value == torn
        await worker.work()
        assert [(one["error_code"], one["attempts"]) for one in await worker.rejected()] == [("not_avro", 2)]


async def test_where_masking_failed_the_message_itself_is_sent_again(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processing, "mask", lambda _log, *_rules: 1 / 0)
            await worker.publish(pack([log("a"), log("b")]))
            assert await worker.work() == {Outcome.REJECTED: 2}
        assert (await api.client.get("/v1/rejected/llm.logs:0:0:1")).json()["payload"] is None
        assert await worker.redrive(stage="mask") == sent(2)
        assert await worker.work() == {Outcome.INDEXED: 2}


async def test_where_nothing_else_is_left_a_message_that_cannot_be_taken_apart_is_sent_whole(tmp_path: Path) -> None:
    """As one that needs a schema registry, which the API does not ask."""
    async with running_api(tmp_path, records_in=lambda _message: []) as api:
        worker = Worker(api)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processing, "mask", lambda _log, *_rules: 1 / 0)
            await worker.publish(pack([log("a"), log("b")]))
            await worker.work()
        assert await worker.redrive("llm.logs:0:0:0", "llm.logs:0:0:1") == sent(2)
        assert await worker.work() == {Outcome.INDEXED: 2}, "it is sent once for both"
        assert await worker.rejected() == []


async def test_avro_that_masking_tore_is_sent_again_as_it_came(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {"a"}
        await worker.publish(wire.encode(log("a", f"use {SECRET}")))
        await worker.work()
        worker.index.rejects = set()
        assert await worker.redrive("llm.logs:0:0:0") == sent(1)
        assert await worker.work() == {Outcome.INDEXED: 1}


class Watched(SqliteBus):
    """A bus that knows how many messages went to the topic of logs at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.published: list[int] = []

    async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
        await super().publish(topic, messages)
        self.published += [len(messages)] if topic.name == LOGS.name else []


async def test_some_are_sent_again_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redriving, "MESSAGES_AT_ONCE", 3)
    monkeypatch.setattr(redriving, "LETTERS_AT_ONCE", 4)
    bus = Watched(tmp_path / "bus.db")
    async with running_api(tmp_path, bus=bus, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {str(n) for n in range(15)}
        many = [pack([log(str(n + part)) for part in range(3)]) for n in (0, 3, 6)]
        await worker.publish(*many, *(pack([log(str(n))]) for n in range(9, 15)))
        await worker.work()
        bus.published, worker.index.rejects = [], set()
        assert await worker.redrive(stage="index") == sent(15)
        assert bus.published == [6, 4, 3, 2]
        assert await worker.work() == {Outcome.INDEXED: 15}


class Forgetful(SqliteBus):
    """A bus that no longer holds the messages of some topics."""

    gone: frozenset[str] = frozenset()

    async def read(self, topic: Topic, places: Any) -> Any:
        return {} if topic.name in self.gone else await super().read(topic, places)


async def test_when_the_message_is_gone_the_letters_own_bytes_are_sent_and_without_them_nothing(tmp_path: Path) -> None:
    bus = Forgetful(tmp_path / "bus.db")
    async with running_api(tmp_path, bus=bus, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {"a"}
        await worker.publish(pack([log("z"), log("a", f"use {SECRET}")]), b"")
        await worker.work()
        bus.gone, worker.index.rejects = frozenset({LOGS.name}), set()
        assert await worker.redrive(topic="llm.logs") == sent(1, no_payload=1)
        assert [one["error_code"] for one in await worker.rejected()] == ["empty"], "what was not sent stays open"
        assert await worker.work() == {Outcome.INDEXED: 1}
        assert worker.index.logs["a"].log == log("a", "use [SECRET:api-key]")


async def test_another_message_at_the_same_place_is_not_taken_for_the_record(tmp_path: Path) -> None:
    """A topic that was deleted and made anew begins at offset 0 again."""
    long_ago = RejectedLog(rejected_id="llm.logs:0:0:0", ts_ms=1_000, topic="llm.logs", partition=0, offset=0,
                           stage="index", error_code="mapping", reason="r",
                           payload=msgspec.json.encode(log("mine")), payload_bytes=9)  # fmt: skip
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        await worker.publish(pack([log("other")]))
        await api.bus.publish(REJECTED, [Outgoing(wire.encode(long_ago), long_ago.rejected_id)])
        assert await worker.redrive("llm.logs:0:0:0") == sent(1)
        await worker.work()
        assert set(worker.index.logs) == {"other", "mine"}


class Breaking(SqliteBus):
    """A bus that goes away before or after it has published to a topic."""

    before: str | None = None
    after: str | None = None

    async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
        if topic.name == self.before:
            raise BusUnavailable("away")
        await super().publish(topic, messages)
        if topic.name == self.after:
            raise BusUnavailable("away")


@pytest.mark.parametrize(
    ("before", "after", "duplicates"),
    [(LOGS.name, None, 0), (None, LOGS.name, 1), (REJECTED.name, None, 1)],
)
async def test_an_outage_in_the_middle_loses_nothing_and_a_second_sending_is_a_duplicate(
    tmp_path: Path, before: str | None, after: str | None, duplicates: int
) -> None:
    bus = Breaking(tmp_path / "bus.db")
    async with running_api(tmp_path, bus=bus, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {"a"}
        await worker.publish(pack([log("a")]))
        await worker.work()
        worker.index.rejects, bus.before, bus.after = set(), before, after
        reply = await api.client.post("/v1/rejected/redrive", json={"ids": ["llm.logs:0:0:0"]})
        bus.before = bus.after = None
        assert reply.status_code == 503
        assert [one["attempts"] for one in await worker.rejected()] == [1], "it is open until its record is durable"
        assert await worker.redrive("llm.logs:0:0:0") == sent(1)
        counts = await worker.work()
        assert (counts[Outcome.INDEXED], counts[Outcome.DUPLICATE]) == (1, duplicates)
        assert await worker.rejected() == []


async def test_two_clicks_send_one_record_once(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        worker = Worker(api)
        await worker.publish(b"torn")
        await worker.work()
        counts = await asyncio.gather(*(worker.redrive("llm.logs:0:0:0") for _ in range(3)))
        assert sorted(one["redriven"] for one in counts) == [0, 0, 1]


async def test_an_erased_log_does_not_come_back(tmp_path: Path) -> None:
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {"a"}
        await worker.publish(pack([log("a")]))
        await worker.work()
        worker.index.rejects = set()
        await api.bus.publish(ERASURES, [Outgoing(wire.encode(Erasure(erasure_id="e", ts_ms=1, log_id="a")), "a")])
        assert await worker.redrive("llm.logs:0:0:0") == sent(1)
        assert await worker.work() == {Outcome.ERASED: 1}
        assert worker.index.logs == {}


async def test_feedback_and_erasures_go_back_to_their_topics_under_a_key_of_their_own(tmp_path: Path) -> None:
    """On a compacted topic the old message, sent again under its key, would take the place of a newer one."""
    async with running_api(tmp_path, records_in=records_in) as api:
        worker = Worker(api)
        worker.index.rejects = {"f"}
        said = Feedback(feedback_id="f", ts_ms=1, name="helpful", log_id="a", score=1.0)
        await api.bus.publish(FEEDBACK, [Outgoing(wire.encode(said), "f")])
        await api.bus.publish(ERASURES, [Outgoing(b"torn", "a")])
        await worker.work()
        worker.index.rejects = set()
        assert {one["topic"] for one in await worker.rejected()} == {FEEDBACK.name, ERASURES.name}
        assert await worker.redrive(stage="index", error_code="bad_id") == sent(1)
        assert await worker.redrive(topic=ERASURES.name) == sent(1)
        assert (await worker.newest(FEEDBACK)).key == "llm.feedback:0:0:0"
        assert (await worker.newest(ERASURES)).key == "llm.erasures:0:0:0"
        assert await worker.work() == {Outcome.INDEXED: 1}
        assert worker.index.feedback["f"] == said
        assert [(one["topic"], one["attempts"]) for one in await worker.rejected()] == [(ERASURES.name, 2)]


async def test_an_order_that_the_trainer_could_not_read_goes_back_to_it(tmp_path: Path) -> None:
    event = DatasetReady(
        event_id="e", ts_ms=1, name="not a name!", version=1, digest="d" * 64, manifest_url="/m", rows=3
    )
    engine = open_registry(f"sqlite:///{tmp_path / 'trainer.db'}")
    migrate(engine)
    async with running_api(tmp_path) as api:
        worker = Worker(api)
        await api.bus.publish(DATASETS_READY, [Outgoing(wire.encode(event))])
        for attempts in (1, 2):
            async with api.bus.subscribe([DATASETS_READY], group=GROUP) as subscription:
                assert await answer(subscription, api.bus, engine, timeout_s=0) == 1
            (letter,) = await worker.rejected(topic=DATASETS_READY.name)
            assert (letter["rejected_id"], letter["attempts"]) == ("datasets.ready:0:0:0", attempts)
            assert await worker.redrive(letter["rejected_id"]) == sent(1)
    with engine.connect() as connection:
        assert connection.execute(select(runs)).all() == []
    engine.dispose()


@pytest.mark.parametrize("wanted", [{}, {"ids": ["a"], "stage": "decode"}, {"ids": ["a"] * 1001}, {"code": "invalid"}])
async def test_what_to_send_again_must_be_said(tmp_path: Path, wanted: dict[str, Any]) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.client.post("/v1/rejected/redrive", json=wanted)).status_code == 422


async def test_what_was_read_and_not_folded_in_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_api(tmp_path) as api:
        worker = Worker(api)
        await worker.publish(b"torn")
        await worker.work()
        letters = dead_letters.DeadLetters(api.bus, "default")
        with monkeypatch.context() as patch:
            patch.setattr(dead_letters, "_decoded", lambda _messages: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await letters.read()
        assert len((await letters.read()).matching()) == 1
        await letters.close()


async def test_all_are_sent_again_also_when_they_are_too_many_to_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "OpenLetters", partial(OpenLetters, 4))
    async with running_api(tmp_path) as api:
        worker = Worker(api)
        await worker.publish(*(b"torn" for _ in range(9)))
        await worker.work()
        assert [await worker.redrive(stage="decode") for _ in range(4)] == [sent(4), sent(4), sent(1), sent(0)]
        assert (await api.client.get("/v1/rejected")).json()["older"] == 0


async def test_after_an_outage_the_list_is_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "OpenLetters", partial(OpenLetters, 2))

    class Away(SqliteBus):
        away = False

        def _connect(self) -> Any:
            if self.away:
                raise OSError("away")
            return super()._connect()

    bus = Away(tmp_path / "bus.db")
    async with running_api(tmp_path, bus=bus) as api:
        worker = Worker(api)
        await worker.publish(b"torn", b"torn", b"torn")
        await worker.work()
        assert len(await worker.rejected()) == 2
        bus.away = True
        assert (await api.client.get("/v1/rejected")).status_code == 503
        bus.away = False
        await worker.publish(b"torn, too")
        await worker.work()
        page = (await api.client.get("/v1/rejected")).json()
        assert ([one["offset"] for one in page["rejected"]], page["older"]) == ([3, 2], 2)
