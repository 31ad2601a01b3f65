"""The transactional outbox: an event is a row of the transaction that makes it true, and a relay publishes it afterwards.

A crash at any step leaves either nothing, or a row that will be sent. It may be sent twice; consumers know its id.
"""

import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy import Connection, Engine, insert, select, update

from tunemill.registry.tables import outbox
from tunemill.schemas import wire
from tunemill.schemas.topics import TOPICS, Topic

Publish = Callable[[Topic, str, bytes], Awaitable[None]]  # topic, key, value; durable when it returns

_TOPICS = {topic.name: topic for topic in TOPICS}


def append(connection: Connection, topic: Topic, record: msgspec.Struct, *, event_id: str) -> None:
    """Add an event to the caller's open transaction."""
    connection.execute(
        insert(outbox).values(
            event_id=event_id,
            topic=topic.name,
            key=str(getattr(record, topic.key)),
            value=wire.encode(record),
            created_ms=time.time_ns() // 1_000_000,
        )
    )


def pending(engine: Engine, topics: Sequence[Topic]) -> int:
    """How many events of these topics wait to be published."""
    with engine.connect() as connection:
        return len(connection.execute(_unsent(topics, limit=10_000)).all())


async def relay(engine: Engine, topics: Sequence[Topic], publish: Publish, *, limit: int = 100) -> int:
    """Publish what waits, oldest first, and say how many were sent.

    1. read unsent rows in order; 2. publish one and wait until it is durable; 3. mark it sent. A crash between 2 and 3
    sends it again. Raises what `publish` raises; the rest then stays unsent.
    """
    with engine.connect() as connection:
        rows = connection.execute(_unsent(topics, limit=limit)).all()
    for row in rows:
        await publish(_TOPICS[row.topic], row.key, row.value)
        with engine.begin() as connection:
            now_ms = time.time_ns() // 1_000_000
            connection.execute(update(outbox).where(outbox.c.seq == row.seq).values(sent_ms=now_ms))
    return len(rows)


def _unsent(topics: Sequence[Topic], *, limit: int):  # type: ignore[no-untyped-def]  # SQLAlchemy's Select is generic in its columns
    names = [topic.name for topic in topics]
    return (
        select(outbox).where(outbox.c.sent_ms.is_(None), outbox.c.topic.in_(names)).order_by(outbox.c.seq).limit(limit)
    )
