"""Which Elasticsearch indices an alias stands for, in which order, what they are called, and how much they hold.

An index has the number in which it was begun: `logs-default-000002` after `logs-default-000001`. Made anew by a rebuild, it keeps its
number and counts its copies: `logs-default-000001.2`. So at any moment the order of the names is that in which they were begun.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from elasticsearch import AsyncElasticsearch

from tunemill.indexer import mapping
from tunemill.indexer.elastic_client import translated
from tunemill.indexer.search import IndexSize


async def indices_of(client: AsyncElasticsearch, alias: str) -> dict[str, bool]:
    """The indices behind an alias, and whether each is the one that new documents go to: that one last, the others by name."""
    with translated():
        answer = await client.indices.get_alias(name=alias)
    is_written = {name: found["aliases"][alias].get("is_write_index", False) for name, found in answer.items()}
    return dict(sorted(is_written.items(), key=lambda item: (item[1], item[0])))


def next_index(alias: str, names: Iterable[str]) -> str:
    """A name for one more index behind an alias; names of other aliases' indices do not count."""
    own = rf"{re.escape(alias)}-(\d{{6,}})(\.\d+)?"
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(own, name))]
    return f"{alias}-{max(numbers, default=0) + 1:06d}"


def rebuilt_index(index: str) -> str:
    """A name for what is to take an index's place."""
    number, _, copy = index.partition(".")
    return f"{number}.{int(copy or 1) + 1}"


def filling_alias(alias: str, attempt: str) -> str:
    """The name under which an attempt makes an index. No project's alias is like it: none has a dot."""
    return f"{alias}.filling-{attempt}"


async def half_made(client: AsyncElasticsearch, alias: str) -> list[str]:
    """The indices that an attempt makes, or left half made."""
    with translated():
        return sorted(await client.indices.get_alias(name=filling_alias(alias, "*"), allow_no_indices=True))


async def drop_half_made(client: AsyncElasticsearch, alias: str) -> None:
    """Drop the indices that an attempt left half made."""
    for name in await half_made(client, alias):
        with translated():
            await client.indices.delete(index=name, ignore_unavailable=True)


async def is_outdated(client: AsyncElasticsearch, alias: str) -> bool:
    """Whether an index behind an alias was made by another layout than today's."""
    with translated():
        answer = await client.indices.get_mapping(index=alias)
    return any(found["mappings"].get("_meta", {}).get("layout") != mapping.LAYOUT for found in answer.values())


async def size_of(client: AsyncElasticsearch, alias: str) -> IndexSize:
    """How much the indices behind an alias hold."""
    with translated():
        answer = await client.indices.stats(index=alias, metric=["docs", "store"])
    return size_in(answer["_all"]["primaries"])


def size_in(stats: Mapping[str, Any]) -> IndexSize:
    """What statistics say of one index or of all. Of deleted documents, which lie there until a merge, the share is taken off."""
    logs, deleted, stored = stats["docs"]["count"], stats["docs"]["deleted"], stats["store"]["size_in_bytes"]
    return IndexSize(logs, stored * logs // max(1, logs + deleted))
