"""Events on their way to webhooks: a task beside the API. At least once; the receiver knows an event by its id."""

import asyncio
import contextlib

import httpx
import structlog
from sqlalchemy import Engine

from tunemill.curator_api import webhook_store
from tunemill.curator_api.webhook_hosts import refusal
from tunemill.curator_api.webhook_sign import signed_headers
from tunemill.curator_api.webhook_store import Delivery
from tunemill.registry.tables import now_ms
from tunemill.telemetry.metrics import WEBHOOKS

LOOK_EVERY_S = 0.5
ANSWER_S = 10.0  # that a receiver may take
AT_ONCE = 8

_log = structlog.get_logger()


async def deliver_until(stop: asyncio.Event, engine: Engine, hosts: tuple[str, ...]) -> None:
    """Deliver until told to stop. Whatever fails is tried again, later each time, and given up after six more attempts.

    Args:
        hosts: where events may be sent now; an address that was added when there were others is not asked any more.
    """
    if not hosts:
        return
    async with httpx.AsyncClient(timeout=ANSWER_S, follow_redirects=False, trust_env=False) as client:
        while not stop.is_set():
            count = 0
            try:
                due = await asyncio.to_thread(webhook_store.claim, engine, at_ms=now_ms(), limit=AT_ONCE)
                await asyncio.gather(*(_deliver(client, engine, one, hosts) for one in due))
                count = len(due)
            except Exception as error:  # the database is away: the deliveries wait in it
                _log.warning("webhooks_wait", error=type(error).__name__)
            if count < AT_ONCE:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)


async def _deliver(client: httpx.AsyncClient, engine: Engine, one: Delivery, hosts: tuple[str, ...]) -> None:
    error = await _problem(client, one, hosts)
    if error is None:
        await asyncio.to_thread(webhook_store.sent, engine, one, at_ms=now_ms())
        WEBHOOKS.labels("sent").inc()
        return
    is_over = await asyncio.to_thread(webhook_store.failed, engine, one, error, at_ms=now_ms())
    WEBHOOKS.labels("given_up" if is_over else "failed").inc()
    said = {"webhook_id": one.webhook_id, "event_id": one.event_id, "error": error, "attempt": one.attempts + 1}
    _log.log(40 if is_over else 30, "webhook_given_up" if is_over else "webhook_failed", **said)


async def _problem(client: httpx.AsyncClient, one: Delivery, hosts: tuple[str, ...]) -> str | None:
    """What went wrong, in a word that holds nothing of the receiver's; None: it took the event. What it answers is not read."""
    if refusal(one.url, hosts) is not None:
        return "not allowed"
    headers = {
        **signed_headers(one.secret, one.event_id, now_ms() // 1_000, one.body),
        "content-type": "application/json",
    }
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            client.stream("POST", one.url, content=one.body, headers=headers) as answer,
        ):
            return None if answer.is_success else f"HTTP {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return type(error).__name__
