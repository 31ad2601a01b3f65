"""An Elasticsearch that stores nothing: `_bulk` takes everything at once, or slowly, or is too busy; all else is agreed to.

python -m benchmarks.stub_elasticsearch PORT [--delay-s 2] [--busy 0.5]
"""

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from aiohttp import web

from benchmarks.live_engines import answers_soon, free_port
from benchmarks.processes import running

_HEADERS = {"X-Elastic-Product": "Elasticsearch"}
_CREATED = b'{"create":{"status":201}}'
_BUSY = b'{"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"busy"}}}'
_INFO = {"version": {"number": "9.0.0"}, "tagline": "You Know, for Search"}


def serve(
    port: int,
    delay_s: Annotated[float, typer.Option(help="How long each _bulk request takes.")] = 0,
    busy: Annotated[float, typer.Option(help="Which share of documents is refused with 429, to be sent again.")] = 0,
) -> None:
    """Answer until it is told to end."""
    draw = random.Random(7)

    async def bulk(request: web.Request) -> web.Response:
        documents = (await request.read()).count(b"\n") // 2
        await asyncio.sleep(delay_s)
        items = b",".join(_BUSY if busy and draw.random() < busy else _CREATED for _ in range(documents))
        body = b'{"errors":%s,"items":[%s]}' % (b"true" if busy else b"false", items)
        return web.Response(body=body, content_type="application/json", headers=_HEADERS)

    async def agree(request: web.Request) -> web.Response:
        answer = _INFO if request.path == "/" else {"acknowledged": True, "docs": []}
        return web.json_response(answer, headers=_HEADERS)

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{index}/_bulk", bulk)
    app.router.add_route("*", "/{rest:.*}", agree)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


@contextmanager
def stub_elasticsearch(*, delay_s: float = 0, busy: float = 0) -> Iterator[str]:
    """The URL of one in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.stub_elasticsearch", str(port)]
    with running([*command, "--delay-s", str(delay_s), "--busy", str(busy)]) as process:
        url = f"http://127.0.0.1:{port}"
        answers_soon(url, process)
        yield url


if __name__ == "__main__":
    typer.run(serve)
