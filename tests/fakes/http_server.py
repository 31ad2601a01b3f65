"""A real HTTP server on a free port of this machine, whose answers a test writes as a function."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str  # with its query
    headers: dict[str, str]  # lower-case names
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What to answer."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    sent: int | None = None  # after so many bytes of the body nothing more comes
    until: threading.Event | None = None  # when the connection is then cut; at once unless given
    headers: Mapping[str, str] = field(default_factory=dict)  # more of them


@dataclass
class Server:
    """The server's address and what it was asked so far."""

    url: str
    asked: list[Asked] = field(default_factory=list)


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())


@contextmanager
def serving(answer: Callable[[Asked], Answer], *, port: int = 0, idle_s: float | None = None) -> Iterator[Server]:
    """Answer every request with `answer`, until the block ends; a connection that is idle for `idle_s` is closed."""
    server = Server("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = idle_s
        disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement

        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            server.asked.append(asked)
            given = answer(asked)
            self.send_response(given.status)
            self.send_header("Content-Type", given.content_type)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body[: given.sent])
            if given.sent is not None:
                self.wfile.flush()
                if given.until is not None:
                    given.until.wait()
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _reply  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as running:
        server.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            running.shutdown()
            thread.join()
