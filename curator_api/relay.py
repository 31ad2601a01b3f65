"""The outbox's relay as a task beside the API: what was committed reaches the bus, now or when the bus is back."""

import asyncio
import contextlib

import structlog
from sqlalchemy import Engine

from tunemill.bus.port import Bus, Outgoing
from tunemill.registry import outbox
from tunemill.schemas.topics import DATASETS_READY, DATASETS_REDACTED, ERASURES, Topic
from tunemill.telemetry.metrics import OUTBOX_PENDING

TOPICS = (DATASETS_READY, DATASETS_REDACTED, ERASURES)  # the events of this service; the trainer relays its own
LOOK_EVERY_S = 0.5  # a published version waits so long at most
LONGEST_WAIT_S = 30.0  # between attempts while something is away

_log = structlog.get_logger()


async def relay_until(stop: asyncio.Event, engine: Engine, bus: Bus) -> None:
    """Relay until told to stop. Whatever fails is tried again, later each time."""

    async def publish(topic: Topic, key: str, value: bytes) -> None:
        await bus.publish(topic, [Outgoing(value=value, key=key)])

    wait_s = LOOK_EVERY_S
    while not stop.is_set():
        try:
            sent = await outbox.relay(engine, TOPICS, publish)
            OUTBOX_PENDING.set(await asyncio.to_thread(outbox.pending, engine, TOPICS))
            wait_s = LOOK_EVERY_S
            if sent:  # more may wait than one look takes: an erasure of many logs waits for its events
                continue
        except Exception as error:  # the bus or the database is away: the events wait in the outbox
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            _log.warning("outbox_relay_failed", error=type(error).__name__, again_in_s=wait_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)
