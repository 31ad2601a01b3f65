"""Logs like a text or like another log, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import Unprocessable
from tunemill.curator_api.hits import hit_out, not_erased
from tunemill.curator_api.logs import find_log
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.search_payloads import NearDuplicateOut, SimilarOut
from tunemill.indexer.ast import Is, Or
from tunemill.indexer.document import texts
from tunemill.indexer.search import SIMILAR_PARTS, SearchRequest
from tunemill.schemas.records import TaggedLog
from tunemill.schemas.sketch import MIN_SIMILARITY, band_terms, similarity

router = APIRouter(prefix="/v1/similar", tags=["search"])

MOST_SIMILAR = 50
LOOKED_AT = 200  # logs that share a run of the sketch, the newest first

LikeLog = Annotated[str | None, Query(min_length=1, max_length=512), Storable]
LikeText = Annotated[str | None, Query(min_length=1, max_length=8_192), Storable]


@router.get("", responses=responses(404, 422, 504))
async def get_similar(
    here: Here,
    _person: Person,
    log_id: LikeLog = None,
    text: LikeText = None,
    limit: Annotated[int, Query(ge=0, le=MOST_SIMILAR)] = 10,
) -> SimilarOut:
    """Logs whose prompts and answers share most of the telling words with a log or a text; of a log, near-duplicates, too."""
    if (log_id is None) == (text is None):
        raise Unprocessable("send log_id or text, and not both")
    tagged = None if log_id is None else await find_log(here, log_id)
    wanted = (text or "") if tagged is None else _text_of(tagged)
    hits = await not_erased(here, await here.index.similar(wanted, limit=limit + 1))
    others = [hit for hit in hits if hit.log.log.log_id != log_id][:limit]
    near = [] if tagged is None else await near_duplicates(here, tagged)
    return SimilarOut(similar=[hit_out(hit) for hit in others], near_duplicates=near)


async def near_duplicates(curator: Curator, tagged: TaggedLog) -> list[NearDuplicateOut]:
    """The logs that say nearly the same, the most alike first."""
    if tagged.fingerprint is None:
        return []
    own = bytes.fromhex(tagged.fingerprint)
    query = Or(tuple(Is("near", band) for band in band_terms(tagged.fingerprint)))
    page = await curator.index.search(SearchRequest(query, limit=LOOKED_AT, sort="newest", counts=False))
    found = [
        NearDuplicateOut(log_id=hit.log.log.log_id, similarity=round(similarity(own, bytes.fromhex(sketch)), 3))
        for hit in await not_erased(curator, page.hits)
        if (sketch := hit.log.fingerprint) is not None and hit.log.log.log_id != tagged.log.log_id
    ]
    alike = [one for one in found if one.similarity >= MIN_SIMILARITY]
    return sorted(alike, key=lambda one: (-one.similarity, one.log_id))


def _text_of(tagged: TaggedLog) -> str:
    parts = texts(tagged)
    return "\n".join(text for part in SIMILAR_PARTS for text in parts[part])
