"""A page of search from tantivy with the bodies from SQLite, and what all matches are counted by."""

from collections.abc import Sequence

from tunemill.indexer.bodies import Bodies
from tunemill.indexer.cursor import Place, next_cursor
from tunemill.indexer.document import texts
from tunemill.indexer.highlight import highlight_each
from tunemill.indexer.histogram import is_right, widest_ms, width_ms
from tunemill.indexer.local_facets import facets, over_time, total
from tunemill.indexer.local_page import Found, View, page
from tunemill.indexer.local_points import Counts, Point, span
from tunemill.indexer.local_query import to_tantivy
from tunemill.indexer.search import Histogram, Hit, SearchRequest
from tunemill.schemas.records import TaggedLog


def hits(
    point: Point, reader: Bodies, request: SearchRequest, place: Place | None
) -> tuple[tuple[Hit, ...], str | None]:
    """One page of the logs that match, from a place on, and the cursor of the next."""
    found, more = page(View(point.searcher, point.schema, point.span, reader.ids), request, place)
    bodies = reader.bodies([hit.seq for hit in found])
    shown = _marked(request, [(hit, bodies[hit.seq]) for hit in found if hit.seq in bodies])
    if not more:
        return shown, None
    last = found[-1]
    return shown, next_cursor(request, place, len(found), (last.key, last.ts_ms, last.log_id), point.name)


def counts(point: Point, request: SearchRequest) -> Counts:
    """How many logs match; and when they were made, and with which values, if that is asked for."""
    matching = to_tantivy(request.query, point.schema)
    if not request.counts:
        return Counts(total(point.searcher, matching), {}, None)
    bucket_ms = widest_ms(request.query, point.span())
    by_value, buckets = facets(point.searcher, matching, bucket_ms=bucket_ms)
    matches = sum(buckets.values())  # every log has one time
    if not is_right(bucket_ms, buckets) and (ends := span(point.searcher, matching)) is not None:
        bucket_ms = width_ms(ends)
        buckets = over_time(point.searcher, matching, bucket_ms=bucket_ms)
    return Counts(matches, by_value, Histogram(bucket_ms, tuple(buckets.items())))


def _marked(request: SearchRequest, found: Sequence[tuple[Found, TaggedLog]]) -> tuple[Hit, ...]:
    each = highlight_each(request.query, (texts(tagged) for _, tagged in found))
    return tuple(
        Hit(tagged, hit.key if request.by_score else None, marked or (), is_marked=marked is not None)
        for (hit, tagged), marked in zip(found, each, strict=True)
    )
