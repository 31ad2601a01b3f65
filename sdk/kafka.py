"""Packs -> the topic `llm.logs`, acknowledged by all replicas, on an event loop of the producer's own thread.

The loop runs only while something is sent. aiokafka compresses on its loop, which is why it may not be the application's.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from tunemill.schemas.topics import LOGS
from tunemill.sdk.errors import SendError, TooLarge, Unavailable
from tunemill.sdk.pack import Pack

_BATCH_BYTES = 2**20  # at aiokafka's 16 KiB zstd would see a few logs at a time and find little to compress
_REQUEST_TIMEOUT_MS = 15_000
_STOP_S = 1.0  # closing sends nothing that matters: every send was waited for

_T = TypeVar("_T")


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that looks names up in its own thread: no other can be started while the interpreter shuts down."""

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        return socket.getaddrinfo(host, port, **hints)


class KafkaSender:
    """Sends with an idempotent producer: its own retries neither double nor reorder."""

    def __init__(self, hosts: str) -> None:
        self._hosts = hosts
        self._runner = asyncio.Runner(loop_factory=_Loop)
        self._producer: AIOKafkaProducer | None = None
        self._partitions: list[int] = []
        self._abandoned = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def connect(self) -> None:
        """Find the brokers and the topic's partitions, unless connected."""
        if self._producer is None:
            self._runner.run(self._start())

    def lane(self, key: str) -> int:
        """The partition that Kafka's default partitioner gives this key."""
        return int(DefaultPartitioner()(key.encode(), self._partitions, self._partitions))

    def send(self, packs: Sequence[Pack]) -> Sequence[SendError | None]:
        """Hand every pack to aiokafka, then wait for all. After a failure the next `connect` starts afresh."""
        results = self._runner.run(self._send(packs))
        if any(results):
            self._runner.run(self._stop())
        return results

    def abandon(self) -> None:
        """Wake the loop's thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._abandoned.set)

    def close(self) -> None:
        """Close connections and loop."""
        self._runner.run(self._stop())
        self._runner.close()

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._hosts.split(","),
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=_BATCH_BYTES,
            max_request_size=LOGS.max_message_bytes,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        try:
            await self._or_abandoned(self._producer.start())
            self._partitions = await self._or_abandoned(self._topic_partitions(self._producer))
        except (KafkaError, OSError) as error:
            await self._stop()
            raise Unavailable(f"Kafka cannot be reached ({type(error).__name__})") from error
        except Unavailable:
            await self._stop()
            raise

    async def _topic_partitions(self, producer: AIOKafkaProducer) -> list[int]:
        """Asked once: aiokafka's own waiting for a topic logs an error ten times a second while there is none."""
        metadata = await producer.client.fetch_all_metadata()
        partitions = metadata.partitions_for_topic(LOGS.name)
        if not partitions:
            raise Unavailable(f"Kafka has no topic {LOGS.name}: create it with `tunemill setup`")
        return sorted(partitions)

    async def _stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            await asyncio.wait_for(producer.stop(), _STOP_S)
        except (KafkaError, OSError, TimeoutError):
            # A broker that is silent keeps it from its last step.
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(producer.client.close(), _STOP_S)

    async def _send(self, packs: Sequence[Pack]) -> list[SendError | None]:
        """Hand over one after the other, which keeps each partition's order; then wait for all of them."""
        handed = [await self._outcome(self._hand_over(pack)) for pack in packs]
        return [given if isinstance(given, SendError) else await self._settled(given) for given in handed]

    async def _hand_over(self, pack: Pack) -> asyncio.Future[Any]:
        if self._producer is None:
            raise Unavailable("not connected")
        delivery: asyncio.Future[Any] = await self._producer.send(
            LOGS.name, pack.value, key=pack.key.encode(), partition=pack.lane
        )
        return delivery

    async def _settled(self, delivery: asyncio.Future[Any]) -> SendError | None:
        outcome = await self._outcome(delivery)
        return outcome if isinstance(outcome, SendError) else None

    async def _outcome(self, work: Awaitable[_T]) -> _T | SendError:
        try:
            return await self._or_abandoned(work)
        except (MessageSizeTooLargeError, RecordListTooLargeError):
            return TooLarge(f"the topic {LOGS.name} takes no message of this size")
        except SendError as error:
            return error
        except (KafkaError, OSError) as error:
            return Unavailable(f"Kafka did not take a message ({type(error).__name__})")

    async def _or_abandoned(self, work: Awaitable[_T]) -> _T:
        """The work's result, unless `abandon` is called first."""
        task = asyncio.ensure_future(work)
        abandoned = asyncio.ensure_future(self._abandoned.wait())
        await asyncio.wait({task, abandoned}, return_when=asyncio.FIRST_COMPLETED)
        abandoned.cancel()
        if not task.done():
            task.cancel()
            raise Unavailable("given up at close")
        return task.result()
