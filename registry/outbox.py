"""The transactional outbox: an event is a row of the transaction that makes it true, and a relay publishes it afterwards.

A crash at any step leaves either nothing, or a row that will be sent. It may be sent twice; consumers know its id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from tunemill.registry.tables import now_ms, outbox
from tunemill.schemas import wire
from tunemill.schemas.topics import TOPICS, Topic

Publish = Callable[[Topic, str, bytes], Awaitable[None]]  # topic, key, value; durable when it returns

_TOPICS = {topic.name: topic for topic in TOPICS}


class EventTooLarge(Exception):
    """The topic would never take this event, and it would stand in the way of all that come after it."""


def append(connection: Connection, topic: Topic, record: msgspec.Struct, *, event_id: str) -> None:
    """Add an event to the caller's open transaction.

    Raises:
        IntegrityError: an event with this id is there already.
        EventTooLarge: no bus would take it; the transaction must not be committed.
    """
    key, value = str(getattr(record, topic.key)), wire.encode(record)
    if len(key.encode()) + len(value) > topic.max_message_bytes:
        raise EventTooLarge(f"an event for {topic.name} has {len(value)} bytes; it takes {topic.max_message_bytes}")
    connection.execute(
        insert(outbox).values(event_id=event_id, topic=topic.name, key=key, value=value, created_ms=now_ms())
    )


def pending(engine: Engine, topics: Sequence[Topic]) -> int:
    """How many events of these topics wait to be published."""
    waiting = select(func.count()).where(outbox.c.sent_ms.is_(None), outbox.c.topic.in_(_names(topics)))
    with engine.connect() as connection:
        return connection.execute(waiting).scalar_one()


async def relay(engine: Engine, topics: Sequence[Topic], publish: Publish, *, limit: int = 100) -> int:
    """Publish what waits, oldest first, and say how many were sent.

    1. read unsent rows in order; 2. publish one and wait until it is durable; 3. mark it sent. A crash between 2 and 3
    sends it again. Raises what `publish` raises; the rest then stays unsent.
    """
    rows = await asyncio.to_thread(_unsent, engine, topics, limit)
    for row in rows:
        await publish(_TOPICS[row.topic], row.key, row.value)
        await asyncio.to_thread(_mark_sent, engine, row.seq)
    return len(rows)


def _unsent(engine: Engine, topics: Sequence[Topic], limit: int) -> Sequence[Row[*tuple[object, ...]]]:
    unsent = select(outbox).where(outbox.c.sent_ms.is_(None), outbox.c.topic.in_(_names(topics)))
    with engine.connect() as connection:
        return connection.execute(unsent.order_by(outbox.c.seq).limit(limit)).all()


def _mark_sent(engine: Engine, seq: int) -> None:
    with engine.begin() as connection:
        connection.execute(update(outbox).where(outbox.c.seq == seq).values(sent_ms=now_ms()))


def _names(topics: Sequence[Topic]) -> list[str]:
    return [topic.name for topic in topics]
