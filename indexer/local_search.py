"""A page of search from tantivy, with its facets, and with the bodies from SQLite."""

from collections.abc import Sequence
from typing import Any

from tunemill.indexer.bodies import Bodies
from tunemill.indexer.cursor import Place, encode, search_key
from tunemill.indexer.document import texts
from tunemill.indexer.highlight import highlight
from tunemill.indexer.local_page import Found, page
from tunemill.indexer.local_query import to_tantivy
from tunemill.indexer.projection import Projection
from tunemill.indexer.search import FACET_VALUES, FACETS, FacetCount, Hit, SearchPage, SearchRequest
from tunemill.schemas.records import TaggedLog

# More than are shown, because among equal counts tantivy takes any and we the first by name.
_AGGREGATIONS = {name: {"terms": {"field": name, "size": 20 * FACET_VALUES}} for name in FACETS}


def search(projection: Projection, reader: Bodies, request: SearchRequest, place: Place | None) -> SearchPage:
    """One page of the logs that match, from a place on."""
    searcher, schema = projection.searcher(), projection.schema
    everything = to_tantivy(request.query, schema)
    found, more = page(searcher, schema, request, place, reader.ids)
    bodies = reader.bodies([hit.seq for hit in found])
    seen = len(found) + (place.seen if place else 0)
    return SearchPage(
        total=searcher.search(everything, limit=1).count,
        hits=tuple(_hit(request, hit, bodies[hit.seq]) for hit in found if hit.seq in bodies),
        facets=_facets(searcher.aggregate(everything, _AGGREGATIONS)),
        cursor=_next_cursor(request, found[-1], seen) if found and more else None,
    )


def _hit(request: SearchRequest, hit: Found, tagged: TaggedLog) -> Hit:
    return Hit(tagged, hit.score if request.by_score else None, highlight(request.query, texts(tagged)))


def _next_cursor(request: SearchRequest, last: Found, seen: int) -> str:
    return encode(Place(search_key(request.query, request.sort), seen, last.score, last.ts_ms, last.log_id))


def _facets(aggregations: dict[str, Any]) -> dict[str, tuple[FacetCount, ...]]:
    return {name: _counts(aggregations[name]["buckets"]) for name in FACETS}


def _counts(buckets: Sequence[dict[str, Any]]) -> tuple[FacetCount, ...]:
    ranked = sorted(buckets, key=lambda bucket: (-bucket["doc_count"], bucket["key"]))
    return tuple(FacetCount(bucket["key"], bucket["doc_count"]) for bucket in ranked[:FACET_VALUES])
