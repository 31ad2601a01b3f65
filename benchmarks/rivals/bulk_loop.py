"""The loop that one writes with aiokafka and the Elasticsearch client's helper: JSON documents from a topic, the message's key
as the id, offsets committed after each poll's documents are stored.

    python bulk_loop.py HOST:PORT TOPIC ELASTICSEARCH_URL INDEX
"""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_streaming_bulk

POLL_MESSAGES = 5_000
CHUNK_DOCUMENTS = 1_000


async def main(broker: str, topic: str, url: str, index: str) -> None:
    """Write until it is told to end."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=broker,
        group_id=topic,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=300_000,
        value_deserializer=json.loads,
    )
    loop = asyncio.get_running_loop()
    writing = asyncio.ensure_future(_write(consumer, AsyncElasticsearch(url), index))
    loop.add_signal_handler(signal.SIGTERM, writing.cancel)
    await asyncio.wait([writing])
    await consumer.stop()
    if not writing.cancelled():
        writing.result()


async def _write(consumer: AIOKafkaConsumer, client: AsyncElasticsearch, index: str) -> None:
    await consumer.start()
    async with client:
        while True:
            found = await consumer.getmany(timeout_ms=1_000, max_records=POLL_MESSAGES)
            async for _stored, _answer in async_streaming_bulk(
                client, _actions(found, index), chunk_size=CHUNK_DOCUMENTS
            ):
                pass  # it raises for a document that is not stored
            if found:
                await consumer.commit()


def _actions(found: Mapping[Any, Sequence[ConsumerRecord]], index: str) -> Iterator[dict[str, Any]]:
    for records in found.values():
        for record in records:
            yield {"_index": index, "_id": record.key.decode(), "_source": record.value}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
