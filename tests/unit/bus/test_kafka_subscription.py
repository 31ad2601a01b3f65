"""What a Kafka reader says while the broker does not tell it everything."""

import pytest
from aiokafka import AIOKafkaConsumer

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.kafka import KafkaBus, KafkaSubscription


async def test_a_reader_of_all_partitions_that_knows_of_none_does_not_say_that_nothing_is_left() -> None:
    """aiokafka forgets a topic that the metadata of a broker that comes back leave out; the erasure ledger must not trust that."""
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1", group_id=None)  # not started: nothing is assigned
    try:
        with pytest.raises(BusUnavailable, match="which partitions"):
            await KafkaSubscription(KafkaBus("127.0.0.1:1"), consumer, None).lag()
    finally:
        await consumer.stop()
