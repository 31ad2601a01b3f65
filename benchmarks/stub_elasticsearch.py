"""An Elasticsearch that stores nothing: `_bulk` takes everything, at once or slowly, or is too busy; all else is agreed to.

python -m benchmarks.stub_elasticsearch PORT
"""

import asyncio
import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from engines.process import free_port

from benchmarks.live_engines import answers_soon
from benchmarks.processes import running

_HEADERS = {"X-Elastic-Product": "Elasticsearch"}
_CREATED = b'{"create":{"status":201}}'
_BUSY = b'{"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"busy"}}}'
_INFO = {"version": {"number": "9.0.0"}, "tagline": "You Know, for Search"}


class Stub:
    """How requests are answered now."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.is_busy = False

    async def behave(self, request: web.Request) -> web.Response:
        """Answer otherwise from now on."""
        told = await request.json()
        self.delay_s, self.is_busy = told["delay_s"], told["is_busy"]
        return web.Response()

    async def bulk(self, request: web.Request) -> web.Response:
        """A verdict on each document."""
        documents = (await request.read()).count(b"\n") // 2
        await asyncio.sleep(self.delay_s)
        items = b",".join([_BUSY if self.is_busy else _CREATED] * documents)
        body = b'{"errors":%s,"items":[%s]}' % (b"true" if self.is_busy else b"false", items)
        return web.Response(body=body, content_type="application/json", headers=_HEADERS)


async def _one_index(request: web.Request) -> web.Response:
    """Behind an alias there is one index, as nearly always."""
    alias = request.match_info["alias"]
    return web.json_response({f"{alias}-1": {"aliases": {alias: {"is_write_index": True}}}}, headers=_HEADERS)


async def _agree(request: web.Request) -> web.Response:
    answer = _INFO if request.path == "/" else {"acknowledged": True, "docs": []}
    return web.json_response(answer, headers=_HEADERS)


def serve(port: int) -> None:
    """Answer until it is told to end."""
    stub, app = Stub(), web.Application(client_max_size=2**30)
    app.router.add_post("/behave", stub.behave)
    app.router.add_route("*", "/{index}/_bulk", stub.bulk)
    app.router.add_get("/_alias/{alias}", _one_index)
    app.router.add_route("*", "/{rest:.*}", _agree)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


@contextmanager
def stub_elasticsearch() -> Iterator[str]:
    """The URL of one in a process of its own, which takes everything at once."""
    port = free_port()
    with running([sys.executable, "-m", "benchmarks.stub_elasticsearch", str(port)]) as process:
        url = f"http://127.0.0.1:{port}"
        answers_soon(url, process)
        yield url


def behave(url: str, *, delay_s: float = 0.0, is_busy: bool = False) -> None:
    """Let the stub answer so from now on; with neither, it takes everything at once again."""
    told = json.dumps({"delay_s": delay_s, "is_busy": is_busy}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/behave", data=told), timeout=60).close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
