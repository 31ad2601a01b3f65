"""A topic that is filled while nobody works: batches are built beforehand and sent at once."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from tunemill.bus.kafka import MAX_BATCH_BYTES
from tunemill.bus.port import Outgoing
from tunemill.schemas.topics import Topic


async def fill(
    kafka_url: str, topic: Topic, messages: Iterable[Outgoing], *, before_sending: Callable[[], None] = lambda: None
) -> None:
    """Put these messages into the topic, the partitions taking turns, and return when the broker has them.

    Args:
        before_sending: called when all is built and only the sending is left.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_url.removeprefix("kafka://"),
        compression_type="zstd",
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=4 * topic.max_message_bytes,
    )
    await producer.start()
    try:
        batches = list(_batches(producer, messages))
        before_sending()
        sent = [
            await producer.send_batch(batch, topic.name, partition=number % topic.partitions)
            for number, batch in enumerate(batches)
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def _batches(producer: AIOKafkaProducer, messages: Iterable[Outgoing]) -> Iterator[BatchBuilder]:
    now_ms = time.time_ns() // 1_000_000
    batch = producer.create_batch()
    for message in messages:
        key = None if message.key is None else message.key.encode()
        if batch.append(timestamp=now_ms, key=key, value=message.value) is None:  # it is full
            yield batch
            batch = producer.create_batch()
            batch.append(timestamp=now_ms, key=key, value=message.value)
    if batch.record_count():
        yield batch
