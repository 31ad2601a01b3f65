"""Which logs of its session come before and after a log."""

import asyncio
from collections.abc import Sequence

from tunemill.curator_api.curator import Curator
from tunemill.curator_api.hits import not_erased, prompt_of
from tunemill.curator_api.payloads import NeighbourOut, NeighboursOut
from tunemill.indexer.ast import And, Between, Is
from tunemill.indexer.document import to_document
from tunemill.indexer.search import Hit, SearchPage, SearchRequest, Sort
from tunemill.schemas.records import TaggedLog

ON_EACH_SIDE = 10
AT_ONE_TIME = 200  # logs of a session that were made in the same millisecond; the others are counted, not ordered
SHOWN_CHARACTERS = 200


async def neighbours(curator: Curator, tagged: TaggedLog) -> NeighboursOut | None:
    """Where the log stands in its session, by time and log_id; None: it is in none."""
    document = to_document(tagged)
    if document.session is None:
        return None
    session = Is("session", document.session)
    earlier, same, later = await asyncio.gather(
        _some(curator, session, Between("ts", None, document.ts, high_included=False), "newest", ON_EACH_SIDE),
        _some(curator, session, Between("ts", document.ts, document.ts), "newest", AT_ONE_TIME),
        _some(curator, session, Between("ts", document.ts, None, low_included=False), "oldest", ON_EACH_SIDE),
    )
    others = _in_order(await _shown(curator, (*earlier.hits, *same.hits, *later.hits)))
    own = (tagged.log.ts_ms, tagged.log.log_id)
    before = [one for one in others if (one.ts_ms, one.log_id) < own]
    after = [one for one in others if (one.ts_ms, one.log_id) > own]
    place = earlier.total + sum(hit.log.log.log_id < document.id for hit in same.hits) + 1
    total = earlier.total + same.total + later.total
    return NeighboursOut(total=total, place=place, before=before[-ON_EACH_SIDE:], after=after[:ON_EACH_SIDE])


async def _some(curator: Curator, session: Is, when: Between, sort: Sort, limit: int) -> SearchPage:
    return await curator.index.search(SearchRequest(And((session, when)), limit=limit, sort=sort, counts=False))


async def _shown(curator: Curator, hits: Sequence[Hit]) -> list[NeighbourOut]:
    return [
        NeighbourOut(log_id=log.log_id, ts_ms=log.ts_ms, prompt=prompt_of(log, SHOWN_CHARACTERS))
        for log in (hit.log.shown for hit in await not_erased(curator, hits))
    ]


def _in_order(found: list[NeighbourOut]) -> list[NeighbourOut]:
    return sorted(found, key=lambda one: (one.ts_ms, one.log_id))
