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


class Api:
    """The API under `/v1`. Every failure ends the command: a message on standard error and exit code 1."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self._client = client
        self._url = url

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at a path; parameters that are None are left out."""
        return self._call("GET", path, params=_given(params)).json()

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Post JSON and return the answer's."""
        return self._call("POST", path, json=_given(body or {})).json()

    def post_bytes(self, path: str, content: bytes, content_type: str) -> Any:
        """Post a body that is JSON lines already."""
        return self._call("POST", path, content=content, headers={"Content-Type": content_type}).json()

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change something; the JSON of what it is now."""
        return _json_or_none(self._call("PATCH", path, json=body))

    def delete(self, path: str) -> Any:
        """Remove something; the JSON of the answer, if it has one."""
        return _json_or_none(self._call("DELETE", path))

    def lines(self, path: str, **params: Any) -> Iterator[str]:
        """The lines of a streamed answer."""
        with self._explained(), self._client.stream("GET", f"/v1{path}", params=_given(params)) as answer:
            if answer.is_error:
                answer.read()
                self._check(answer)
            yield from answer.iter_lines()

    def _call(self, method: str, path: str, **how: Any) -> httpx.Response:
        with self._explained():
            answer = self._client.request(method, f"/v1{path}", **how)
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        complain(_problem(answer))
        raise typer.Exit(1)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            complain(
                f"no server answers at {self._url}. Start one with `tunemill up`, or name yours with --url or TUNEMILL_URL."
            )
            raise typer.Exit(1) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            complain(
                f"{self._url} did not answer as it should ({type(error).__name__}). Try again, or look at the server's log lines."
            )
            raise typer.Exit(1) from error


def at(*parts: str | int) -> str:
    """The path of these parts; a slash in a name stays in that name."""
    return "".join("/" + quote(str(part), safe="") for part in parts)


@contextmanager
def connect(url: str, key: str | None) -> Iterator[Api]:
    """The API at an address."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        client = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S)
    except httpx.InvalidURL as error:
        complain(f"{url!r} is not an address; it should look like {DEFAULT_URL}")
        raise typer.Exit(1) from error
    with client:
        yield Api(client, url)


def _problem(answer: httpx.Response) -> str:
    """An RFC 9457 problem body as a sentence, and what to do where we know it."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    title = problem.get("title") or answer.reason_phrase
    detail = problem.get("detail")
    said = f"{title}: {detail}" if isinstance(detail, str) and detail != title else str(title)
    remedy = " Give the API key with --key or TUNEMILL_KEY." if answer.status_code in (401, 403) else ""
    return f"{said} (HTTP {answer.status_code}){'.' + remedy if remedy else ''}"


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _json_or_none(answer: httpx.Response) -> Any:
    return answer.json() if answer.content else None
