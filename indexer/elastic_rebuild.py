"""The logs in Elasticsearch copied into indices of today's layout, while they are searched and written.

Of each index behind the alias, in this order: 1. a new index, known to the copy alone; 2. what the old one holds, then what came
meanwhile, until that is little; 3. a block on the old one: who writes to it waits; 4. the last of it; 5. in one request the new one
takes the old one's place. Whatever fails before that leaves the old one in its place.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog
from elasticsearch import AsyncElasticsearch

from tunemill.indexer.bulk import Bulk, deletions
from tunemill.indexer.document import to_document
from tunemill.indexer.elastic_client import translated
from tunemill.indexer.elastic_indices import drop_half_made, filling_alias, indices_of, rebuilt_index
from tunemill.indexer.elastic_stored import record_of
from tunemill.indexer.elastic_write import send_all
from tunemill.indexer.errors import IndexUnavailable, SearchIndexError
from tunemill.indexer.outcome import Verdict
from tunemill.indexer.search import Change, Progress, Rebuilt
from tunemill.schemas.ids import new_id
from tunemill.schemas.records import TaggedLog

PAGE = 500  # logs; a few MiB
LITTLE = 500  # logs that writers may wait for
MOST_ROUNDS = 10  # then they wait, however much is left: logs come faster than they are copied
_KEEP_ALIVE = "5m"  # between two pages
_UNBLOCKED: Mapping[str, Any] = {"index.blocks.write": None}

_log = structlog.get_logger()


async def rebuild(client: AsyncElasticsearch, alias: str, *, change: Change, progress: Progress) -> Rebuilt:
    """Copy every index behind an alias, one after another.

    Args:
        change: what becomes of some logs, in order; those that it leaves out are not copied.

    Raises:
        SearchIndexError: a log is not taken, or somebody else rebuilds it, too; nothing of this index is changed.
    """
    await _tidy(client, alias)
    done: list[Rebuilt] = []
    for source in await indices_of(client, alias):
        copy = _Copy(client, alias, source, change, progress)
        try:
            done.append(await copy.run())
        finally:
            await _tidy(client, alias)
        _log.info("index_rebuilt", index=copy.target, was=source)
    return Rebuilt(*map(sum, zip(*done, strict=True)))


async def _tidy(client: AsyncElasticsearch, alias: str) -> None:
    """Drop what a rebuild left half made, and only then let writers in: else, if it is under way still, it could take the old
    index's place without what they write."""
    try:
        await drop_half_made(client, alias)
    finally:
        with translated():
            await client.indices.put_settings(index=alias, settings=_UNBLOCKED)


class _Copy:
    """One index on its way into another."""

    def __init__(self, client: AsyncElasticsearch, alias: str, source: str, change: Change, progress: Progress) -> None:
        self.target = rebuilt_index(source)
        self._client = client
        self._alias = alias
        self._filling = filling_alias(alias, new_id())
        self._source = source
        self._change = change
        self._progress = progress
        self._reached = -1  # sequence number in the source; what has a lower one is copied
        self._left_out: set[str] = set()
        self._changed: set[str] = set()

    async def run(self) -> Rebuilt:
        """Copy, and put the copy in the place of its source."""
        await self._make_target()
        for _ in range(MOST_ROUNDS):
            if await self._copy_new() <= LITTLE:
                break
        with translated():
            await self._client.indices.add_block(index=self._source, block="write")
        await self._copy_new()
        logs = await self._without_deleted()
        await self._take_place()
        return Rebuilt(logs=logs, changed=len(self._changed), left_out=len(self._left_out))

    async def _make_target(self) -> None:
        with translated():
            await self._client.indices.create(index=self.target, aliases={self._filling: {"is_hidden": True}})

    async def _copy_new(self) -> int:
        """Copy what was written since the last time; how many logs that were."""
        upto = await self._processed()
        with translated():
            await self._client.indices.refresh(index=self._source)
        copied = 0
        async for logs in self._pages(self._reached, upto):
            await self._copy(logs)
            copied += len(logs)
            await self._progress(len(logs))
        self._reached = upto
        return copied

    async def _processed(self) -> int:
        """The sequence number up to which the source has everything; higher ones may be done in any order."""
        with translated():
            stats = await self._client.indices.stats(index=self._source, level="shards", metric="docs")
        (shard,) = stats["indices"][self._source]["shards"].values()
        return min(int(copy["seq_no"]["local_checkpoint"]) for copy in shard if copy["routing"]["primary"])

    async def _pages(self, after: int, upto: int) -> AsyncIterator[list[TaggedLog]]:
        """The logs whose last change has a sequence number from (after, upto], in the order of it."""
        with translated():
            opened = await self._client.open_point_in_time(index=self._source, keep_alive=_KEEP_ALIVE)
        point, place = opened["id"], [after]
        try:
            while True:
                with translated():
                    answer = await self._client.search(
                        query={"range": {"_seq_no": {"gt": after, "lte": upto}}},
                        pit={"id": point, "keep_alive": _KEEP_ALIVE},
                        size=PAGE,
                        sort=[{"_seq_no": "asc"}],
                        search_after=place,
                        source_includes=["record"],
                        track_total_hits=False,
                        allow_partial_search_results=False,
                    )
                if not (hits := answer["hits"]["hits"]):
                    return
                place = hits[-1]["sort"][:1]
                yield await asyncio.to_thread(_logs, hits)
        finally:
            with translated():
                await self._client.close_point_in_time(id=point)

    async def _copy(self, logs: Sequence[TaggedLog]) -> None:
        kept = await self._change(logs)
        ids = {log.log.log_id for log in kept}
        dropped = [log.log.log_id for log in logs if log.log.log_id not in ids]
        before = {log.log.log_id: log for log in logs}
        self._changed |= {log.log.log_id for log in kept if log != before[log.log.log_id]}
        self._left_out = (self._left_out - ids) | set(dropped)
        await self._send(await asyncio.to_thread(_documents, kept))
        await self._send(deletions(dropped))  # an earlier round may have copied them

    async def _send(self, bulk: Bulk) -> None:
        outcomes = await send_all(self._client, bulk, alias=self._filling, make_index=self._is_gone)
        refused = sum(outcome.verdict is Verdict.REJECTED for outcome in outcomes)
        if refused:
            raise SearchIndexError(f"Elasticsearch does not take {refused} of the logs that it gave")

    async def _is_gone(self) -> None:
        raise SearchIndexError("somebody else rebuilds this index, too, and took the copy away")

    async def _without_deleted(self) -> int:
        """Drop from the copy what was deleted from its source meanwhile. How many logs are left."""
        logs = await self._count(self.target)
        if logs != await self._count(self._source) - len(self._left_out):
            async for ids in self._ids_copied():
                await self._send(deletions(await self._gone(ids)))
            logs = await self._count(self.target)
        return logs

    async def _count(self, index: str) -> int:
        with translated():
            await self._client.indices.refresh(index=index)
            answer = await self._client.count(index=index)
        return int(answer["count"])

    async def _ids_copied(self) -> AsyncIterator[list[str]]:
        after: list[Any] | None = None
        while True:
            with translated():
                answer = await self._client.search(
                    index=self.target, size=10 * PAGE, sort=[{"id": "asc"}], search_after=after, source=False
                )
            if not (hits := answer["hits"]["hits"]):
                return
            after = hits[-1]["sort"]
            yield [hit["_id"] for hit in hits]

    async def _gone(self, ids: Sequence[str]) -> list[str]:
        with translated():
            answer = await self._client.mget(index=self._source, ids=ids, source=False)
        if any("error" in doc for doc in answer["docs"]):
            raise IndexUnavailable("Elasticsearch could not look documents up")
        return [doc["_id"] for doc in answer["docs"] if not doc["found"]]

    async def _take_place(self) -> None:
        is_write_index = (await indices_of(self._client, self._alias))[self._source]
        with translated():
            await self._client.indices.update_aliases(
                actions=[
                    {"remove": {"index": self.target, "alias": self._filling, "must_exist": True}},
                    {"add": {"index": self.target, "alias": self._alias, "is_write_index": is_write_index}},
                    {"remove_index": {"index": self._source}},
                ]
            )


def _logs(hits: Sequence[Mapping[str, Any]]) -> list[TaggedLog]:
    return [record_of(hit) for hit in hits]


def _documents(logs: Sequence[TaggedLog]) -> Bulk:
    bulk = Bulk()
    for log in logs:
        document = to_document(log)
        bulk.put(document.id, document, operation="index")
    return bulk
