"""`tunemill ingest`: a file of logs, one JSON value a line, to a server in batches."""

import gzip
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, connect
from tunemill.cli.output import complain, print_json, say

_BATCH_BYTES = 512 * 2**10
_BATCH_LINES = 500
_GZIP = b"\x1f\x8b"


def ingest(
    file: Annotated[str, typer.Argument(help="A .jsonl or .jsonl.gz file, or - for standard input.")],
    app: Annotated[str | None, typer.Option(help="The application of every record that names none.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send a file of logs to a server.

    Any shape the server accepts. A line that is not JSON is sent as it is: the server lists it under `tunemill rejected`.
    """
    with connect(url, key) as api, _opened(file) as (lines, position), _progress(file) as show:
        sent, accepted = _send(api, _named(lines, app), lambda done: show(position(), done))
    if as_json:
        print_json({"lines": sent, "accepted": accepted})
    else:
        say(f"{sent} lines sent, {accepted} accepted")


def batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lines in order, in requests of a bounded size. A line that is no JSON object travels alone, and takes no other with it."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        alone = not line.startswith(b"{")
        if batch and (alone or size + len(line) > _BATCH_BYTES or len(batch) == _BATCH_LINES):
            yield batch
            batch, size = [], 0
        if alone:
            yield [line]
            continue
        batch.append(line)
        size += len(line)
    if batch:
        yield batch


def _send(api: Api, lines: Iterable[bytes], show: Callable[[int], None]) -> tuple[int, int]:
    """Send all; how many lines were sent and how many the server accepted."""
    sent = accepted = 0
    try:
        for batch in batches(lines):
            answer = api.post_bytes("/logs", b"\n".join(batch), "application/x-ndjson")
            sent += len(batch)
            accepted += int(answer["accepted"])
            show(sent)
    except typer.Exit:
        complain(
            f"{sent} lines were sent before. Sending the file again is safe: a record that is there already is not doubled."
        )
        raise
    except (EOFError, OSError) as error:
        complain(f"the file cannot be read to its end after {sent} lines ({type(error).__name__})")
        raise typer.Exit(1) from error
    return sent, accepted


def _named(lines: Iterable[bytes], app: str | None) -> Iterator[bytes]:
    """The lines that are not blank, with the application's name where they have none."""
    for line in lines:
        stripped = line.strip()
        if stripped:
            yield _with_app(stripped, app) if app is not None else stripped


def _with_app(line: bytes, app: str) -> bytes:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(value, dict) or value.get("app"):
        return line
    return json.dumps({**value, "app": app}, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


@contextmanager
def _opened(file: str) -> Iterator[tuple[Iterable[bytes], Callable[[], int]]]:
    """The file's lines, unpacked where it is packed, and how many of its bytes were read."""
    if file == "-":
        yield _unpacked(sys.stdin.buffer), lambda: 0
        return
    try:
        raw = Path(file).open("rb")  # noqa: SIM115 - closed below; a directory fails here
    except OSError as error:
        complain(f"{file} cannot be read: {error.strerror}")
        raise typer.Exit(1) from error
    with raw:
        yield _unpacked(raw), raw.tell


def _unpacked(raw: BinaryIO) -> Iterable[bytes]:
    """Told by its first bytes, not by its name."""
    peeked = raw.peek(2)[:2] if hasattr(raw, "peek") else b""
    return gzip.open(raw) if peeked == _GZIP else raw


@contextmanager
def _progress(file: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where a person looks on."""
    total = Path(file).stat().st_size if file != "-" else None
    columns = (TextColumn("{task.fields[lines]} lines"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("ingest", total=total, lines=0)
        yield lambda position, lines: bar.update(task, completed=position, lines=lines)
