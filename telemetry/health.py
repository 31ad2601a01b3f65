"""Live, ready and metrics: three endpoints that every process serves.

Live: the event loop answers, and what the process says of itself passes. Ready: every named check passes, so that traffic may come.
"""

from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Check = Callable[[], Awaitable[None]]  # returns, or raises with the reason
Warnings = Callable[[], Awaitable[Mapping[str, str]]]  # what does not work as it should, by name; never content


async def _answers() -> None:
    """An event loop that comes here is alive."""


async def _nothing() -> Mapping[str, str]:
    return {}


def routes(checks: Mapping[str, Check], alive: Check = _answers, warnings: Warnings = _nothing) -> list[Route]:
    """`GET /health/live`, `GET /health/ready` (503 names the checks that fail) and `GET /metrics`.

    Args:
        alive: fails when the process should be started anew, though it still answers.
        warnings: what an operator should look at, though traffic may come.
    """

    async def live(_request: Request) -> Response:
        result = await _result(alive)
        return JSONResponse({"status": "live" if result == "ok" else result}, 200 if result == "ok" else 503)

    async def ready(_request: Request) -> Response:
        results = {name: await _result(check) for name, check in checks.items()}
        is_ready = all(result == "ok" for result in results.values())
        found = await warnings() if is_ready else {}  # else they would be about what does not answer
        answer = {"status": "ready" if is_ready else "not ready", "checks": results}
        return JSONResponse({**answer, "warnings": dict(found)} if found else answer, 200 if is_ready else 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]


def health_app(checks: Mapping[str, Check], alive: Check = _answers) -> Starlette:
    """The three endpoints alone, for a process that serves nothing else."""
    return Starlette(routes=routes(checks, alive))


async def _result(check: Check) -> str:
    try:
        await check()
    except Exception as error:  # whatever the reason: the process is not ready, and says the kind, never the content
        return f"failed: {type(error).__name__}"
    return "ok"
