"""Search over HTTP."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import Unprocessable
from tunemill.curator_api.hits import found_out, not_erased
from tunemill.curator_api.logs import log_out
from tunemill.curator_api.payloads import LogOut, SearchText, Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query, total_of
from tunemill.curator_api.search_payloads import (
    MOST_FIELDS,
    MOST_HITS,
    FacetOut,
    FoundOut,
    HistogramOut,
    Match,
    SearchIn,
    SearchOut,
    WiderOut,
)
from tunemill.indexer.cursor import LONGEST, moment
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import Hit, SearchPage, SearchRequest, Sort
from tunemill.indexer.wider import any_word, search_wider
from tunemill.registry.tables import now_ms

router = APIRouter(prefix="/v1/search", tags=["search"])

_LOOKED_UP = {"feedback", "edits", "neighbours"}  # members of a log that would cost a question for each hit
_ONLY_OF_A_LOG = set(LogOut.model_fields) - _LOOKED_UP - set(FoundOut.model_fields)

Text = Annotated[SearchText, Query(description='for example: "long division" tag:topic:math -lang:de')]
Cursor = Annotated[str | None, Query(max_length=LONGEST), Storable]
Fields = Annotated[str | None, Query(max_length=2_000, description="for example: log_id,prompt,cost_usd")]


@router.get("", response_model=SearchOut, responses=responses(400, 422, 504))
async def search(  # noqa: PLR0917  FastAPI gives them by name
    here: Here,
    _person: Person,
    q: Text = "",
    limit: Annotated[int, Query(ge=0, le=MOST_HITS)] = 20,
    cursor: Cursor = None,
    sort: Sort = "relevance",
    match: Match = "any",
    fields: Fields = None,
    counts: Annotated[bool, Query(description="with facets and a histogram")] = True,
) -> SearchOut | Response:
    """Logs that match, with highlights, facets and a histogram over time. An empty `q` matches every log.

    By relevance, after the logs with all words come those with some; only the former are counted.
    """
    names = None if fields is None else [name.strip() for name in fields.split(",")][:MOST_FIELDS]
    wanted = SearchIn(q=q, limit=limit, cursor=cursor, sort=sort, match=match, fields=names, counts=counts)
    return await _answer(here, wanted)


@router.post("", response_model=SearchOut, responses=responses(400, 422, 504))
async def search_by_body(wanted: SearchIn, here: Here, _person: Person) -> SearchOut | Response:
    """The same, asked in the body: for a search text that is too long for an address."""
    return await _answer(here, wanted)


async def found(curator: Curator, wanted: SearchIn) -> SearchOut:
    """A page of hits with all their members."""
    page, hits, wider = await _page(curator, wanted)
    return _search_out(page, [found_out(hit, match) for hit, match in hits], wider)


async def _answer(curator: Curator, wanted: SearchIn) -> SearchOut | Response:
    if wanted.fields is None:
        return await found(curator, wanted)
    names = set(wanted.fields)
    if unknown := names - _ONLY_OF_A_LOG - set(FoundOut.model_fields):
        known = ", ".join(sorted(_ONLY_OF_A_LOG | set(FoundOut.model_fields)))
        raise Unprocessable(f"fields: {sorted(unknown)[0][:64]!r} is none that a search can give of each hit: {known}")
    page, hits, wider = await _page(curator, wanted)
    body = _search_out(page, [], wider).model_dump(mode="json")
    body["hits"] = await asyncio.to_thread(_picked, hits, names)
    return Response(msgspec.json.encode(body), media_type="application/json")


async def _page(curator: Curator, wanted: SearchIn) -> tuple[SearchPage, list[tuple[Hit, Match]], WiderOut | None]:
    """What the index found, the hits that may be shown, and what one of the words would find."""
    begun_ms = moment(wanted.cursor)
    at_ms = now_ms() if begun_ms is None else begun_ms  # `now` means on each page what it meant on the first
    query = await asyncio.to_thread(read_query, curator.registry, curator.project, wanted.q, now_ms=at_ms)
    request = SearchRequest(
        query, limit=wanted.limit, cursor=wanted.cursor, sort=wanted.sort, counts=wanted.counts, now_ms=at_ms
    )
    if wanted.match == "all":
        page = await curator.index.search(request)
        return page, [(hit, "all") for hit in await not_erased(curator, page.hits)], None
    page, whole, more = await search_wider(curator.index, request)
    some = {hit.log.log.log_id for hit in page.hits[whole:]}
    shown = await not_erased(curator, page.hits)
    hits: list[tuple[Hit, Match]] = [(hit, "any" if hit.log.log.log_id in some else "all") for hit in shown]
    return page, hits, await _wider(curator, request, page.total, more)


async def _wider(curator: Curator, request: SearchRequest, total: int, more: int | None) -> WiderOut | None:
    """The search for one of the words, if it finds more; counted only where nothing else is found."""
    query = any_word(request.query)
    if query is None:
        return None
    if more is None and request.counts and not total:
        more = await total_of(curator.index, query)
    return WiderOut(q=to_text(query), total=more) if more else None


def _search_out(page: SearchPage, hits: list[FoundOut], wider: WiderOut | None) -> SearchOut:
    return SearchOut(
        total=page.total,
        hits=hits,
        facets={
            name: [FacetOut(value=facet.value, count=facet.count) for facet in counts]
            for name, counts in page.facets.items()
        },
        histogram=None if page.histogram is None else HistogramOut.model_validate(page.histogram),
        cursor=page.cursor,
        unmarked=sum(not hit.is_marked for hit in page.hits),
        wider=wider,
    )


def _picked(hits: Sequence[tuple[Hit, Match]], names: set[str]) -> list[dict[str, Any]]:
    return [
        {
            **(log_out(hit.log).model_dump(mode="json", include=names) if names & _ONLY_OF_A_LOG else {}),
            **found_out(hit, match).model_dump(mode="json", include=names),
        }
        for hit, match in hits
    ]
