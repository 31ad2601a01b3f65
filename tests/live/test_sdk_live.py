"""The producer over a real Kafka."""

import asyncio

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from aiokafka.structs import ConsumerRecord

from tunemill.schemas.ids import new_id
from tunemill.schemas.packing import split
from tunemill.schemas.records import LogRecord
from tunemill.schemas.topics import LOGS
from tunemill.sdk import Producer

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
