"""Search over HTTP."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import Unprocessable
from tunemill.curator_api.hits import hit_out, not_erased
from tunemill.curator_api.logs import log_out
from tunemill.curator_api.payloads import LogOut, Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query
from tunemill.curator_api.search_payloads import (
    MOST_FIELDS,
    MOST_HITS,
    FacetOut,
    HistogramOut,
    HitOut,
    InsteadOut,
    SearchIn,
    SearchOut,
)
from tunemill.indexer import ast
from tunemill.indexer.cursor import LONGEST, moment
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import Hit, SearchPage, SearchRequest, Sort
from tunemill.registry.tables import now_ms

router = APIRouter(prefix="/v1/search", tags=["search"])

_LOOKED_UP = {"feedback", "edits", "neighbours"}  # members of a log that would cost a question for each hit
_ONLY_OF_A_LOG = set(LogOut.model_fields) - _LOOKED_UP - set(HitOut.model_fields)

Text = Annotated[
    str, Query(max_length=4_096, description='for example: "long division" tag:topic:math -lang:de'), Storable
]
Cursor = Annotated[str | None, Query(max_length=LONGEST), Storable]
Fields = Annotated[str | None, Query(max_length=2_000, description="for example: log_id,prompt,cost_usd")]


@router.get("", response_model=SearchOut, responses=responses(400, 422))
async def search(  # noqa: PLR0917  FastAPI gives them by name
    here: Here,
    _person: Person,
    q: Text = "",
    limit: Annotated[int, Query(ge=0, le=MOST_HITS)] = 20,
    cursor: Cursor = None,
    sort: Sort = "relevance",
    fields: Fields = None,
    counts: Annotated[bool, Query(description="with facets and a histogram")] = True,
) -> SearchOut | Response:
    """Logs that match, with highlights, facets and a histogram over time. An empty `q` matches every log."""
    names = None if fields is None else [name.strip() for name in fields.split(",")][:MOST_FIELDS]
    wanted = SearchIn(q=q, limit=limit, cursor=cursor, sort=sort, fields=names, counts=counts)
    return await _answer(here, wanted)


@router.post("", response_model=SearchOut, responses=responses(400, 422))
async def search_by_body(wanted: SearchIn, here: Here, _person: Person) -> SearchOut | Response:
    """The same, asked in the body: for a search text that is too long for an address."""
    return await _answer(here, wanted)


async def found(curator: Curator, wanted: SearchIn) -> SearchOut:
    """A page of hits with all their members."""
    page, request, hits = await _page(curator, wanted)
    return await _search_out(curator, page, request, [hit_out(hit) for hit in hits])


async def _answer(curator: Curator, wanted: SearchIn) -> SearchOut | Response:
    if wanted.fields is None:
        return await found(curator, wanted)
    names = set(wanted.fields)
    if unknown := names - _ONLY_OF_A_LOG - set(HitOut.model_fields):
        raise Unprocessable(f"fields: {sorted(unknown)[0][:64]!r} is none that a search can give of each hit")
    page, request, hits = await _page(curator, wanted)
    body = (await _search_out(curator, page, request, [])).model_dump(mode="json")
    body["hits"] = await asyncio.to_thread(_picked, hits, names)
    return Response(msgspec.json.encode(body), media_type="application/json")


async def _page(curator: Curator, wanted: SearchIn) -> tuple[SearchPage, SearchRequest, list[Hit]]:
    """What the index found, what it was asked, and the hits that may be shown."""
    begun_ms = moment(wanted.cursor)
    at_ms = now_ms() if begun_ms is None else begun_ms  # `now` means on each page what it meant on the first
    query = await asyncio.to_thread(read_query, curator.registry, curator.project, wanted.q, now_ms=at_ms)
    request = SearchRequest(
        query, limit=wanted.limit, cursor=wanted.cursor, sort=wanted.sort, counts=wanted.counts, now_ms=at_ms
    )
    page = await curator.index.search(request)
    return page, request, await not_erased(curator, page.hits)


async def _search_out(curator: Curator, page: SearchPage, request: SearchRequest, hits: list[HitOut]) -> SearchOut:
    return SearchOut(
        total=page.total,
        hits=hits,
        facets={
            name: [FacetOut(value=facet.value, count=facet.count) for facet in counts]
            for name, counts in page.facets.items()
        },
        histogram=None if page.histogram is None else HistogramOut.model_validate(page.histogram),
        cursor=page.cursor,
        instead=None if page.total else await _instead(curator, request),
    )


async def _instead(curator: Curator, request: SearchRequest) -> InsteadOut | None:
    """What one of the words would find, where all of them find nothing."""
    wider = any_word(request.query)
    if wider is None or not request.counts:
        return None
    total = (await curator.index.search(SearchRequest(wider, limit=0, counts=False))).total
    return InsteadOut(q=to_text(wider), total=total) if total else None


def any_word(query: ast.Query) -> ast.Query | None:
    """The query with one of its words in place of all; None where it does not ask for several."""
    items = query.items if isinstance(query, ast.And) else ()
    words = tuple(item for item in items if isinstance(item, ast.Words | ast.WordPrefix))
    if len(words) < 2:
        return None
    others = tuple(item for item in items if item not in words)
    return ast.And((ast.Or(words), *others)) if others else ast.Or(words)


def _picked(hits: Sequence[Hit], names: set[str]) -> list[dict[str, Any]]:
    return [
        {
            **(log_out(hit.log).model_dump(mode="json", include=names) if names & _ONLY_OF_A_LOG else {}),
            **hit_out(hit).model_dump(mode="json", include=names),
        }
        for hit in hits
    ]
