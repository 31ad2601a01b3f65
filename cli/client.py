"""How the client commands speak to a server: one HTTP client, and its failures as one plain sentence and exit code 1."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from tunemill.cli.output import complain

DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT_S = 120.0  # publishing a version scans the index before it answers

Url = Annotated[str, typer.Option("--url", envvar="TUNEMILL_URL", help="The server's address.")]
Key = Annotated[str | None, typer.Option("--key", envvar="TUNEMILL_KEY", help="The API key.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON, and nothing else, on standard output.")]

DatasetName = Annotated[str, typer.Argument(help="The dataset.")]


class Refusal(Exception):
    """The server answered with a problem; the message is for a person, `problem` is its document (RFC 9457)."""

    def __init__(self, status: int, message: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem or {}


class Api:
    """The API under `/v1`. Each method raises `Refusal` or `httpx.HTTPError`; `connect` turns both into a message and exit code 1."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at a path; parameters that are None are left out."""
        return self._call("GET", path, params=_given(params))

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, once: str | None = None) -> Any:
        """Post JSON and return the answer's; members that are None are left out.

        Args:
            once: a key by which the server knows this request again: it is sent twice where no answer says whether it arrived.
        """
        asked = {"json": _given(body or {}), "headers": {} if once is None else {"Idempotency-Key": once}}
        try:
            return self._call("POST", path, **asked)
        except httpx.TransportError:
            if once is None:
                raise
        return self._call("POST", path, **asked)

    def post_lines(self, path: str, content: bytes, **params: Any) -> Any:
        """Post a body of JSON lines; parameters that are None are left out."""
        kind = {"Content-Type": "application/x-ndjson"}
        return self._call("POST", path, content=content, params=_given(params), headers=kind)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Store something under its name; the JSON of what it is now."""
        return self._call("PUT", path, json=body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change something; the JSON of what it is now."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        """Remove something; the JSON of the answer, None if it has none."""
        return self._call("DELETE", path)

    def stream(self, path: str, **params: Any) -> Iterator[bytes]:
        """A streamed answer, byte for byte: text may hold line separators of Unicode, which end no line of JSON lines."""
        with self._client.stream("GET", f"/v1{path}", params=_given(params)) as answer:
            if not answer.is_success:
                answer.read()
                raise _refusal(answer)
            yield from answer.iter_bytes()

    def _call(self, method: str, path: str, **how: Any) -> Any:
        answer = self._client.request(method, f"/v1{path}", **how)
        if not answer.is_success:
            raise _refusal(answer)
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise Refusal(answer.status_code, "what answers there is not a tunemill server") from error


def at(*parts: str | int) -> str:
    """The path of these parts; a slash in a name stays in that name."""
    return "".join("/" + quote(str(part), safe="") for part in parts)


@contextmanager
def connect(url: str, key: str | None) -> Iterator[Api]:
    """The API at an address. A failure inside ends the command: a message on standard error and exit code 1."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S) as client:
            yield Api(client)
    except (Refusal, httpx.HTTPError, httpx.InvalidURL) as error:
        complain(_explained(error, url))
        raise typer.Exit(1) from error


def _explained(error: Exception, url: str) -> str:
    if isinstance(error, Refusal):
        return str(error)
    if isinstance(error, httpx.ConnectError):
        return f"no server answers at {url}. Start one with `tunemill up`, or name yours with --url or TUNEMILL_URL."
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return f"{url!r} is not an address; it should look like {DEFAULT_URL}"
    return f"{url} did not answer as it should ({type(error).__name__}). Try again, or look at the server's log lines."


def _refusal(answer: httpx.Response) -> Refusal:
    """An RFC 9457 problem body as a sentence, and what to do where we know it."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    title = problem.get("title") or answer.reason_phrase
    detail = _placed(problem)
    said = f"{title}: {detail}" if isinstance(detail, str) and detail != title else str(title)
    remedy = ". Give the API key with --key or TUNEMILL_KEY." if answer.status_code in (401, 403) else ""
    return Refusal(answer.status_code, f"{said} (HTTP {answer.status_code}){remedy}", problem)


def _placed(problem: Mapping[str, Any]) -> object:
    """The detail of a problem, after its place in what was sent, where it does not say that itself."""
    detail, place = problem.get("detail"), problem.get("place")
    is_bare = isinstance(detail, str) and isinstance(place, str) and not detail.startswith(place)
    return f"{place}: {detail}" if is_bare else detail


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
