"""The production worker: a Faust app that feeds the same batches as the embedded loop, one process per `tunemill streams`.

Faust 0.15.3 acknowledges a message whose handler raised or was cancelled, or that it skipped in a rebalance, and commits past
unfinished work (`tests/unit/streams/test_faust_facts.py` pins this). So its acknowledgements are off (`acks=False`,
`noack_take`, one agent at a time), and offsets are committed by us, in order, from `AckLedger`. Whatever is unforeseen ends
the process without a commit; what was in hand comes again.
"""

import asyncio
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

import faust
import structlog
from faust.types import TP

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.kafka import headers_of
from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Message
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED
from tunemill.streams.batch import Hop, parts, run_batch
from tunemill.streams.erased import ErasedLogs, follow_erasures
from tunemill.streams.feedback import follow_feedback
from tunemill.streams.ledger import AckLedger, Partition
from tunemill.streams.local import GROUP
from tunemill.streams.ports import LogIndex
from tunemill.streams.probe import serve_health
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.schema_registry import SchemaRegistry, opened_registry
from tunemill.telemetry.health import Check

EXIT_UNFORESEEN = 70  # EX_SOFTWARE of sysexits.h
BATCH_MESSAGES = 200  # each may hold many logs
BATCH_WAIT_S = 0.1
BUFFERED_MESSAGES = (
    200  # beside the batch; at 1 MiB, as the API packs them, both take 400 MiB, at the limit of 4 MiB 1.6 GiB
)
SESSION_TIMEOUT_S = 10.0  # how long the partitions of a killed worker lie idle
DRAIN_DEADLINE_S = 30.0  # for the batch in hand after SIGTERM; supervisors wait about as long
STOP_DEADLINE_S = 15.0
ERASE_EVERY_S = 1.0

Commit = Callable[[Mapping[Partition, int]], Awaitable[None]]
Work = Callable[[Sequence[Message], Commit], Awaitable[None]]

log = structlog.get_logger()


class WorkerIndex(LogIndex, Protocol):
    """What a process of its own needs of an index beside writing; `indexer.search.SearchIndex` fits it."""

    async def setup(self) -> None:
        """Make the index exist. Safe at every start."""

    async def ping(self) -> None:
        """Return if the engine answers."""

    async def close(self) -> None:
        """Let go of connections."""


def run_faust(
    kafka_url: str,
    open_log_index: Callable[[], WorkerIndex],
    rulebook: Rulebook,
    *,
    health_port: int | None,
    health_host: str = "127.0.0.1",
    group: str = GROUP,
    schema_registry_url: str | None = None,
) -> None:
    """Work until SIGTERM or SIGINT, then finish the batch in hand. Anything unforeseen exits with status 70.

    Args:
        kafka_url: `kafka://host:port[,host:port]`.
        health_port: where `/health/live`, `/health/ready` and `/metrics` are served; None: nowhere.
        health_host: the address to serve them on; in a container `0.0.0.0`, for probes come from outside.
        group: the consumer group whose offsets are ours; feedback is read by one of its own, named after it.
        schema_registry_url: where the schemas of Confluent's frames are; without it such messages are dead letters.
    """
    try:
        health = (health_host, health_port)
        asyncio.run(
            _run(
                kafka_url, open_log_index, rulebook, health=health, group=group, schema_registry_url=schema_registry_url
            )
        )
    except Exception as error:
        exit_without_commit(error)


def build_app(kafka_url: str, work: Work, *, group: str = GROUP) -> faust.App:
    """A Faust app whose one agent hands batches of messages to `work`, with the means to commit.

    Args:
        work: commits, per (topic, partition), the next offset to read; must not raise.
    """
    app = faust.App(
        group,
        broker=kafka_url,
        autodiscover=False,
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / f"{group}-{os.getpid()}",  # Faust makes it, we keep nothing there
        web_enabled=False,  # it would listen on every interface
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,  # would wait for acknowledgements that never come
        stream_buffer_maxsize=BUFFERED_MESSAGES,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=LOGS.max_message_bytes,
        broker_max_poll_records=BATCH_MESSAGES,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 4,
        processing_guarantee="at_least_once",
    )
    topic = app.topic(LOGS.name, key_serializer="raw", value_serializer="raw", acks=False)

    async def commit(offsets: Mapping[Partition, int]) -> None:
        # Partitions that were lost in the meantime are left out; their new owner does the work again.
        await app.consumer._commit_offsets({TP(*partition): offset for partition, offset in offsets.items()})

    @app.agent(topic, concurrency=1)  # type: ignore[untyped-decorator]
    async def process_logs(stream: Any) -> None:
        async for events in stream.noack_take(BATCH_MESSAGES, within=BATCH_WAIT_S):
            await work([to_message(event.message) for event in events], commit)

    return app


def to_message(message: Any) -> Message:
    """Faust's message as ours."""
    return Message(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=message.key.decode(errors="replace") if message.key is not None else None,
        value=message.value or b"",
        ts_ms=round(message.timestamp * 1000),
        headers=headers_of(message.headers),
    )


class Worker:
    """The work of one process: batches one after another, until it is told to drain."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop
        self._ledger = AckLedger()
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def work(self, messages: Sequence[Message], commit: Commit) -> None:
        """Account for these messages, then acknowledge what is finished; ends the process if that cannot be done."""
        if self._is_draining:
            return
        self._idle.clear()
        try:
            self._ledger.take(messages)
            for part in parts(messages):
                await run_batch(part, self._hop)
                self._ledger.finish(part)
                await commit(self._ledger.release())
        except Exception as error:
            exit_without_commit(error)
        finally:
            self._idle.set()

    async def drain(self) -> None:
        """Take nothing more, and wait for the batch in hand."""
        self._is_draining = True
        async with asyncio.timeout(DRAIN_DEADLINE_S):
            await self._idle.wait()


def exit_without_commit(error: BaseException) -> NoReturn:
    """Say which kind of error it was and where, and be gone: no clean-up of Faust's may commit anything.

    The error's own text stays out of the log line: it may hold text of a log.
    """
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    log.critical("worker_stopped", error=type(error).__name__, cause=type(error.__cause__).__name__, where=where)
    sys.stderr.flush()
    os._exit(EXIT_UNFORESEEN)


async def _run(
    kafka_url: str,
    open_log_index: Callable[[], WorkerIndex],
    rulebook: Rulebook,
    *,
    health: tuple[str, int | None],
    group: str,
    schema_registry_url: str | None,
) -> None:
    stop = _stop_on_signals()
    async with _opened(kafka_url, open_log_index) as (bus, index):
        await bus.create_topics([LOGS, REJECTED, ERASURES, FEEDBACK])
        async with (
            follow_erasures(bus, index) as erased,
            opened_registry(schema_registry_url) as schemas,
            serve_health(_checks(bus, index, erased, schemas), *health),
        ):
            await index.setup()
            await erased.catch_up()
            hop = Hop(index, bus, erased, rulebook, schemas)
            worker = Worker(hop)
            app = build_app(kafka_url, worker.work, group=group)
            app.finalize()
            await app.start()
            log.info("worker_started", group=group)
            feedback = follow_feedback(hop, group=f"{group}-feedback")
            async with _in_background(_keep_erasing(erased), feedback) as beside:
                await _until_stopped(app, stop, beside)
                app.consumer.stop_flow()
                await worker.drain()
            async with asyncio.timeout(STOP_DEADLINE_S):
                await app.stop()
    log.info("worker_drained")


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


@asynccontextmanager
async def _opened(kafka_url: str, open_log_index: Callable[[], WorkerIndex]) -> AsyncIterator[tuple[Bus, WorkerIndex]]:
    bus, index = open_bus(kafka_url), open_log_index()
    try:
        yield bus, index
    finally:
        await index.close()
        await bus.close()


def _checks(bus: Bus, index: WorkerIndex, erased: ErasedLogs, schemas: SchemaRegistry | None) -> dict[str, Check]:
    async def erasures_loaded() -> None:
        if not erased.is_loaded:
            raise RuntimeError("the erasure ledger is not read to its end")

    checks: dict[str, Check] = {"bus": bus.ping, "index": index.ping, "erasures": erasures_loaded}
    return checks | ({"schema_registry": schemas.ping} if schemas else {})


async def _keep_erasing(erased: ErasedLogs) -> NoReturn:
    """Apply erasures while no batch does so: one may come when no log does."""
    while True:
        with suppress(BusUnavailable):  # readiness says so, and the events are still there afterwards
            await erased.catch_up()
        await asyncio.sleep(ERASE_EVERY_S)


@asynccontextmanager
async def _in_background(*works: Coroutine[Any, Any, NoReturn]) -> AsyncIterator[list["asyncio.Task[NoReturn]"]]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # a consumer that is cancelled leaves its group first


async def _until_stopped(app: faust.App, stop: asyncio.Event, beside: Sequence["asyncio.Task[NoReturn]"]) -> None:
    """Return when a signal came.

    Raises:
        Exception: whatever the index raised when a log was erased, or feedback stored.
        RuntimeError: Faust gave up by itself; its supervisors would otherwise leave a process that reads nothing.
    """
    waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(app.wait_until_stopped())]
    await asyncio.wait([*waits, *beside], return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    for task in beside:
        if task.done():
            task.result()
    if not stop.is_set():
        raise RuntimeError("Faust stopped by itself") from app.crash_reason
