"""Which Elasticsearch indices an alias stands for, and how much they hold."""

import re
from collections.abc import Iterable

from elasticsearch import AsyncElasticsearch

from tunemill.indexer import mapping
from tunemill.indexer.elastic_client import translated
from tunemill.indexer.search import IndexSize


async def indices_of(client: AsyncElasticsearch, alias: str) -> dict[str, bool]:
    """The indices behind an alias, and whether each is the one that new documents go to."""
    with translated():
        answer = await client.indices.get_alias(name=alias)
    return {name: found["aliases"][alias].get("is_write_index", False) for name, found in answer.items()}


def next_index(alias: str, names: Iterable[str]) -> str:
    """A name for one more index behind an alias; names of other aliases' indices do not count."""
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(rf"{re.escape(alias)}-(\d{{6,}})", name))]
    return f"{alias}-{max(numbers, default=0) + 1:06d}"


async def is_outdated(client: AsyncElasticsearch, alias: str) -> bool:
    """Whether an index behind an alias was made by another layout than today's."""
    with translated():
        answer = await client.indices.get_mapping(index=alias)
    return any(found["mappings"].get("_meta", {}).get("layout") != mapping.LAYOUT for found in answer.values())


async def size_of(client: AsyncElasticsearch, alias: str) -> IndexSize:
    """How much the indices behind an alias hold. Of deleted documents, which lie there until a merge, the share is taken off."""
    with translated():
        answer = await client.indices.stats(index=alias, metric=["docs", "store"])
    found = answer["_all"]["primaries"]
    logs, deleted, stored = found["docs"]["count"], found["docs"]["deleted"], found["store"]["size_in_bytes"]
    return IndexSize(logs, stored * logs // max(1, logs + deleted))
