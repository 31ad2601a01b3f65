"""`tunemill ingest`: a file of logs, one JSON value a line, to a server in batches."""

import gzip
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Refusal, Url, connect
from tunemill.cli.output import complain, print_json, say

_BATCH_BYTES = 512 * 2**10
_BATCH_LINES = 500
_GZIP = b"\x1f\x8b"
_NOT_A_RECORD = frozenset({400, 413, 422})
_BUSY = frozenset({429, 503})
_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_SHOWN_REFUSALS = 10


def ingest(
    file: Annotated[str, typer.Argument(help="A .jsonl or .jsonl.gz file, or - for standard input.")],
    app: Annotated[str | None, typer.Option(help="The application of every record that names none.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send a file of logs to a server.

    Any shape the server accepts. A bad line is sent as it is: the server refuses it, or lists it under `tunemill rejected`.
    """
    with connect(url, key) as api, _opened(file) as (lines, position), _progress(file) as show:
        tally = _send(api, _named(lines, app), lambda done: show(position(), done))
    if as_json:
        print_json({"lines": tally.lines, "accepted": tally.accepted, "refused": tally.refused})
    else:
        _tell(tally)
    if tally.lines and not tally.accepted:
        raise typer.Exit(1)


@dataclass
class Tally:
    """What became of the lines."""

    lines: int = 0  # that are not blank
    accepted: int = 0  # records, as the server counts them
    refused: list[dict[str, Any]] = field(default_factory=list)  # by line number, and why


Line = tuple[int, bytes]  # its number in the file, counted from 1, and what it says


def batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Lines in order, in requests of a bounded size."""
    batch: list[Line] = []
    size = 0
    for number, line in lines:
        if batch and (size + len(line) > _BATCH_BYTES or len(batch) == _BATCH_LINES):
            yield batch
            batch, size = [], 0
        batch.append((number, line))
        size += len(line)
    if batch:
        yield batch


def _send(api: Api, lines: Iterable[Line], show: Callable[[int], None]) -> Tally:
    """Send all; what the server refuses at the door is noted, and the rest goes on."""
    tally = Tally()
    try:
        for batch in batches(lines):
            _send_batch(api, batch, tally)
            tally.lines += len(batch)
            show(tally.lines)
    except (Refusal, httpx.HTTPError):
        complain(f"after {tally.lines} lines. Sending the file again is safe: a record that is there is not doubled.")
        raise
    except (EOFError, OSError, zlib.error) as error:
        complain(f"the file cannot be read to its end, after {tally.lines} lines ({type(error).__name__})")
        raise typer.Exit(1) from error
    return tally


def _send_batch(api: Api, batch: list[Line], tally: Tally) -> None:
    """A batch that is refused for one of its lines is sent line by line."""
    try:
        tally.accepted += _post(api, b"\n".join(line for _, line in batch))
    except Refusal as refusal:
        if refusal.status not in _NOT_A_RECORD:
            raise
        if len(batch) == 1:
            tally.refused.append({"line": batch[0][0], "reason": str(refusal)})
            return
        for line in batch:
            _send_batch(api, [line], tally)


def _post(api: Api, body: bytes) -> int:
    """Send, and again while the server is busy; how many records it accepted."""
    for wait_s in _WAITS_S:
        try:
            return int(api.post_lines("/logs", body)["accepted"])
        except Refusal as refusal:
            if refusal.status not in _BUSY:
                raise
        time.sleep(wait_s)
    return int(api.post_lines("/logs", body)["accepted"])


def _tell(tally: Tally) -> None:
    say(f"{tally.lines} lines sent, {tally.accepted} accepted, {len(tally.refused)} refused")
    for one in tally.refused[:_SHOWN_REFUSALS]:
        complain(f"line {one['line']}: {one['reason']}")
    if len(tally.refused) > _SHOWN_REFUSALS:
        complain(f"and {len(tally.refused) - _SHOWN_REFUSALS} more; --json lists them all")


def _named(lines: Iterable[bytes], app: str | None) -> Iterator[Line]:
    """The lines that are not blank, with the application's name where they have none."""
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if stripped:
            yield number, _with_app(stripped, app) if app is not None else stripped


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
