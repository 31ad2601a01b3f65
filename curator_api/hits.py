"""A hit as the API gives it, and which hits nobody may see any more."""

import asyncio
from collections.abc import Sequence

from tunemill.curator_api import ledger
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.search_payloads import FoundOut, HitOut, Match
from tunemill.indexer.search import Hit
from tunemill.schemas.records import LogRecord, Message

SHOWN_CHARACTERS = 2_000


async def not_erased(curator: Curator, hits: Sequence[Hit]) -> list[Hit]:
    """The hits that nobody had forgotten: a search sees a point in time, which may lie before."""
    log_ids = [hit.log.log.log_id for hit in hits]
    if not log_ids:
        return []
    erased = await asyncio.to_thread(ledger.erased_among, curator.registry, curator.project, log_ids)
    return [hit for hit in hits if hit.log.log.log_id not in erased]


def hit_out(hit: Hit) -> HitOut:
    """A hit as the API gives it."""
    log = hit.log.shown
    return HitOut(
        log_id=log.log_id,
        ts_ms=log.ts_ms,
        app=log.app,
        model=log.model,
        language=hit.log.language,
        status=log.status,
        tags=[tag.tag for tag in hit.log.tags],
        prompt=prompt_of(log, SHOWN_CHARACTERS),
        answer=_last(log.output[:1], SHOWN_CHARACTERS),
        score=hit.score,
        highlights=[list(fragment) for fragment in hit.highlights],
    )


def found_out(hit: Hit, match: Match) -> FoundOut:
    """A hit of a search as the API gives it."""
    return FoundOut(**hit_out(hit).model_dump(), match=match)


def prompt_of(log: LogRecord, characters: int) -> str | None:
    """The beginning of what the user said last."""
    return _last([message for message in log.messages if message.role == "user"], characters)


def _last(messages: Sequence[Message], characters: int) -> str | None:
    texts = [message.content for message in messages if message.content is not None]
    return texts[-1][:characters] if texts else None
