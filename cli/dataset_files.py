"""`tunemill dataset export` and `import`: rows to and from files."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, DatasetName, Key, Url, at, connect
from tunemill.cli.export_hub import InTheWay, write_folder
from tunemill.cli.export_lines import write_lines
from tunemill.cli.import_file import Unreadable, lines_in
from tunemill.cli.import_send import Sending, Tally
from tunemill.cli.ingest_resume import Place
from tunemill.cli.output import cell, complain, tell
from tunemill.curator_api.hub_folder import NoDataSet, data_files, licence
from tunemill.curator_api.row_formats import FORMATS

_SHOWN_ERRORS = 10
_SOURCE_CHARACTERS = 200


class Format(StrEnum):
    """What an export is written as."""

    OPENAI = "openai"
    SHAREGPT = "sharegpt"
    ALPACA = "alpaca"
    PROMPT_COMPLETION = "prompt_completion"
    PREFERENCE = "preference"
    HUB = "hub"


class OnError(StrEnum):
    """What a line that cannot be imported does."""

    SKIP = "skip"
    STOP = "stop"


def register(app: typer.Typer) -> None:
    """Add the commands to `tunemill dataset`."""
    app.command("export")(export)
    app.command("import")(import_rows)


def export(
    dataset: Annotated[
        str, typer.Argument(help="The dataset version, as in support@v1, support@latest or support@best, an alias.")
    ],
    *,
    row_format: Annotated[
        Format, typer.Option("--format", help="Lines in one of these formats; hub is a folder for load_dataset.")
    ] = Format.OPENAI,
    split: Annotated[str | None, typer.Option(help="train or test; both unless told.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write, for hub the folder; standard output unless told."),
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Write a version as files that other tools read, and say what it loses in them. Interrupted, the same command goes on."""
    name, _, wanted = dataset.partition("@")
    if not name or not wanted:
        complain(f"{dataset!r} names no dataset version; it should look like support@v1")
        raise typer.Exit(2)
    if row_format is Format.HUB and (out is None or split is not None):
        complain("the format hub writes a folder with both splits: give --out FOLDER, and no --split")
        raise typer.Exit(2)
    with connect(url, key) as api:
        version = api.get(at("datasets", name, "versions", wanted))
        whence = _Whence(api, version, row_format)
        if out is None:
            for some in whence.content(split, 0):
                sys.stdout.buffer.write(some)
        written = {} if out is None else _written(out, whence, split)
        losses = whence.losses(split)
    if out is not None:
        answer = {**written, "format": row_format, "digest": version["digest"], "losses": losses}
        tell(answer, f"{written['rows']} rows written to {out}", as_json=as_json)
    for reason, rows in losses.items():
        complain(f"{rows} rows: {reason} (see the table of losses in docs/datasets-files.md)")


class _Whence(NamedTuple):
    """A version, and how to get its rows."""

    api: Api
    version: dict[str, Any]
    row_format: Format

    def content(self, split: str | None, done: int) -> Iterator[bytes]:
        """The lines after so many."""
        return self.api.stream(
            f"{self._at()}/export", format=self._lines, split=split, skip=done or None, digest=self.version["digest"]
        )

    def losses(self, split: str | None) -> dict[str, int]:
        """How many rows lose what. A format that holds all of them is not asked about: the answer takes as long as an export."""
        if not FORMATS[self._lines].LOSES:
            return {}
        told: dict[str, int] = self.api.get(f"{self._at()}/export/losses", format=self._lines, split=split)["losses"]
        return told

    @property
    def _lines(self) -> str:
        """Parquet is made from the format that holds every row whole."""
        return Format.OPENAI if self.row_format is Format.HUB else self.row_format

    def _at(self) -> str:
        return at("datasets", self.version["name"], "versions", self.version["version"])


def _written(out: Path, whence: _Whence, split: str | None) -> dict[str, Any]:
    try:
        if whence.row_format is Format.HUB:
            manifest = write_folder(out, whence.version, whence.content)
            return {"rows": manifest["rows"], "folder": str(out), "files": len(manifest["files"])}
        begun = f"{whence.version['digest'][:16]}-{whence.row_format}-{split or 'all'}"
        return {"rows": write_lines(out, begun, lambda done: whence.content(split, done)), "file": str(out)}
    except InTheWay as error:
        complain(str(error))
    except OSError as error:
        complain(f"{out} cannot be written: {error.strerror or error}")
    raise typer.Exit(1)


def import_rows(
    name: DatasetName,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="JSON lines (also .gz), a JSON array, Parquet, or a folder as the hub lays it out; - reads lines.",
        ),
    ],
    *,
    source: Annotated[
        str | None, typer.Option(help="The set that the rows come from; the file's or folder's name unless told.")
    ] = None,
    terms: Annotated[
        str | None, typer.Option("--licence", help="The set's licence; what a folder's README.md says unless told.")
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Test with these rows, never train; of a folder its splits say so.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option("--map", help="What members are called in the file, as in question=prompt,answer=completion."),
    ] = None,
    on_error: Annotated[OnError, typer.Option(help="Whether a line that cannot be imported ends it.")] = OnError.SKIP,
    from_start: Annotated[bool, typer.Option(help="Send all of it, also what an earlier try sent.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Add the rows of files to the draft, whatever known format each row is in. Interrupted, the same command goes on."""
    tally = Tally()
    with connect(url, key) as api:
        for one in (one for file in files for one in _sources(file, source, terms)):
            out, stops = held_out or one.held_out, on_error is OnError.STOP
            sending = Sending(api, name, one.shown, one.source, one.licence, out, columns, stops)
            with _lines_of(one.path) as lines:
                place = Place(one.shown, f"{url} {name}")
                if after := 0 if from_start else place.read():
                    complain(f"{one.shown}: going on after line {after}; --from-start sends all again")
                sending.run(lines, place, tally, after=after)
            if tally.stopped:
                break
    told = ", ".join(f"{getattr(tally, count)} {count}" for count in ("lines", "imported", "known", "failed"))
    tell(tally.told(), told, as_json=as_json)
    for error in tally.errors[:_SHOWN_ERRORS]:
        complain(f"{error['file']}: line {error['line']}: {error['reason']}")
    if tally.failed > _SHOWN_ERRORS:
        complain(f"and {tally.failed - _SHOWN_ERRORS} more; --json lists the first thousand")
    if tally.unread:
        complain(f"not imported, for no row has a place for it: {cell(dict(tally.unread))}")
    if tally.stopped or (tally.failed and not tally.imported + tally.known):
        raise typer.Exit(1)


def content_of(file: Path) -> bytes:
    """What is in a file, or in standard input for `-`."""
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        complain(f"{file} cannot be read: {error.strerror}")
        raise typer.Exit(1) from error


class _Source(NamedTuple):
    """A file to read, and what to say of where it came from."""

    path: Path | None  # None: standard input
    shown: str
    source: str
    licence: str | None
    held_out: bool = False  # by the folder that it is of


def _sources(file: Path, source: str | None, terms: str | None) -> list[_Source]:
    """A file, or each file of a folder."""
    if str(file) == "-":
        return [_Source(None, "-", source or "", terms)]
    label = source or file.resolve().name
    if not file.is_dir():
        return [_Source(file, str(file), label[:_SOURCE_CHARACTERS], terms)]
    try:
        readme = file / "README.md"
        text = readme.read_text(encoding="utf-8") if readme.is_file() else None
        names = [path.relative_to(file).as_posix() for path in file.rglob("*") if path.is_file()]
        found = data_files(names, text)
        stated = terms or licence(text)
    except (NoDataSet, OSError, UnicodeDecodeError) as error:
        complain(f"{file}: {error if isinstance(error, NoDataSet) else 'it cannot be read'}")
        raise typer.Exit(1) from error
    return [
        _Source(
            file / one.path, str(file / one.path), f"{label}/{one.split}"[-_SOURCE_CHARACTERS:], stated, one.held_out
        )
        for one in found
    ]


@contextmanager
def _lines_of(path: Path | None) -> Iterator[Any]:
    shown = path or "standard input"
    try:
        if path is None:
            yield lines_in(io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer)))
        else:
            with path.open("rb") as file:
                yield lines_in(file)
    except Unreadable as error:
        complain(f"{shown}: {error}")
        raise typer.Exit(1) from error
    except OSError as error:
        complain(f"{shown} cannot be read: {error.strerror or type(error).__name__}")
        raise typer.Exit(1) from error
