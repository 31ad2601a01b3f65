"""Bulk items -> one outcome each: what is done is done, what was not taken is sent again until it is."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, TypeVar

import structlog
from elastic_transport import ApiError
from elasticsearch import AsyncElasticsearch

from tunemill.indexer.bulk import Bulk
from tunemill.indexer.elastic_client import translated
from tunemill.indexer.errors import IndexRefused, IndexUnavailable, SearchIndexError
from tunemill.indexer.outcome import DONE, ItemOutcome, Verdict, classify
from tunemill.telemetry.metrics import INDEX_RETRIES

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 10.0

# Enough of each item to judge it by; the rest of the answer is not sent.
_KEPT = ("errors", "items.*.status", "items.*.error.type", "items.*.error.reason")
_TOO_LARGE = ItemOutcome(Verdict.REJECTED, 413, "too_large", "the document is larger than Elasticsearch takes")

T = TypeVar("T")
_log = structlog.get_logger()


async def send_all(
    client: AsyncElasticsearch,
    bulk: Bulk,
    *,
    alias: str,
    make_index: Callable[[], Awaitable[None]] | None,
    refresh: bool = False,
) -> list[ItemOutcome]:
    """Send every item until it is accounted for; the outcomes in order, none of them to be retried.

    Args:
        make_index: called when the alias does not exist; None: what names an index that does not exist is not sent again.

    Raises:
        IndexRefused: Elasticsearch does not let us in.
    """
    outcomes = await _send_once(client, bulk, alias, refresh)
    again = {Verdict.RETRY} if make_index is None else {Verdict.RETRY, Verdict.NO_INDEX}
    waiting = _to_be_sent_again(range(len(bulk)), outcomes, again)
    for attempt in count():
        if not waiting:
            break
        await _before_next(attempt, [outcomes[at] for at in waiting], make_index)
        results = await _send_once(client, bulk.only(waiting), alias, refresh)
        for at, outcome in zip(waiting, results, strict=True):
            outcomes[at] = outcome
        waiting = _to_be_sent_again(waiting, results, again)
    return outcomes


def _to_be_sent_again(places: Sequence[int], outcomes: Sequence[ItemOutcome], again: set[Verdict]) -> list[int]:
    if all(outcome is DONE for outcome in outcomes):  # nearly always
        return []
    if any(outcome.verdict is Verdict.REFUSED for outcome in outcomes):
        raise IndexRefused("Elasticsearch refused documents (401 or 403): check the rights of the index URL's user")
    return [at for at, outcome in zip(places, outcomes, strict=True) if outcome.verdict in again]


async def _send_once(client: AsyncElasticsearch, bulk: Bulk, alias: str, refresh: bool) -> list[ItemOutcome]:
    results: list[ItemOutcome] = []
    for places in bulk.requests():
        results += await _send_request(client, bulk, places, alias, refresh)
        if results[-1].verdict is Verdict.RETRY and len(results) < len(bulk):  # leave a struggling engine alone
            return results + [ItemOutcome(Verdict.RETRY, results[-1].status)] * (len(bulk) - len(results))
    return results


async def _send_request(
    client: AsyncElasticsearch, bulk: Bulk, places: range, alias: str, refresh: bool
) -> list[ItemOutcome]:
    """One `_bulk` request. A whole request that fails in a way that may pass is all its items to be retried."""
    lines: Any = bulk.body(places)
    try:
        with translated():
            answer = await client.bulk(
                operations=lines, index=alias, require_alias=True, refresh=refresh, filter_path=_KEPT
            )
    except IndexUnavailable as error:
        status = error.__cause__.meta.status if isinstance(error.__cause__, ApiError) else 0
        _log.warning("bulk_request_failed", reason=str(error), items=len(places))
        return [ItemOutcome(Verdict.NO_INDEX if status == 404 else Verdict.RETRY, status)] * len(places)
    except SearchIndexError as error:
        if isinstance(error.__cause__, ApiError) and error.__cause__.meta.status == 413:
            return await _halved(client, bulk, places, alias, refresh)
        raise
    return _judged(answer.get("items", []), len(places), may_fail=answer.get("errors", True))


def _judged(answered: Sequence[dict[str, Any]], sent: int, *, may_fail: bool) -> list[ItemOutcome]:
    """One outcome per item; an answer that leaves items out says nothing about any of them."""
    if len(answered) != sent:
        return [ItemOutcome(Verdict.RETRY, 0)] * sent
    return [classify(item) for item in answered] if may_fail else [DONE] * sent


async def _halved(
    client: AsyncElasticsearch, bulk: Bulk, places: range, alias: str, refresh: bool
) -> list[ItemOutcome]:
    if len(places) == 1:
        return [_TOO_LARGE]
    middle = len(places) // 2
    first = await _send_request(client, bulk, places[:middle], alias, refresh)
    return first + await _send_request(client, bulk, places[middle:], alias, refresh)


async def until_answered(ask: Callable[[], Awaitable[T]], make_index: Callable[[], Awaitable[None]]) -> T:
    """What `ask` gives, asked again until the engine answers.

    Raises:
        IndexRefused: Elasticsearch does not let us in.
    """
    for attempt in count():
        try:
            return await ask()
        except IndexUnavailable as error:
            status = error.__cause__.meta.status if isinstance(error.__cause__, ApiError) else 0
            verdict = Verdict.NO_INDEX if status == 404 else Verdict.RETRY
            await _before_next(attempt, [ItemOutcome(verdict, status)], make_index)
    raise AssertionError("count never ends")


async def _before_next(
    attempt: int, waiting: Sequence[ItemOutcome], make_index: Callable[[], Awaitable[None]] | None
) -> None:
    for outcome in waiting:
        INDEX_RETRIES.labels(str(outcome.status)).inc()
    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 20))
    if attempt > 0:
        _log.warning("index_busy", items=len(waiting), status=waiting[0].status, attempt=attempt, wait_s=wait_s)
    await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  spreads the senders, guards no secret
    if make_index is not None and any(outcome.verdict is Verdict.NO_INDEX for outcome in waiting):
        try:
            await make_index()
        except IndexUnavailable:
            _log.warning("index_not_made_yet", attempt=attempt)
