"""Packs -> `POST /v1/logs` of a tunemill server, over one kept-alive connection of the standard library."""

import contextlib
import http.client
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from tunemill.sdk.errors import BadKey, PartlyRefused, Refused, SendError, TooLarge, Unavailable
from tunemill.sdk.pack import Pack

_TIMEOUT_S = 15.0  # a server that has not taken half a megabyte by then is not well
# Wrong key, wrong address and overload end when somebody acts, and until then the logs can wait.
_LATER = frozenset({401, 403, 404, 408, 425, 429})


class HttpSender:
    """Sends newline-delimited JSON; the server answers once the logs are durable on its bus."""

    def __init__(self, url: str, api_key: str | None) -> None:
        parts = urlsplit(url)
        self._https = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = parts.path.rstrip("/") + "/v1/logs"
        self._headers = {"Content-Type": "application/x-ndjson"}
        if key := _header_text(api_key):
            self._headers["Authorization"] = f"Bearer {key}"
        self._connection: http.client.HTTPConnection | None = None
        self._has_answered = False  # on this connection
        self._is_abandoned = False

    def connect(self) -> None:
        """Connect unless connected."""
        if self._connection is not None:
            return
        make = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            connection.connect()
        except OSError as error:
            raise Unavailable(f"{self._host} cannot be reached ({type(error).__name__})") from error
        self._connection, self._has_answered = connection, False

    def lane(self, key: str) -> int:
        """One lane: the server orders what it publishes."""
        del key
        return 0

    def send(self, packs: Sequence[Pack]) -> Sequence[SendError | None]:
        """One request per pack; after the first that finds nobody, the rest wait."""
        results: list[SendError | None] = []
        for pack in packs:
            results.append(self._post(pack.value))
            if isinstance(results[-1], Unavailable):
                break
        return results + [Unavailable("an earlier message has to be sent again first")] * (len(packs) - len(results))

    def abandon(self) -> None:
        """Wake a thread that waits for the server."""
        self._is_abandoned = True
        with contextlib.suppress(OSError, AttributeError):  # there is no connection, or it has just ended
            self._connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes) -> SendError | None:
        try:
            status, answer = self._exchange_anew(body)
        except Unavailable as error:
            return error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Unavailable(f"{self._host} did not answer ({type(error).__name__})")
        return _outcome(status, answer)

    def _exchange_anew(self, body: bytes) -> tuple[int, bytes]:
        """Servers close a connection that is idle, and that shows only now: then the same on a new one."""
        self.connect()
        try:
            return self._exchange(body)
        except (ConnectionError, http.client.BadStatusLine):
            if not self._has_answered or self._is_abandoned:
                raise
        self.close()
        self.connect()
        return self._exchange(body)

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        """Send one request and read its answer to the end, so that the connection can be used again."""
        connection = self._connection
        if connection is None:
            raise Unavailable("not connected")
        connection.request("POST", self._path, body, self._headers)
        answer = connection.getresponse()
        said = answer.read()
        self._has_answered = True
        if answer.will_close:
            self.close()
        return answer.status, said


def _header_text(api_key: str | None) -> str:
    """The key without the line break that a file or a shell left at its end."""
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise BadKey("the api_key holds characters that a header cannot carry: copy it again")
    return key


class _Rejected(msgspec.Struct):
    item: int
    code: str = ""


class _Taken(msgspec.Struct):
    """The server's answer, as far as it matters here."""

    rejected: list[_Rejected] = []


def _outcome(status: int, answer: bytes) -> SendError | None:
    if 200 <= status < 300:
        return _refused_items(answer)
    if status == 413:
        return TooLarge("the server takes no request of this size")
    if status in _LATER or status < 400 or status >= 500:
        return Unavailable(f"the server answered {status}{_remedy(status)}")
    return Refused(f"the server answered {status}")


def _refused_items(answer: bytes) -> SendError | None:
    """Of a message that was taken, the logs that were not."""
    try:
        rejected = msgspec.json.decode(answer, type=_Taken).rejected
    except msgspec.DecodeError:
        return None  # another server's way to say yes
    if not rejected:
        return None
    return PartlyRefused(f"the server refused them ({rejected[0].code})", frozenset(item.item for item in rejected))


def _remedy(status: int) -> str:
    if status in (401, 403):
        return ": check the api_key"
    if status == 404 or status < 400:
        return ": check that the URL is a tunemill server's"
    return ""
