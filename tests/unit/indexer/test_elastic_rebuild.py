"""A rebuild on Elasticsearch tidies up what another one left. A stub answers."""

from collections.abc import Sequence

from aiohttp import web

from tunemill.indexer.elastic_client import connect
from tunemill.indexer.elastic_rebuild import rebuild
from tunemill.indexer.search import Rebuilt
from tunemill.schemas.records import TaggedLog

HALF_MADE = "logs-default-000002"


async def as_they_are(logs: Sequence[TaggedLog]) -> Sequence[TaggedLog]:
    return logs


async def unmoved(_logs: int) -> None:
    pass


async def test_writers_are_let_in_after_what_another_rebuild_could_put_in_the_place_is_dropped() -> None:
    asked: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.path))
        found: dict[str, dict[str, str]] = {HALF_MADE: {}} if "filling" in request.path else {}
        return web.json_response(found, headers={"X-Elastic-Product": "Elasticsearch"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    client = connect(f"http://{host}:{port}")
    try:
        assert await rebuild(client, "logs-default", change=as_they_are, progress=unmoved) == Rebuilt()
    finally:
        await client.close()
        await runner.cleanup()
    changes = [one for one in asked if one[0] != "GET"]
    assert changes == [("DELETE", f"/{HALF_MADE}"), ("PUT", "/logs-default/_settings")]
