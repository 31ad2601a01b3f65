"""What happens to datasets is announced in the transaction that makes it so: on the bus, and to the webhooks of the project."""

import msgspec
from sqlalchemy import Connection

from tunemill.curator_api import webhook_store
from tunemill.registry import outbox
from tunemill.registry.tables import now_ms
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
    webhook_store.enqueue(connection, project, event_id, body, at_ms=now_ms())
