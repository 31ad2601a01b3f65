"""The production worker: a Faust app that feeds the same flow as the embedded loop, one process per `tunemill streams`.

Faust 0.15.3 acknowledges a message whose handler raised or was cancelled, or that it skipped in a rebalance, and commits past
unfinished work (`tests/unit/streams/test_faust_facts.py` pins this). So its acknowledgements are off (`acks=False`, `noack`, one
agent at a time), and offsets are committed by us, in order, from what the flow has finished. Whatever is unforeseen ends the process
without a commit; what was in hand comes again.
"""

import asyncio
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

import faust
import structlog
from aiokafka.errors import IllegalStateError
from faust.types import TP

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.kafka import message_of
from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED
from tunemill.streams.batch import Hop
from tunemill.streams.erased import ErasedLogs, follow_erasures
from tunemill.streams.feedback import follow_feedback
from tunemill.streams.fetch import FetchTransport
from tunemill.streams.flow import Flow
from tunemill.streams.garbage import collected_seldom
from tunemill.streams.ledger import Partition
from tunemill.streams.liveness import STALL_S, Liveness, index_retries, watched
from tunemill.streams.local import GROUP
from tunemill.streams.ports import LogIndex
from tunemill.streams.probe import serve_health
from tunemill.streams.rulebook import Rulebook, follow_rules
from tunemill.streams.schema_registry import SchemaRegistry, opened_registry
from tunemill.telemetry import metrics
from tunemill.telemetry.health import Check

EXIT_UNFORESEEN = 70  # EX_SOFTWARE of sysexits.h
FETCH_MESSAGES = 2000
FETCH_BYTES = 2**20  # of a partition, compressed; a larger message comes alone
FETCHES_BUFFERED = 1  # beside what the flow has in hand, and what waits to be put into this buffer
SESSION_TIMEOUT_S = 10.0  # how long the partitions of a killed worker lie idle
POLL_AT_LEAST_EVERY_S = (
    10 * 365 * 86_400.0
)  # never: an outage of the index is no reason to leave the group; see `liveness.py`
SETTLE_DEADLINE_S = 5.0  # for the parts begun when a rebalance takes the partitions; shorter than the session
DRAIN_DEADLINE_S = 30.0  # for the parts begun after SIGTERM; supervisors wait about as long
STOP_DEADLINE_S = 15.0
ERASE_EVERY_S = 1.0
LOOK_EVERY_S = 5.0

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
    stall_s: float = STALL_S,
    drain_s: float = DRAIN_DEADLINE_S,
) -> None:
    """Work until SIGTERM or SIGINT, then finish the parts begun. Anything unforeseen exits with status 70.

    Args:
        kafka_url: `kafka://host:port[,host:port]`.
        health_port: where `/health/live`, `/health/ready` and `/metrics` are served; None: nowhere.
        health_host: the address to serve them on; in a container `0.0.0.0`, for probes come from outside.
        group: the consumer group whose offsets are ours; feedback is read by one of its own, named after it.
        schema_registry_url: where the schemas of Confluent's frames are; without it such messages are dead letters.
        stall_s: how long there may be work while nothing moves.
        drain_s: how long the parts begun may take after the signal; then they come again elsewhere.
    """
    try:
        with collected_seldom():
            asyncio.run(
                _run(
                    kafka_url,
                    open_log_index,
                    rulebook,
                    health=(health_host, health_port),
                    group=group,
                    schema_registry_url=schema_registry_url,
                    liveness=Liveness(stall_s),
                    drain_s=drain_s,
                )
            )
    except Exception as error:
        exit_without_commit(error)


def build_app(kafka_url: str, *, group: str = GROUP) -> faust.App:
    """A Faust app that reads the logs and acknowledges nothing; it has no agent yet."""
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
        stream_buffer_maxsize=FETCHES_BUFFERED,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        broker_max_poll_records=FETCH_MESSAGES,
        broker_max_poll_interval=POLL_AT_LEAST_EVERY_S,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 4,
        processing_guarantee="at_least_once",
    )
    app.finalize()
    app.transport = FetchTransport(app.conf.broker_consumer, app)
    return app


def feed(app: faust.App, flow: Flow) -> None:
    """Let the app's one agent hand the flow whatever is fetched, and a rebalance settle it."""
    topic = app.topic(LOGS.name, key_serializer="raw", value_serializer="raw", acks=False)

    @app.agent(topic, concurrency=1)  # type: ignore[untyped-decorator]
    async def take_logs(stream: Any) -> None:
        try:
            async for records in stream.noack():
                await flow.take([message_of(record) for record in records])
        except BaseException as error:  # Faust would go on behind these messages, also if this was cancelled
            if app.should_stop:
                raise
            exit_without_commit(error)

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def settle(*_: Any, **__: Any) -> None:
        try:
            async with asyncio.timeout(SETTLE_DEADLINE_S):
                await flow.settle()
        except TimeoutError:  # what was begun is finished by us, too, and harmless: ids make it a duplicate
            log.warning("partitions_given_up_unsettled")


async def commit(app: faust.App, offsets: Mapping[Partition, int]) -> None:
    """Commit, per (topic, partition), the next offset to read.

    Partitions that were lost in the meantime are left out; their new owner does the work again.
    """
    await app.consumer._commit_offsets({TP(*partition): offset for partition, offset in offsets.items()})


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
    liveness: Liveness,
    drain_s: float,
) -> None:
    stop = _stop_on_signals()
    async with _opened(kafka_url, open_log_index) as (bus, index):
        await bus.create_topics([LOGS, REJECTED, ERASURES, FEEDBACK])
        async with (
            follow_rules(rulebook),
            follow_erasures(bus, index) as erased,
            opened_registry(schema_registry_url) as schemas,
            serve_health(_checks(bus, index, erased, schemas), liveness.check, *health),
        ):
            await index.setup()
            await erased.catch_up()
            hop = Hop(index, bus, erased, rulebook, schemas)
            app = build_app(kafka_url, group=group)
            flow = Flow(hop, partial(commit, app))
            feed(app, flow)
            await app.start()
            log.info("worker_started", group=group)
            feedback = follow_feedback(hop, group=f"{group}-feedback")
            looking = keep_looking(liveness, app, bus, flow)
            async with _in_background(_until_it_fails(flow), _keep_erasing(erased), feedback, looking) as beside:
                with watched(liveness, exit_without_commit):
                    await _until_stopped(app, stop, beside)
                    app.consumer.stop_flow()
                    async with asyncio.timeout(drain_s):
                        await flow.close()
            async with asyncio.timeout(STOP_DEADLINE_S):
                await app.stop()
    log.info("worker_drained")


async def _until_it_fails(flow: Flow) -> NoReturn:
    """The flow's work. What it cannot go on after ends the process here: any clean-up would only take time."""
    try:
        await flow.run()
    except Exception as error:
        exit_without_commit(error)
    raise AssertionError("the flow works until it is cancelled")


async def keep_looking(liveness: Liveness, app: faust.App, bus: Bus, flow: Flow) -> NoReturn:
    """See again and again whether something moves while there is work."""
    outages = 0
    while True:
        lag = None
        try:
            lag = await _lag(app, bus)
            metrics.LAG.set(lag)
        except BusUnavailable:
            outages += 1
        except (TimeoutError, IllegalStateError):
            log.info("place_unknown")  # the consumer does not say where it is, or a rebalance is taking its partitions
        has_work = lag != 0 or app.rebalancing or not flow.is_empty
        liveness.look(moves=flow.moves + index_retries() + outages, has_work=has_work)
        await asyncio.sleep(LOOK_EVERY_S)


async def _lag(app: faust.App, bus: Bus) -> int:
    """How many messages of our partitions are not fetched yet, by what the broker says on another connection."""
    ours = {(place.topic, place.partition): place for place in app.consumer.assignment()}
    ends = await bus.end_offsets(ours or {(LOGS.name, 0)})  # asked in any case: an outage should be seen
    async with asyncio.timeout(LOOK_EVERY_S):
        return sum([max(0, ends[place] - await app.consumer.position(partition)) for place, partition in ours.items()])


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
    """Apply erasures while no part does so: one may come when no log does."""
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
