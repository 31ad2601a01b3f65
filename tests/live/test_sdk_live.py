"""The producer over a real Kafka."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from aiokafka.structs import ConsumerRecord
from engines import maven
from engines.absent import skip_or_fail
from engines.errors import EngineAbsent

from tunemill.schemas.ids import new_id
from tunemill.schemas.packing import split
from tunemill.schemas.records import LogRecord
from tunemill.schemas.topics import LOGS
from tunemill.sdk import Producer, Stats

pytestmark = pytest.mark.live


async def make_topic(hosts: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts)
    await admin.start()
    try:
        limit = {"max.message.bytes": str(LOGS.max_message_bytes)}
        await admin.create_topics([NewTopic(LOGS.name, LOGS.partitions, 1, topic_configs=limit)])
    except TopicAlreadyExistsError:
        pass
    finally:
        await admin.close()


async def everything(hosts: str) -> list[ConsumerRecord]:
    """What lies in the topic now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=hosts,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 2**20,
    )
    await consumer.start()
    try:
        places = [TopicPartition(LOGS.name, number) for number in range(LOGS.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                found += messages
        return found
    finally:
        await consumer.stop()


def test_logs_reach_the_topic_once_packed_and_in_order_per_conversation(kafka_url: str) -> None:
    hosts = kafka_url.removeprefix("kafka://")
    asyncio.run(make_topic(hosts))
    app = f"sdk-{new_id()}"
    with Producer(kafka_url, app=app) as producer:
        large = producer.log(messages="x" * 2_000_000)
        ids = [producer.log(messages="hi", session_id=f"{app}-{n % 7}") for n in range(500)]
        assert producer.flush(30)
        assert producer.stats().sent == 501
    messages = [message for message in asyncio.run(everything(hosts)) if app.encode() in message.value]
    logs = [
        msgspec.json.decode(line, type=LogRecord)
        for message in sorted(messages, key=lambda message: (message.partition, message.offset))
        for line in split(message.value)
    ]
    assert sorted(log.log_id for log in logs) == sorted([large, *ids])
    assert len(messages) < 60
    for number in range(7):
        of_session = [log.log_id for log in logs if log.session_id == f"{app}-{number}"]
        assert of_session == ids[number::7]
    places = {(log.session_id, message.partition) for message in messages for log in _in(message) if log.session_id}
    assert len(places) == 7, "a conversation lies in one partition"


def _in(message: ConsumerRecord) -> list[LogRecord]:
    return [msgspec.json.decode(line, type=LogRecord) for line in split(message.value)]


@contextmanager
def broker_of_our_own() -> Iterator[tuple[str, int]]:
    """Its URL and its process id: one that others use may not be paused."""
    before = children()
    with ExitStack() as running:
        try:
            url = running.enter_context(maven.start_kafka(heap="256m"))
        except EngineAbsent as absent:
            skip_or_fail(f"no Kafka that can be paused: {absent}")
        (pid,) = children() - before
        try:
            yield url, pid
        finally:
            os.kill(pid, signal.SIGCONT)


def children() -> set[int]:
    """The processes that this thread has started and that still run."""
    listed = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    if not listed.exists():
        pytest.skip("only Linux tells which process the broker is")
    return {int(pid) for pid in listed.read_text().split()}


def until(happens: Callable[[], bool]) -> None:
    for _ in range(1200):
        if happens():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within two minutes")


def ids_by_session(messages: list[ConsumerRecord]) -> Mapping[str | None, list[str]]:
    """In the topic's order, each id where it came first: what was sent again after a pause may lie there twice."""
    found: dict[str | None, dict[str, None]] = {}
    for message in sorted(messages, key=lambda message: (message.partition, message.offset)):
        for log in _in(message):
            found.setdefault(log.session_id, {})[log.log_id] = None
    return {session: list(ids) for session, ids in found.items()}


def test_what_is_logged_while_kafka_stands_still_waits_on_disk_and_arrives_in_order(tmp_path: Path) -> None:
    with broker_of_our_own() as (url, pid):
        asyncio.run(make_topic(url.removeprefix("kafka://")))
        logged: dict[str | None, list[str]] = {f"s{number}": [] for number in range(7)}

        def log(producer: Producer, count: int) -> None:
            for number in range(count):
                session = f"s{number % 7}"
                logged[session].append(producer.log(messages="x" * 500, session_id=session))

        first = Producer(url, when_full="spool", spool_dir=tmp_path, buffer_bytes=400_000)
        log(first, 500)
        assert first.flush(30)
        os.kill(pid, signal.SIGSTOP)
        for _ in range(30):
            log(first, 100)
            until(lambda: first.stats().waiting < 400)
        assert first.stats().spooled > 2000
        first.close(1.0)  # and the next process finds it
        assert first.stats() == Stats(logged=3500, sent=500, spooled=3000)
        second = Producer(url, when_full="spool", spool_dir=tmp_path)
        until(lambda: second.stats().logged == 3000)
        log(second, 100)
        os.kill(pid, signal.SIGCONT)
        assert second.flush(90), second.stats()
        second.close()
        assert second.stats() == Stats(logged=3100, sent=3100)
        assert ids_by_session(asyncio.run(everything(url.removeprefix("kafka://")))) == logged
    assert list(tmp_path.iterdir()) == []
