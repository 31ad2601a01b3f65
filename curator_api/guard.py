"""What holds for every request before an endpoint sees it: where it may come from, how large it may be; and for every answer."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunemill.curator_api.errors import CuratorError, Forbidden, TooLarge
from tunemill.curator_api.problems import response, unexpected
from tunemill.telemetry.metrics import REQUESTS

# Log text is hostile: nothing but our own files runs, and no other page frames or caches what is shown.
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, *, require_key: bool, max_body_bytes: int) -> None:
        self._app = app
        self._require_key = require_key
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        try:
            if not self._require_key:
                refuse_other_origins(Headers(scope=scope), scope["method"])
            body = await read_body(scope, receive, self._max_body_bytes)
            await self._app(scope, _replay(body, receive), answer.send)
        except Exception as error:
            if answer.begun:
                raise
            problem = response(error) if isinstance(error, CuratorError) else unexpected(error)
            await problem(scope, receive, answer.send)


class _Answer:
    """Sends the answer on, with the headers that every answer has, and counts it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            self._count(message["status"])
        await self._send(message)

    def _count(self, status: int) -> None:
        """By the route's pattern, never the path: that may hold anything."""
        route = getattr(self._scope.get("route"), "path_format", "none")
        method = self._scope["method"] if self._scope["method"] in _METHODS else "other"
        REQUESTS.labels(method=method, route=route, status=str(status)).inc()


def refuse_other_origins(headers: Headers, method: str) -> None:
    """A server that asks for no key is for this machine alone, and not for the pages that its browsers show.

    Raises:
        Forbidden: the request names another host (DNS rebinding), or a page of another site sent it.
    """
    host = headers.get("host", "")
    if not is_loopback_name(_split(f"//{host}").hostname or ""):
        raise Forbidden("without keys this server answers to localhost only: start it with a key to use another name")
    if method not in _SAFE and not is_own_origin(headers):
        raise Forbidden("a page of another site may not act here")


def is_own_origin(headers: Headers) -> bool:
    """Whether a page of ours sent this, or a client that is no browser: browsers send `Origin` with whatever may change something."""
    origin = headers.get("origin")
    return origin is None or _split(origin).netloc == headers.get("host")


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:  # such as `http://[`: an address of nobody
        return urlsplit("")


def is_loopback_name(host: str) -> bool:
    """Whether this names the machine itself: localhost, 127.0.0.0/8 or ::1."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's body, counted as it comes: what the client says about its length is not believed.

    Raises:
        TooLarge: it has more than `limit` bytes; the rest is not read.
    """
    stated = Headers(scope=scope).get("content-length", "0")
    chunks: list[bytes] = []
    size = int(stated) if stated.isdecimal() and int(stated) > limit else 0
    more = size <= limit
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = size <= limit and message.get("more_body", False)
    if size > limit:
        raise TooLarge(f"the body is larger than {limit} bytes: send it in several requests", limit=limit)
    return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
