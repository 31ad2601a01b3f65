"""Deleted documents taken out of Elasticsearch's segments, which keep them until a merge.

What was deleted is merged away only when every copy of the shard is known to have the deletion: half a minute later as a rule.
"""

import asyncio
from collections.abc import Sequence

from elasticsearch import AsyncElasticsearch

from tunemill.indexer.elastic_client import translated
from tunemill.indexer.errors import IndexUnavailable

LONGEST_S = 120.0  # for one index, beside the merges themselves
LOOK_EVERY_S = 2.0
MERGE_S = 3600.0  # one merge takes minutes with millions of logs, and answers when it is done
_ALLOWED = "index.merge.policy.expunge_deletes_allowed"  # percent of a segment; by itself a merge passes over up to ten


async def expunge(client: AsyncElasticsearch, aliases: Sequence[str]) -> None:
    """Merge until no segment of these aliases' indices holds a deleted document, and the log of operations is empty.

    Raises:
        IndexUnavailable: deleted documents stay, for a copy of a shard that is away; it can be tried again.
    """
    with translated():
        await client.indices.refresh(index=list(aliases))
        found = await client.indices.get_alias(name=list(aliases))
    for index in sorted(found):
        if await _deleted(client, index):
            await _merge(client, index)
        with translated():
            await client.indices.flush(index=index, wait_if_ongoing=True)


async def _merge(client: AsyncElasticsearch, index: str) -> None:
    patient = client.options(request_timeout=MERGE_S)
    with translated():
        await client.indices.put_settings(index=index, settings={_ALLOWED: 0})
    try:
        for _ in range(round(LONGEST_S / LOOK_EVERY_S)):
            with translated():
                await patient.indices.forcemerge(index=index, only_expunge_deletes=True, flush=True)
            if not await _deleted(client, index):
                return
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        with translated():
            await client.indices.put_settings(index=index, settings={_ALLOWED: None})
    raise IndexUnavailable(
        "Elasticsearch keeps deleted documents for a copy of a shard that is away: bring its node back"
    )


async def _deleted(client: AsyncElasticsearch, index: str) -> int:
    with translated():
        answer = await client.indices.stats(index=index, metric="docs")
    return int(answer["_all"]["total"]["docs"]["deleted"])
