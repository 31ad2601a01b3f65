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
# Elsewhere, endpoints let people in, and then read the body: a form, or an upload to an address that was given out.
ELSEWHERE_BODY_BYTES = 12 * 2**20
SIGN_IN = "/sign-in"  # the one form that a stranger may send
SIGN_IN_BYTES = 64 * 2**10
READ_AWAY_BYTES = 256 * 2**20  # of a body that is too large, from somebody with a key
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


def _most_elsewhere(path: str) -> int:
    return SIGN_IN_BYTES if path == SIGN_IN else ELSEWHERE_BODY_BYTES


class _Body:
    """A request's body, counted as it comes: what the client says about its length is not believed."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        headers = Headers(scope=scope)
        stated = headers.get("content-length", "0")
        self._stated = int(stated) if stated.isdecimal() else 0
        self._waits = "expect" in headers and self._stated > limit  # its client sends it only if we ask for it
        self._receive = receive
        self._limit = limit
        self._size = 0
        self.was_read = False  # to its end

    def refuse_stated(self) -> None:
        """Return if the client does not say that the body is too large.

        Raises:
            TooLarge: it does.
        """
        if self._stated > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part, for whoever reads the body.

        Raises:
            TooLarge: with it the body is larger than the limit; the rest is not read.
        """
        message = await self._next()
        if self._size > self._limit:
            raise self._too_large()
        return message

    async def whole(self) -> bytes:
        """All of it.

        Raises:
            TooLarge: it has more bytes than the limit.
            ClientDisconnect: the client went away before its end; what came may be anything's beginning.
        """
        chunks: list[bytes] = []
        try:
            self.refuse_stated()
            while not self.was_read:
                chunks.append(_part(await self.receive()))
        except TooLarge:
            chunks.clear()
            await self._read_away()
            raise
        return b"".join(chunks)

    async def _read_away(self) -> None:
        """Read on and keep nothing: a client that is still sending when the connection ends may never see the answer."""
        while not (self._waits or self.was_read or self._size > READ_AWAY_BYTES):
            _part(await self._next())

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self.was_read = not message.get("more_body", False)
        return message

    def _too_large(self) -> TooLarge:
        reason = f"the body is larger than {self._limit} bytes: send it in several requests"
        return TooLarge(reason, limit=self._limit)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    part: bytes = message.get("body", b"")
    return part


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
        is_api = scope["path"].startswith(API_PATHS)
        most = self._settings.max_body_bytes
        body = _Body(scope, receive, most if is_api else min(most, _most_elsewhere(scope["path"])))
        answer = _Answer(scope, send, body)
        try:
            if not self._settings.require_key:
                refuse_other_origins(Headers(scope=scope), scope["method"])
            if is_api:
                read = await self._let_through(scope, body)
                await self._app(scope, _replay(read, receive), answer.send)
            else:
                body.refuse_stated()
                await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            return
        except Exception as error:
            if answer.begun:
                raise
            await answer_to(error, scope)(scope, receive, answer.send)

    async def _let_through(self, scope: Scope, body: _Body) -> bytes:
        """The request's body, once its sender may send it; the scope then holds whose key came with it."""
        headers = Headers(scope=scope)
        host = scope["client"][0] if scope.get("client") else None
        scope[PERSON] = await asyncio.to_thread(self._admit, headers.get("authorization"), host)
        read = await body.whole()
        encoding = ",".join(headers.getlist("content-encoding"))
        return await self._inflated(read, encoding) if read and encoding else read

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

    def __init__(self, scope: Scope, send: Send, body: _Body) -> None:
        self._scope = scope
        self._send = send
        self._body = body
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if not self._body.was_read and not _is_small(Headers(scope=self._scope)):
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


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
