"""Webhooks and their deliveries in the registry.

A delivery is a row of the transaction that its event is a row of (`registry.announce`). Whoever sends it moves its next attempt
away first, so that of several servers one sends it; one that dies meanwhile leaves it to be sent again. Functions here block.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine, Row, and_, case, delete, func, insert, select, update

from tunemill.curator_api.webhook_sign import new_secret
from tunemill.registry import audit_trail
from tunemill.registry.tables import now_ms, webhook_deliveries, webhooks
from tunemill.schemas.ids import new_id

WAITS_MS = (5_000, 30_000, 120_000, 600_000, 3_600_000, 21_600_000)  # after the first failure, the second, ...
CLAIM_MS = 60_000  # far longer than one attempt may take


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An address that hears of every event, and how that goes."""

    webhook_id: str
    url: str
    by: str
    created_ms: int
    sent: int = 0
    waiting: int = 0
    given_up: int = 0
    last_error: str | None = None  # of a delivery that is not sent


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is due at an address."""

    webhook_id: str
    event_id: str
    url: str
    secret: str
    body: bytes
    attempts: int  # that were made before


def add(engine: Engine, project: str, url: str, *, by: str) -> tuple[Webhook, str]:
    """Send every event from now on to this address, with an audit line; gives the secret, which is never shown again."""
    secret = new_secret()
    made = Webhook(webhook_id=new_id(), url=url, by=by, created_ms=now_ms())
    with engine.begin() as connection:
        values = {"webhook_id": made.webhook_id, "project": project, "url": url, "secret": secret, "by": by}
        connection.execute(insert(webhooks).values(values | {"created_ms": made.created_ms}))
        audit_trail.append(connection, project, "webhook.add", made.webhook_id, by=by)
    return made, secret


def remove(engine: Engine, project: str, webhook_id: str, *, by: str) -> bool:
    """Send no more to an address, also nothing that waits, with an audit line; whether it was there."""
    mine = and_(webhooks.c.project == project, webhooks.c.webhook_id == webhook_id)
    with engine.begin() as connection:
        if not connection.execute(delete(webhooks).where(mine)).rowcount:
            return False
        connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook_id == webhook_id))
        audit_trail.append(connection, project, "webhook.remove", webhook_id, by=by)
    return True


def find_all(engine: Engine, project: str) -> list[Webhook]:
    """The project's webhooks, the oldest first, with the number of their deliveries."""
    told = webhook_deliveries.c
    is_sent, is_waiting = told.sent_ms.is_not(None), told.next_ms.is_not(None)
    counts = (
        select(
            told.webhook_id,
            func.sum(case((is_sent, 1), else_=0)).label("sent"),
            func.sum(case((is_waiting, 1), else_=0)).label("waiting"),
            func.sum(case((is_sent | is_waiting, 0), else_=1)).label("given_up"),
            func.max(case((is_sent, None), else_=told.last_error)).label("last_error"),
        )
        .group_by(told.webhook_id)
        .subquery()
    )
    joined = select(webhooks, counts.c.sent, counts.c.waiting, counts.c.given_up, counts.c.last_error).outerjoin(
        counts, counts.c.webhook_id == webhooks.c.webhook_id
    )
    mine = joined.where(webhooks.c.project == project).order_by(webhooks.c.created_ms, webhooks.c.webhook_id)
    with engine.connect() as connection:
        return [_webhook(row) for row in connection.execute(mine)]


def claim(engine: Engine, *, at_ms: int, limit: int) -> list[Delivery]:
    """The deliveries that are due and that nobody else has claimed, the longest due first."""
    told = webhook_deliveries.c
    due = (
        select(webhook_deliveries, webhooks.c.url, webhooks.c.secret)
        .join(webhooks, webhooks.c.webhook_id == told.webhook_id)
        .where(told.next_ms <= at_ms)
        .order_by(told.next_ms)
        .limit(limit)
    )
    claimed: list[Delivery] = []
    with engine.begin() as connection:
        for row in connection.execute(due).all():
            as_seen = and_(_is(row.webhook_id, row.event_id), told.next_ms == row.next_ms)
            moved = update(webhook_deliveries).where(as_seen).values(next_ms=at_ms + CLAIM_MS)
            if connection.execute(moved).rowcount:
                values = {name: row._mapping[name] for name in Delivery.__struct_fields__}
                claimed.append(Delivery(**values))
    return claimed


def sent(engine: Engine, one: Delivery, *, at_ms: int) -> None:
    """It arrived."""
    values = {"sent_ms": at_ms, "next_ms": None, "attempts": one.attempts + 1, "last_error": None}
    with engine.begin() as connection:
        connection.execute(update(webhook_deliveries).where(_is(one.webhook_id, one.event_id)).values(values))


def failed(engine: Engine, one: Delivery, error: str, *, at_ms: int) -> bool:
    """It did not arrive, unless somebody took over after our claim ended and it did; whether it is given up: nobody tries again."""
    is_last = one.attempts >= len(WAITS_MS)
    next_ms = None if is_last else at_ms + WAITS_MS[one.attempts]
    values = {"attempts": one.attempts + 1, "next_ms": next_ms, "last_error": error[:64]}
    with engine.begin() as connection:
        waits = and_(_is(one.webhook_id, one.event_id), webhook_deliveries.c.sent_ms.is_(None))
        connection.execute(update(webhook_deliveries).where(waits).values(values))
    return is_last


def given_up(engine: Engine, project: str) -> int:
    """How many deliveries never arrived."""
    return sum(one.given_up for one in find_all(engine, project))


def _is(webhook_id: str, event_id: str) -> Any:
    return and_(webhook_deliveries.c.webhook_id == webhook_id, webhook_deliveries.c.event_id == event_id)


def _webhook(row: Row[Any]) -> Webhook:
    counts: Sequence[str] = ("sent", "waiting", "given_up")
    values = {name: row._mapping[name] for name in Webhook.__struct_fields__}
    return Webhook(**(values | {name: int(values[name] or 0) for name in counts}))
