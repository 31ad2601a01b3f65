"""Logs by id, where the alias stands for several indices: which copy of a log counts, and how there comes to be one of each.

A log is created in the index that is written to; whether an older one holds it already nobody can ask in the same step. So:
1. it is created; 2. the indices are listed; 3. its id is read in all of them, searchable or not; 4. all copies but the first go, if
they still are as they were read; 5. where one went, it is done again from 2., and what has no copy left is created again. The first
copy is the one in the index that was begun first: all who read by id take it. Nobody locks, and the list of indices is asked for each
time and never kept: whoever went by an old one could miss the copy that another writer made. Who was killed before 5. had told nobody
that the log is written: it comes again, and 3. is done for logs that were there already, too. Another writer may have done 4. before
this one came to 3.: where one copy is left and it is not in the newest index, what it holds says whose it is.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from elasticsearch import AsyncElasticsearch

from tunemill.indexer.bulk import Bulk
from tunemill.indexer.elastic_client import answers_as, translated
from tunemill.indexer.elastic_indices import half_made, indices_of
from tunemill.indexer.elastic_write import send_all, until_answered
from tunemill.indexer.errors import IndexUnavailable, SearchIndexError
from tunemill.indexer.outcome import Verdict

MGET_DOCUMENTS = 500  # a few MiB
MGET_IDS = 5_000
_SEVERAL_INDICES = "illegal_argument_exception"  # of an alias that stands for more than one
_NO_INDEX = "index_not_found_exception"
_IF_FOUND = ("docs.found", "docs.error.type")


class _Error(msgspec.Struct):
    type: str


class _Held(msgspec.Struct):
    found: bool = False
    error: _Error | None = None


class _Holding(msgspec.Struct):
    docs: list[_Held]


_HOLDING = msgspec.json.Decoder(_Holding)
Read = Mapping[str, Any]  # a document, or that there is none, as `_mget` answers


class Settled(NamedTuple):
    """What became of logs that were created."""

    several: set[str]  # there was more than one copy of these
    gone: set[str]  # of them: there is none left
    elsewhere: set[
        str
    ]  # there is one copy of these, which another writer may have left when it took ours for the later one


def wanted(alias: str, document_id: str, *fields: str) -> dict[str, Any]:
    """A document that is asked for, with these fields; without any: whole."""
    return {"_index": alias, "_id": document_id, **({"_source": fields} if fields else {})}


def version_of(read: Read) -> tuple[str, int, int]:
    """The index of a document that was read, its sequence number there and its primary term."""
    return read["_index"], read["_seq_no"], read["_primary_term"]


async def look_up(client: AsyncElasticsearch, asked: Sequence[Read]) -> list[Read | None]:
    """These documents, searchable or not yet; of one that has several copies the one that counts.

    Raises:
        IndexUnavailable: there is no index yet, or a shard is away.
    """
    read = await _read(client, asked)
    spread = [at for at, doc in enumerate(read) if _error(doc) == _SEVERAL_INDICES]
    for alias in {asked[at]["_index"] for at in spread}:
        places = [at for at in spread if asked[at]["_index"] == alias]
        for at, copies in zip(places, await _copies(client, alias, [asked[at] for at in places]), strict=True):
            read[at] = copies[0] if copies else {"found": False}
    return [_found(doc) for doc in read]


async def settle(
    client: AsyncElasticsearch, alias: str, log_ids: Collection[str], *, make_index: Callable[[], Awaitable[None]]
) -> Settled:
    """Leave one copy of each of these logs, which were created just now or were there already."""
    settled = Settled(set(), set(), set())
    if not log_ids:
        return settled
    in_several, elsewhere = await until_answered(partial(_spread, client, alias, log_ids), make_index)
    settled.elsewhere.update(elsewhere)
    asked = [wanted(alias, log_id) | {"_source": False} for log_id in in_several]
    while asked:
        copies = await until_answered(partial(_copies, client, alias, asked), make_index)
        settled.gone.update(
            doc["_id"] for doc, found in zip(asked, copies, strict=True) if not found and doc["_id"] in settled.several
        )
        settled.elsewhere.update(doc["_id"] for doc, found in zip(asked, copies, strict=True) if len(found) == 1)
        asked = [doc for doc, found in zip(asked, copies, strict=True) if len(found) > 1]
        settled.several.update(doc["_id"] for doc in asked)
        later = Bulk()
        for copy in (copy for found in copies for copy in found[1:]):
            later.delete_copy(copy["_id"], version_of(copy))
        await send_all(client, later, alias=alias, make_index=None)
    return settled


async def delete_copies(
    client: AsyncElasticsearch, alias: str, log_ids: Sequence[str], *, make_index: Callable[[], Awaitable[None]]
) -> None:
    """Make these logs unfindable at once, wherever they lie, also where a rebuild that was killed left them."""
    while Verdict.NO_INDEX in await _delete_in(client, alias, indices_of, log_ids, make_index):
        pass  # it was rebuilt meanwhile
    # Only then, so that a rebuild which is under way finds nothing missing that is still in its source.
    await _delete_in(client, alias, half_made, log_ids, make_index)


async def _delete_in(
    client: AsyncElasticsearch,
    alias: str,
    indices: Callable[[AsyncElasticsearch, str], Awaitable[Iterable[str]]],
    log_ids: Sequence[str],
    make_index: Callable[[], Awaitable[None]],
) -> set[Verdict]:
    bulk = Bulk()
    for index in await until_answered(partial(indices, client, alias), make_index):
        for log_id in log_ids:
            bulk.delete(log_id, index)
    outcomes = await send_all(client, bulk, alias=alias, make_index=None, refresh=True)
    return {outcome.verdict for outcome in outcomes}


async def _spread(client: AsyncElasticsearch, alias: str, log_ids: Collection[str]) -> tuple[list[str], set[str]]:
    """Those of these logs that several indices hold, and those that the newest does not: nearly always none."""
    while True:
        names = await indices_of(client, alias)
        if len(names) == 1:
            return [], set()
        answered = await asyncio.gather(*(_held(client, name, log_ids) for name in names))
        if None not in answered:
            break
    holding = Counter(log_id for held in answered for log_id in held or ())
    return [log_id for log_id, indices in holding.items() if indices > 1], set(holding).difference(answered[-1] or ())


async def _held(client: AsyncElasticsearch, index: str, log_ids: Collection[str]) -> list[str] | None:
    """Those of these logs that an index holds; None: it was rebuilt or dropped meanwhile."""
    found: list[str] = []
    ids = iter(log_ids)
    while some := list(islice(ids, MGET_IDS)):
        with translated(), answers_as(_HOLDING):
            answer = await client.mget(index=index, ids=some, source=False, filter_path=_IF_FOUND)
        if not isinstance(answer.body, _Holding):
            raise SearchIndexError("Elasticsearch did not say which documents it holds")
        for log_id, held in zip(some, answer.body.docs, strict=True):
            if held.error is not None and held.error.type == _NO_INDEX:
                return None
            if held.error is not None:
                raise IndexUnavailable(f"Elasticsearch could not look a document up ({held.error.type})")
            if held.found:
                found.append(log_id)
    return found


async def _copies(client: AsyncElasticsearch, alias: str, asked: Sequence[Read]) -> list[list[Read]]:
    """All copies of each of these documents, the one that counts first."""
    while True:
        names = list(await indices_of(client, alias))
        read = await _read(client, [{**doc, "_index": name} for doc in asked for name in names])
        if all(_error(doc) != _NO_INDEX for doc in read):  # else it was rebuilt or dropped meanwhile
            break
    found = list(map(_found, read))
    return [[doc for doc in found[at : at + len(names)] if doc is not None] for at in range(0, len(found), len(names))]


async def _read(client: AsyncElasticsearch, asked: Sequence[Read]) -> list[Read]:
    read: list[Read] = []
    for start in range(0, len(asked), MGET_DOCUMENTS):
        with translated():
            answer = await client.mget(docs=asked[start : start + MGET_DOCUMENTS])
        read += answer["docs"]
    return read


def _error(read: Read) -> str | None:
    error = read.get("error")
    return None if error is None else str(error.get("type"))


def _found(read: Read) -> Read | None:
    if (error := _error(read)) is not None:  # no index yet, or a shard that is away
        raise IndexUnavailable(f"Elasticsearch could not look a document up ({error})")
    return read if read.get("found") else None
