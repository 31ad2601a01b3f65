"""Search over HTTP."""

import asyncio
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.payloads import FacetOut, HitOut, SearchOut, Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query
from tunemill.indexer.search import Hit, SearchPage, SearchRequest, Sort
from tunemill.schemas.records import Message

router = APIRouter(prefix="/v1/search", tags=["search"])

SHOWN_CHARACTERS = 2_000

Text = Annotated[
    str, Query(max_length=4_096, description='for example: "long division" tag:topic:math -lang:de'), Storable
]
Cursor = Annotated[str | None, Query(max_length=8_192), Storable]


@router.get("", responses=responses(400, 422))
async def search(
    here: Here,
    _person: Person,
    q: Text = "",
    limit: Annotated[int, Query(ge=0, le=200)] = 20,
    cursor: Cursor = None,
    sort: Sort = "relevance",
) -> SearchOut:
    """Logs that match, with highlights and facets. An empty `q` matches every log."""
    query = await asyncio.to_thread(read_query, here.registry, here.project, q)
    page = await here.index.search(SearchRequest(query, limit=limit, cursor=cursor, sort=sort))
    return search_out(page)


def search_out(page: SearchPage) -> SearchOut:
    """A page as the API gives it."""
    return SearchOut(
        total=page.total,
        hits=[_hit(hit) for hit in page.hits],
        facets={
            name: [FacetOut(value=facet.value, count=facet.count) for facet in counts]
            for name, counts in page.facets.items()
        },
        cursor=page.cursor,
    )


def _hit(hit: Hit) -> HitOut:
    log = hit.log.log
    return HitOut(
        log_id=log.log_id,
        ts_ms=log.ts_ms,
        app=log.app,
        model=log.model,
        language=hit.log.language,
        status=log.status,
        tags=[tag.tag for tag in hit.log.tags],
        prompt=_last(message for message in log.messages if message.role == "user"),
        answer=_last(log.output[:1]),
        score=hit.score,
        highlights=[list(fragment) for fragment in hit.highlights],
    )


def _last(messages: Iterable[Message]) -> str | None:
    texts = [message.content for message in messages if message.content is not None]
    return texts[-1][:SHOWN_CHARACTERS] if texts else None
