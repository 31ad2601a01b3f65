"""The indices that a project's logs are spread over by when they came: begun, looked at, and dropped whole."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog
from elasticsearch import AsyncElasticsearch

from tunemill.indexer.ast import Everything
from tunemill.indexer.elastic_client import translated
from tunemill.indexer.elastic_feedback import Call
from tunemill.indexer.elastic_indices import drop_half_made, filling_alias, indices_of, next_index, size_in
from tunemill.indexer.elastic_scan import dump
from tunemill.indexer.errors import IndexUnavailable, SearchIndexError
from tunemill.indexer.search import Shelf
from tunemill.schemas.ids import new_id

START_S = 10  # for a new index's shard, which takes tenths of a second

_log = structlog.get_logger()


class _Record(msgspec.Struct):
    log: Call


_RECORD = msgspec.json.Decoder(_Record)


async def shelves(client: AsyncElasticsearch, alias: str) -> list[Shelf]:
    """The indices behind an alias by their newest log, the one that is written to last.

    Raises:
        IndexUnavailable: one was rebuilt between two questions; it can be asked again.
    """
    is_written = await indices_of(client, alias)
    newest = {"terms": {"field": "_index", "size": len(is_written)}, "aggs": {"newest": {"max": {"field": "ts"}}}}
    with translated():
        stats = await client.indices.stats(index=alias, metric=["docs", "store"])
        settings = await client.indices.get_settings(index=alias, name="index.creation_date")
        answer = await client.search(
            index=alias, size=0, aggs={"by_index": newest}, track_total_hits=False, allow_partial_search_results=False
        )
    if not is_written.keys() <= stats["indices"].keys() & settings.keys():
        raise IndexUnavailable("an index was rebuilt meanwhile: its name is another now")
    newest_ms = {
        bucket["key"]: int(bucket["newest"]["value"]) for bucket in answer["aggregations"]["by_index"]["buckets"]
    }
    found = [
        Shelf(
            name,
            *size_in(stats["indices"][name]["primaries"]),
            newest_ms=newest_ms.get(name),
            begun_ms=int(settings[name]["settings"]["index"]["creation_date"]),
            is_filled=not is_write_index,
        )
        for name, is_write_index in is_written.items()
    ]
    return sorted(found, key=lambda shelf: (shelf.is_filled is False, shelf.newest_ms or 0, shelf.name))


async def roll_over(client: AsyncElasticsearch, alias: str) -> bool:
    """Have new documents go into another index behind an alias; False: no node has room for one, and all stays as it is.

    It is made first and takes its place in one step: `_rollover` would leave searches without an answer until its shard is started.
    """
    await drop_half_made(client, alias)
    (was,) = [name for name, is_written in (await indices_of(client, alias)).items() if is_written]
    filling = filling_alias(alias, new_id())
    with translated():
        index = next_index(alias, await client.indices.get(index=f"{alias}-*", features="aliases"))
        made = await client.indices.create(index=index, aliases={filling: {"is_hidden": True}}, timeout=f"{START_S}s")
    # Nodes whose disks are nearly full take no new ones: then nobody could write or search.
    if not made["shards_acknowledged"]:
        _log.warning("index_not_begun", index=index)
        await drop_half_made(client, alias)
        return False
    with translated():
        await client.indices.update_aliases(
            actions=[
                {"remove": {"index": index, "alias": filling, "must_exist": True}},
                {"add": {"index": was, "alias": alias, "is_write_index": False}},
                {"add": {"index": index, "alias": alias, "is_write_index": True}},
            ]
        )
    return True


async def drop(
    client: AsyncElasticsearch, alias: str, name: str, *, forget: Callable[[Sequence[Call]], Awaitable[None]]
) -> int:
    """Drop a filled index whole; how many logs.

    Args:
        forget: is told of all its logs, some at a time, first. Killed before it is dropped, it is done all over.

    Raises:
        SearchIndexError: it is written to, or not one of these.
    """
    if (await indices_of(client, alias)).get(name, True):
        raise SearchIndexError("only an index that takes no new logs can be dropped whole")
    with translated():
        await client.indices.refresh(index=name)
    logs = 0
    async for page in dump(client, name, Everything()):
        await forget([_RECORD.decode(dumped.record).log for dumped in page])
        logs += len(page)
    with translated():
        await client.indices.delete(index=name, ignore_unavailable=True)
    return logs
