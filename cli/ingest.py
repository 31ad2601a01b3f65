"""`tunemill ingest`: a file of logs, to a server or straight to Kafka, in batches; it goes on where it was interrupted."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tunemill.cli.batches import batches
from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url
from tunemill.cli.ingest_file import Record, Unreadable, opened
from tunemill.cli.ingest_resume import Place
from tunemill.cli.ingest_target import Problem, Target, opened_target
from tunemill.cli.output import complain, print_json, say

BATCH_BYTES = 512 * 2**10
BATCH_RECORDS = 500
_SHOWN_PROBLEMS = 10
_LISTED_PROBLEMS = 1000


def ingest(
    file: Annotated[str, typer.Argument(help="JSON lines (also .gz, .zst), a JSON array or Parquet; - reads lines.")],
    app: Annotated[str | None, typer.Option(help="The application of every record that names none.")] = None,
    shape: Annotated[
        str | None,
        typer.Option("--format", help="The shape of every record, see `tunemill formats`; others are refused."),
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="kafka://host:port: publish there, without a server. Takes the place of --url.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    from_start: Annotated[bool, typer.Option(help="Send the whole file, also what an earlier try sent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a file of logs, of any shape that is accepted, and count what became of them.

    A record that cannot be read lies under `tunemill dlq list`. Interrupted, the same command goes on where it was.
    """
    is_shape = _shape_check(shape)
    try:
        place = Place(file, broker or url)
        with opened_target(url, key, broker) as target, opened(file) as source, _progress(file) as show:
            tally = Tally(done=0 if from_start else place.read())
            if tally.done:
                complain(f"going on after record {tally.done}; --from-start sends all again")
            sending = _Sending(target, place, tally, is_shape, lambda lines: show(source.position(), lines))
            sending.run(_named(source.records, app))
    except OSError as error:
        complain(f"{file} cannot be read: {error.strerror or type(error).__name__}")
        raise typer.Exit(1) from error
    _tell(tally, as_json=as_json)
    if tally.lines and not tally.accepted:
        raise typer.Exit(1)


@dataclass
class Tally:
    """What became of the records of this call."""

    done: int = 0  # the number of the last record that is settled
    lines: int = 0
    accepted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of the others, by error code
    outcomes: Counter[str] = field(default_factory=Counter)  # of the others: rejected | refused
    problems: list[Problem] = field(default_factory=list)  # the first of them

    def count(self, records: Sequence[Record], problems: Sequence[Problem]) -> None:
        """Add a batch that is settled."""
        self.lines += len(records)
        self.accepted += len(records) - len(problems)
        self.done = records[-1].number
        for problem in problems:
            self.outcomes[problem.outcome] += 1
            self.reasons[problem.code] += 1
        self.problems += problems[: _LISTED_PROBLEMS - len(self.problems)]


@dataclass
class _Sending:
    """One file on its way to one target."""

    target: Target
    place: Place
    tally: Tally
    is_shape: Callable[[bytes], bool]
    show: Callable[[int], None]

    def run(self, records: Iterable[Record]) -> None:
        """Send what is not sent yet; what stops it leaves the place to go on from."""
        after = self.tally.done
        try:
            left = (record for record in records if record.number > after)
            for batch in batches(left, numbers=BATCH_RECORDS, size_bytes=BATCH_BYTES):
                self._send(batch)
        except Unreadable as error:
            complain(f"after {self.tally.lines} records: {error}")
            raise typer.Exit(1) from error
        except BaseException:
            complain(f"stopped after {self.tally.lines} records: the same command goes on after them")
            raise
        self.place.forget()

    def _send(self, batch: Sequence[Record]) -> None:
        right: list[Record] = []
        problems: list[Problem] = []
        for record in batch:
            if self.is_shape(record.value):
                right.append(record)
            else:
                problems.append(Problem(record.number, "refused", "other_format", "not of the named format"))
        self.tally.count(batch, [*problems, *(self.target.send(right) if right else ())])
        self.place.write(self.tally.done)
        self.show(self.tally.lines)


def _shape_check(name: str | None) -> Callable[[bytes], bool]:
    if name is None:
        return lambda record: True
    from tunemill.streams.decode import shapes_in
    from tunemill.streams.errors import Undecodable
    from tunemill.streams.formats.registry import SHAPES

    names = [shape.name for shape in SHAPES]
    if name not in names:
        raise typer.BadParameter(f"there is no format {name!r}; there are {', '.join(names)}")

    def is_of_shape(record: bytes) -> bool:
        try:
            return shapes_in(record) == {name}
        except Undecodable:
            return False

    return is_of_shape


def _tell(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        outcomes = {"accepted": tally.accepted, **{name: tally.outcomes[name] for name in ("rejected", "refused")}}
        problems = [
            {"line": one.number, "outcome": one.outcome, "code": one.code, "reason": one.reason}
            for one in tally.problems
        ]
        print_json({"lines": tally.lines, "outcomes": outcomes, "reasons": tally.reasons, "problems": problems})
        return
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(tally.outcomes.items()))
    say(f"{tally.lines} records sent, {tally.accepted} accepted" + (f", {counts}" if counts else ""))
    for one in tally.problems[:_SHOWN_PROBLEMS]:
        complain(f"record {one.number} {one.outcome}: {one.reason}")
    if sum(tally.outcomes.values()) > _SHOWN_PROBLEMS:
        complain(f"by reason: {', '.join(f'{code} {count}' for code, count in tally.reasons.most_common())}")


def _named(records: Iterable[Record], app: str | None) -> Iterable[Record]:
    """The records with the application's name where they have none."""
    return records if app is None else (Record(number, _with_app(value, app)) for number, value in records)


def _with_app(record: bytes, app: str) -> bytes:
    try:
        value: Any = json.loads(record)
    except (ValueError, RecursionError):
        return record
    if not isinstance(value, dict) or value.get("app"):
        return record
    return json.dumps({**value, "app": app}, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


@contextmanager
def _progress(file: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where a person looks on."""
    total = Path(file).stat().st_size if file != "-" else None
    columns = (TextColumn("{task.fields[lines]} records"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("ingest", total=total, lines=0)
        yield lambda position, lines: bar.update(task, completed=position, lines=lines)
