"""`tunemill dataset export` and `import`: rows to and from files."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, DatasetName, Key, Url, at, connect
from tunemill.cli.output import complain, tell
from tunemill.cli.recipe import name_and_version


def register(app: typer.Typer) -> None:
    """Add the commands to `tunemill dataset`."""
    app.command("export")(export)
    app.command("import")(import_rows)


def export(
    dataset: Annotated[str, typer.Argument(help="The dataset version, as in support@v1.")],
    *,
    split: Annotated[str | None, typer.Option(help="train or test; both unless told.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; standard output unless told.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Write a version as chat JSON lines, the form that OpenAI's fine-tuning takes."""
    name, version = name_and_version(dataset)
    with connect(url, key) as api:
        content = api.stream(at("datasets", name, "versions", version, "export"), split=split)
        if out is None:
            for some in content:
                sys.stdout.buffer.write(some)
            return
        count = _write(out, content)
    tell({"rows": count, "file": str(out)}, f"{count} rows written to {out}", as_json=as_json)


def import_rows(
    name: DatasetName,
    file: Annotated[Path, typer.Argument(help="Chat JSON lines, as OpenAI's fine-tuning takes; - for standard input.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Add rows of a file to the draft."""
    with connect(url, key) as api:
        answer = api.post_lines(at("datasets", name, "import"), content_of(file))
    told = ", ".join(f"{answer[name]} {name}" for name in ("lines", "imported", "known", "failed"))
    tell(answer, told, as_json=as_json)
    for error in answer["errors"]:
        complain(f"line {error['line']}: {error['reason']}")


def content_of(file: Path) -> bytes:
    """What is in a file, or in standard input for `-`."""
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        complain(f"{file} cannot be read: {error.strerror}")
        raise typer.Exit(1) from error


def _write(out: Path, content: Iterator[bytes]) -> int:
    """A file that is there is whole: it gets its name last. How many lines it has."""
    partial = out.with_name(out.name + ".partial")
    count = 0
    try:
        with partial.open("wb") as file:
            for some in content:
                file.write(some)
                count += some.count(b"\n")
        partial.replace(out)
    except OSError as error:
        complain(f"{out} cannot be written: {error.strerror}")
        raise typer.Exit(1) from error
    finally:
        partial.unlink(missing_ok=True)
    return count
