"""What holds for every request before an endpoint sees it: where it may come from, who may send it, how large it may be; and
for every answer."""

import asyncio
import ipaddress
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunemill.curator_api.body_work import BodyWork
from tunemill.curator_api.errors import Forbidden, TooLarge
from tunemill.curator_api.inflate import inflate
from tunemill.curator_api.problems import answer_to
from tunemill.curator_api.settings import Settings
from tunemill.telemetry.metrics import REQUESTS

API_PATHS = ("/v1/", "/api/public/")  # what lies here is for those with a key, and their key is looked at first
PERSON = "tunemill.person"  # where the scope of a request holds who the guard let in
ELSEWHERE_BODY_BYTES = 12 * 2**20  # forms, and uploads to an address that was given out: their endpoints let people in
LEFT_UNREAD_BYTES = 2**20  # up to here the server reads a refused body away; a larger one ends the connection

USUAL_RATIO = 10  # of compressed JSON: tells large work by the size that came

Admit = Callable[[str | None, str | None], str]  # the Authorization header, the client's host -> who that is; may block

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

    def __init__(self, app: ASGIApp, *, settings: Settings, admit: Admit, body_work: BodyWork) -> None:
        self._app = app
        self._settings = settings
        self._admit = admit
        self._body_work = body_work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        try:
            body = await self._let_through(scope, receive)
            answer.was_read = True
            await self._app(scope, _replay(body, receive), answer.send)
        except ClientDisconnect:
            return
        except Exception as error:
            if answer.begun:
                raise
            await answer_to(error, scope)(scope, receive, answer.send)

    async def _let_through(self, scope: Scope, receive: Receive) -> bytes:
        """The request's body, once its sender may send it; where a key is asked for, the scope then holds whose it is."""
        headers = Headers(scope=scope)
        if not self._settings.require_key:
            refuse_other_origins(headers, scope["method"])
        limit = self._settings.max_body_bytes
        if not scope["path"].startswith(API_PATHS):
            return await read_body(scope, receive, min(limit, ELSEWHERE_BODY_BYTES))
        host = scope["client"][0] if scope.get("client") else None
        scope[PERSON] = await asyncio.to_thread(self._admit, headers.get("authorization"), host)
        body = await read_body(scope, receive, limit)
        encoding = ",".join(headers.getlist("content-encoding"))
        return await self._inflated(body, encoding) if body and encoding else body

    async def _inflated(self, body: bytes, encoding: str) -> bytes:
        work = partial(
            inflate,
            body,
            encoding,
            max_bytes=self._settings.max_inflated_bytes,
            max_ratio=self._settings.max_inflation_ratio,
            any_ratio_bytes=self._settings.max_body_bytes,
        )
        return await self._body_work.run(len(body) * USUAL_RATIO, work)


class _Answer:
    """Sends the answer on, with the headers that every answer has, and counts it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self.begun = False
        self.was_read = False  # the request's body, to its end

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if not self.was_read and not _is_small(Headers(scope=self._scope)):
                headers["Connection"] = "close"
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


def _is_small(headers: Headers) -> bool:
    """Whether the client says that its body is nothing much; without a length it may be anything."""
    stated = headers.get("content-length", "0" if "transfer-encoding" not in headers else "")
    return stated.isdecimal() and int(stated) <= LEFT_UNREAD_BYTES


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's body, counted as it comes: what the client says about its length is not believed.

    Raises:
        TooLarge: it has more than `limit` bytes; the rest is not read.
        ClientDisconnect: the client went away before its end; what came may be anything's beginning.
    """
    stated = Headers(scope=scope).get("content-length", "0")
    chunks: list[bytes] = []
    size = int(stated) if stated.isdecimal() and int(stated) > limit else 0
    more = size <= limit
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
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
