"""What people may wait for is announced in the transaction that makes it so: on the bus, and to the webhooks of the project."""

import msgspec
from sqlalchemy import Connection, insert, select

from tunemill.registry import outbox
from tunemill.registry.tables import now_ms, webhook_deliveries, webhooks
from tunemill.schemas.ids import canonical_json
from tunemill.schemas.topics import Topic


def announce(connection: Connection, project: str, topic: Topic, event: msgspec.Struct, *, event_id: str) -> None:
    """Add an event to the caller's open transaction: nobody hears of it unless that is committed.

    Raises:
        IntegrityError: an event with this id is there already.
        EventTooLarge: no bus would take it; the transaction must not be committed.
    """
    outbox.append(connection, topic, event, event_id=event_id)
    body = canonical_json({"type": topic.name, "data": event})
    _enqueue(connection, project, event_id, body, at_ms=now_ms())


def _enqueue(connection: Connection, project: str, event_id: str, body: bytes, *, at_ms: int) -> None:
    """Have an event delivered to every webhook of the project."""
    ids = connection.execute(select(webhooks.c.webhook_id).where(webhooks.c.project == project)).scalars().all()
    if ids:
        rows = [{"webhook_id": one, "event_id": event_id, "body": body, "attempts": 0, "next_ms": at_ms} for one in ids]
        connection.execute(insert(webhook_deliveries), rows)
