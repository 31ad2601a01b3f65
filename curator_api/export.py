"""All logs that match a search, over HTTP, as they are kept."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.ledger import erased_among
from tunemill.curator_api.problems import responses
from tunemill.curator_api.queries import read_query
from tunemill.curator_api.search import Text
from tunemill.curator_api.versions import JSONL
from tunemill.indexer.query import Query
from tunemill.indexer.search import Dumped

router = APIRouter(prefix="/v1/search", tags=["search"])


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {JSONL: {"schema": {"type": "string"}}}}, **responses(400, 422)},
)
async def export_search(here: Here, _person: Person, q: Text = "") -> StreamingResponse:
    """Every log that matches at this moment, one JSON object a line, in no order: what came, its tags, and what people changed."""
    query = await asyncio.to_thread(read_query, here.registry, here.project, q)
    lines = _lines(here, query)
    first = await anext(lines, b"")  # an index that does not answer is an error before the first byte
    disposition = {"Content-Disposition": 'attachment; filename="logs.jsonl"'}
    return StreamingResponse(_after(first, lines), media_type=JSONL, headers=disposition)


async def _after(first: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for some in lines:
        yield some


async def _lines(curator: Curator, query: Query) -> AsyncIterator[bytes]:
    async for some in curator.index.dump(query):
        yield await asyncio.to_thread(_kept, curator, some)


def _kept(curator: Curator, logs: Sequence[Dumped]) -> bytes:
    """Those that nobody had forgotten since the export began."""
    erased = erased_among(curator.registry, curator.settings.project, [log.log_id for log in logs])
    return b"".join(log.record + b"\n" for log in logs if log.log_id not in erased)
