"""The engine for production: Kafka, through aiokafka."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import groupby
from operator import itemgetter

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from tunemill.bus.errors import BusUnavailable, MessageTooLarge
from tunemill.bus.limits import check_sizes
from tunemill.bus.port import Message, Outgoing
from tunemill.schemas.topics import Topic

REQUEST_TIMEOUT_MS = 15_000
PING_TIMEOUT_MS = 5_000
DEADLINE_S = 30.0  # aiokafka tries a publish or a commit again for ever; a caller must hear of an outage
STOP_DEADLINE_S = 10.0
LINGER_MS = 5
FETCH_WAIT_MS = (
    500  # how long the broker holds a fetch that finds nothing: each costs a reader that waits a millisecond
)
LOOK_WAIT_MS = 50  # the same for a reader that only looks: what else it asks waits behind the fetch
LARGEST_REQUEST_BYTES = 64 * 2**20  # the producer's own limit is out of the way: each topic has its own
MAX_BATCH_BYTES = 2**20  # small messages travel together up to this size; larger ones alone
BATCH_OVERHEAD_BYTES = 64 * 2**10  # what Kafka wraps around a batch, and what zstd adds to bytes that do not shrink
REPLICAS = 3  # or as many as there are brokers


class KafkaBus:
    """A `Bus` on a Kafka cluster. Connects when it is first used."""

    def __init__(self, servers: str) -> None:
        self._servers = servers  # host:port[,host:port...]
        self._producer: AIOKafkaProducer | None = None
        self._onlooker: AIOKafkaConsumer | None = None  # subscribes to nothing: no fetch holds what it asks
        self._starting = asyncio.Lock()

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create those that do not exist, on up to three replicas."""
        async with self._answering(), self._admin(REQUEST_TIMEOUT_MS) as admin:
            replicas = min(REPLICAS, len((await admin.describe_cluster())["brokers"]))
            reply = await admin.create_topics([_new_topic(topic, replicas) for topic in topics])
        for name, code, reason in reply.topic_errors:
            if (error := for_code(code)) not in (NoError, TopicAlreadyExistsError):
                raise BusUnavailable(f"Kafka did not create {name}: {error.__name__} {reason or ''}")

    async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
        """Send, and wait until every replica in sync has each message."""
        check_sizes(topic, messages)
        producer = await self._started_producer()
        try:
            async with self._answering():
                await _send(producer, topic.name, messages)
        except BusUnavailable as failure:
            if isinstance(failure.__cause__, KafkaError) and not isinstance(failure.__cause__, KafkaTimeoutError):
                await self._drop(producer)
            raise

    @asynccontextmanager
    async def subscribe(self, topics: Sequence[Topic], *, group: str | None) -> AsyncIterator["KafkaSubscription"]:
        """Join the group and read the partitions that it gives us; without a group, all of them."""
        async with self._reader(topics, group, FETCH_WAIT_MS) as subscription:
            yield subscription

    @asynccontextmanager
    async def _reader(
        self, topics: Sequence[Topic], group: str | None, fetch_wait_ms: int
    ) -> AsyncIterator["KafkaSubscription"]:
        consumer = AIOKafkaConsumer(
            *(topic.name for topic in topics),
            bootstrap_servers=self._servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=max(_max_batch_bytes(topic) for topic in topics),
            fetch_max_wait_ms=fetch_wait_ms,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            async with self._answering():
                await consumer.start()
            yield KafkaSubscription(self, consumer, group)
        finally:
            await _stopped(consumer.stop())
            await _stopped(consumer._client.close())  # during an outage `stop` may end before it has come to this

    async def tail(self, topic: Topic, *, limit: int) -> Sequence[Message]:
        """The newest messages of all partitions, newest first."""
        async with self._reader([topic], None, LOOK_WAIT_MS) as subscription, self._answering():
            found = await _last(subscription.consumer, limit)
        return sorted(found, key=lambda message: (message.ts_ms, message.offset), reverse=True)[:limit]

    async def read(self, topic: Topic, places: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], Message]:
        """The messages at these places; those that are not there, or were compacted away, are left out."""
        if not places:
            return {}
        async with self._reader([topic], None, LOOK_WAIT_MS) as subscription, self._answering():
            consumer = subscription.consumer
            starts = await consumer.beginning_offsets(consumer.assignment())
            ends = await consumer.end_offsets(consumer.assignment())
            wanted = [(TopicPartition(topic.name, partition), offset) for partition, offset in sorted(places)]
            held = [(at, offset) for at, offset in wanted if starts.get(at, 0) <= offset < ends.get(at, 0)]
            if held:
                consumer.unsubscribe()  # only to assign others: one without any partition does not stop before its deadline
            found = []
            for at, some in groupby(held, key=itemgetter(0)):
                consumer.assign([at])  # alone: what is fetched of one partition holds up what is sought in another
                found += [await _at(consumer, at, offset) for _, offset in some]
        return {(message.partition, message.offset): message for message in found if message is not None}

    async def end_offsets(self, places: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """The offset that the next message of each (topic, partition) will get, asked on a connection of its own."""
        if not places:
            return {}
        async with self._answering():
            onlooker = await self._started_onlooker()
            ends = await onlooker.end_offsets([TopicPartition(*place) for place in places])
        return {(place.topic, place.partition): end for place, end in ends.items()}

    async def scrub(self, topic: Topic, changed: Mapping[tuple[int, int], bytes]) -> int | None:
        """Of a compacted topic, messages that become empty: a tombstone follows each, and compaction takes it. Of others: cannot."""
        if not topic.compacted or any(changed.values()):
            return None
        found = await self.read(topic, changed)
        keys = sorted({message.key for message in found.values() if message.key is not None and message.value})
        if keys:
            producer = await self._started_producer()
            async with self._answering():
                await asyncio.gather(*[await producer.send(topic.name, None, key=key.encode()) for key in keys])
        return len(keys)

    async def expunge(self) -> None:
        """Nothing to do: Kafka overwrites nothing."""

    async def kept_until_ms(self, topic: Topic) -> int | None:
        """The retention from now, and the time that a segment may take until it is closed; of a compacted topic: nobody knows."""
        if topic.compacted:
            return None
        async with self._answering(), self._admin(REQUEST_TIMEOUT_MS) as admin:
            replies = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])
        settings = {entry[0]: entry[1] for reply in replies for found in reply.resources for entry in found[4]}
        kept_ms, segment_ms = int(settings.get("retention.ms", -1)), int(settings.get("segment.ms", 0))
        return None if kept_ms < 0 else time.time_ns() // 1_000_000 + kept_ms + segment_ms

    async def ping(self) -> None:
        """Return if the cluster describes itself."""
        async with self._answering(), self._admin(PING_TIMEOUT_MS) as admin:
            await admin.describe_cluster()

    async def close(self) -> None:
        """Send what is under way, then disconnect."""
        if self._producer is not None:
            await self._drop(self._producer)
        if self._onlooker is not None:
            await _stopped(self._onlooker.stop())
            self._onlooker = None

    async def _started_producer(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._servers,
                    acks="all",
                    enable_idempotence=True,
                    compression_type="zstd",
                    linger_ms=LINGER_MS,
                    max_batch_size=MAX_BATCH_BYTES,
                    max_request_size=LARGEST_REQUEST_BYTES,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                )
                try:
                    async with self._answering():
                        await producer.start()
                except BaseException:
                    await _stopped(producer.stop())
                    raise
                self._producer = producer
            return self._producer

    async def _started_onlooker(self) -> AIOKafkaConsumer:
        async with self._starting:
            if self._onlooker is None:
                onlooker = AIOKafkaConsumer(
                    bootstrap_servers=self._servers,
                    isolation_level="read_committed",
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                )
                try:
                    await onlooker.start()
                except BaseException:
                    await _stopped(onlooker.stop())
                    raise
                self._onlooker = onlooker
            return self._onlooker

    async def _drop(self, producer: AIOKafkaProducer) -> None:
        """Stop this producer; the next publish makes a new one.

        One whose batch was refused has a hole in its sequence numbers, and the broker would refuse what follows.
        """
        if self._producer is producer:
            self._producer = None
        await _stopped(producer.flush())
        # Of what could not be sent, publish has said so; `stop` would wait for it for ever.
        producer._message_accumulator.fail_all(KafkaTimeoutError())
        await _stopped(producer.stop())

    @asynccontextmanager
    async def _admin(self, timeout_ms: int) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers, request_timeout_ms=timeout_ms)
        try:
            await admin.start()
            yield admin
        finally:
            await _stopped(admin.close())

    @asynccontextmanager
    async def _answering(self, deadline_s: float = DEADLINE_S) -> AsyncIterator[None]:
        """Kafka's errors, and no answer before the deadline, as the bus's errors."""
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except MessageSizeTooLargeError as error:
            raise MessageTooLarge("Kafka's own limit is lower than the topic's: raise max.message.bytes") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise BusUnavailable(f"Kafka at {self._servers} did not serve: {type(error).__name__} {error}") from error


class KafkaSubscription:
    """A consumer's place in its partitions."""

    def __init__(self, bus: KafkaBus, consumer: AIOKafkaConsumer, group: str | None) -> None:
        self._bus = bus
        self.consumer = consumer
        self._group = group

    async def poll(self, *, max_messages: int, timeout_s: float) -> Sequence[Message]:
        """The next messages, as soon as there is one. While the broker is away there are none."""
        async with self._bus._answering(timeout_s + DEADLINE_S):
            batches = await self.consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=max_messages)
        return [message_of(record) for records in batches.values() for record in records]

    async def commit(self, next_offsets: Mapping[tuple[str, int], int]) -> None:
        """Remember the group's places; fails after a rebalance took a partition away, and then they come again elsewhere."""
        if self._group is None:
            raise ValueError("a reader without a group has no place to commit")
        async with self._bus._answering():
            await self.consumer.commit({TopicPartition(*place): offset for place, offset in next_offsets.items()})

    async def lag(self) -> int:
        """How many messages of the partitions that are ours are not polled yet."""
        partitions = self.consumer.assignment()
        if (
            self._group is None and not partitions
        ):  # forgotten while the broker comes back: "nothing left" would be untrue
            raise BusUnavailable(f"Kafka at {self._bus._servers} does not say which partitions there are")
        ends = await self._bus.end_offsets({(partition.topic, partition.partition) for partition in partitions})
        async with self._bus._answering():
            return sum(
                [
                    ends[partition.topic, partition.partition] - await self.consumer.position(partition)
                    for partition in partitions
                ]
            )


def _new_topic(topic: Topic, replicas: int) -> NewTopic:
    settings = {
        "max.message.bytes": str(_max_batch_bytes(topic)),
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "min.insync.replicas": str(max(1, replicas - 1)),  # acks=all then means more than one copy
    }
    return NewTopic(topic.name, topic.partitions, replicas, topic_configs=settings)


def _max_batch_bytes(topic: Topic) -> int:
    return max(topic.max_message_bytes, MAX_BATCH_BYTES) + BATCH_OVERHEAD_BYTES


async def _stopped(stop: Coroutine[object, object, None]) -> None:
    """Wait for a client to stop. While the broker is away that may hang, fail, or end as if it had been cancelled."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(stop, return_exceptions=True), STOP_DEADLINE_S)


async def _send(producer: AIOKafkaProducer, topic: str, messages: Sequence[Outgoing]) -> None:
    sent = [
        await producer.send(
            topic,
            message.value,
            key=message.key.encode() if message.key is not None else None,
            headers=[(name, value.encode()) for name, value in message.headers.items()],
        )
        for message in messages
    ]
    await asyncio.gather(*sent)


async def _last(consumer: AIOKafkaConsumer, limit: int) -> list[Message]:
    """The last `limit` messages of each partition."""
    ends = await consumer.end_offsets(consumer.assignment())
    starts = await consumer.beginning_offsets(consumer.assignment())
    for partition, end in ends.items():
        consumer.seek(partition, max(starts[partition], end - limit))
    found: list[Message] = []
    while [p for p, end in ends.items() if await consumer.position(p) < end]:
        batches = await consumer.getmany(timeout_ms=200)
        found += [message_of(record) for records in batches.values() for record in records]
    return found


async def _at(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> Message | None:
    """The message at an offset before the partition's end; None if it was compacted away."""
    if await consumer.position(place) != offset:  # else it is the next of what was fetched ahead
        consumer.seek(place, offset)
    while await consumer.position(place) <= offset:
        for records in (await consumer.getmany(place, timeout_ms=200, max_records=1)).values():
            if records[0].offset == offset:
                return message_of(records[0])
    return None


def _headers(sent: Sequence[tuple[str, bytes | None]] | None) -> Mapping[str, str]:
    """A record's headers as text; of two with one name the last."""
    return {name: (value or b"").decode(errors="replace") for name, value in sent} if sent else {}


def message_of(record: "ConsumerRecord[bytes, bytes]") -> Message:
    """Kafka's record as a message."""
    return Message(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key.decode(errors="replace") if record.key is not None else None,
        value=record.value or b"",
        ts_ms=record.timestamp,
        headers=_headers(record.headers),
    )
