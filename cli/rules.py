"""`tunemill rules`: what sets tags by itself; try it out, put it in force, apply it to history."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.jobs import follow, progress
from tunemill.cli.output import cell, complain, print_json, safe, say, table, tell, when

RulesFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="Rules in YAML, as docs/tags.md has it; - for standard input.")
]
SearchText = Annotated[str, typer.Option("--query", help="Only logs that match, as in `tunemill search`.")]
BackfillId = Annotated[str, typer.Argument(metavar="BACKFILL_ID")]

app = typer.Typer(help="Try rules out, put them in force, apply them to history.", no_args_is_help=True)


@app.command("check")
def check(file: RulesFile, as_json: AsJson = False) -> None:
    """Say what is wrong with a file of rules, by line and column. Needs no server."""
    _read(file, as_json=as_json)
    tell({"errors": []}, f"{file}: nothing is wrong", as_json=as_json)


@app.command("show")
def show(
    *,
    revision: Annotated[int | None, typer.Option(help="Not those in force, but an earlier revision's.", min=0)] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Print the rules in force, to be edited and applied again."""
    with connect(url, key) as api:
        answer = api.get("/rules" if revision is None else at("rules", revision))
    if as_json:
        print_json(answer)
        return
    document = answer["document"]
    typer.echo(safe(document) if sys.stdout.isatty() else document, nl=not document.endswith("\n"))
    typer.echo(_revision(answer), err=True)


@app.command("dry-run")
def dry_run(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Rules in YAML; left out: the rules in force.")
    ] = None,
    *,
    query: SearchText = "",
    limit: Annotated[int, typer.Option(help="How many logs to look at, the oldest first.", min=1, max=10_000)] = 1_000,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show what rules would do to the tags of stored logs, without doing it."""
    document = None if file is None else _read(file, as_json=as_json)
    with connect(url, key) as api:
        answer = api.post("/rules/dry-run", {"document": document, "query": query, "limit": limit})
    if as_json:
        print_json(answer)
        return
    table(("tag", "added", "removed", "kept", "such as"), (_effect(one) for one in answer["tags"]))
    say(f"{answer['looked_at']} logs looked at; {answer['changed']} would change")


@app.command("apply")
def apply(file: RulesFile, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Put rules in force. Running workers take them up within seconds; stored logs keep their tags until a backfill."""
    document = _read(file, as_json=as_json)
    with connect(url, key) as api:
        before = api.get("/rules")
        answer = api.post("/rules", {"document": document, "expected_revision": before["revision"]})
    for surprise in _surprises(before["document"], document):
        complain(surprise)
    tell(
        answer,
        f"revision {answer['revision']} is in force. `tunemill rules backfill` applies it to logs that are stored.",
        as_json=as_json,
    )


@app.command("reset")
def reset(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Go back to the packaged starter set, which an upgrade may change. What was in force can be applied again."""
    with connect(url, key) as api:
        answer = api.delete("/rules")
    tell(answer, f"revision {answer['revision']} is in force: the starter set.", as_json=as_json)


@app.command("backfill")
def backfill(*, query: SearchText = "", url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Set the tags of stored logs anew by the rules in force, and show how far it is. Ctrl-C leaves it running."""
    with connect(url, key) as api:
        begun = api.post("/backfills", {"query": query})
        _follow(api, begun["backfill_id"], as_json=as_json)


@app.command("backfills")
def list_backfills(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List backfills, the newest first."""
    with connect(url, key) as api:
        answer = api.get("/backfills")
    if as_json:
        print_json(answer)
        return
    columns = ("status", "revision", "seen", "total", "changed", "undone", "query")
    table(
        ("backfill", "began (UTC)", *columns),
        (
            (one["backfill_id"], when(one["created_ms"]), *(one[name] for name in columns))
            for one in answer["backfills"]
        ),
    )


@app.command("watch")
def watch(backfill_id: BackfillId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a backfill, or its undoing, until it ends. Exit code 0 only if it ended well."""
    with connect(url, key) as api:
        _follow(api, backfill_id, as_json=as_json)


@app.command("cancel")
def cancel(backfill_id: BackfillId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Stop a backfill where it is. What it did so far stays, and can be undone."""
    with connect(url, key) as api:
        answer = api.post(at("backfills", backfill_id, "cancel"))
    tell(answer, f"stopped; {progress(answer)}", as_json=as_json)


@app.command("undo")
def undo(backfill_id: BackfillId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Take back what a backfill did to tags, where nobody changed it since. The rules in force stay."""
    with connect(url, key) as api:
        api.post(at("backfills", backfill_id, "undo"))
        _follow(api, backfill_id, as_json=as_json)


def _read(file: Path, *, as_json: bool) -> str:
    """The rules in a file.

    Raises:
        typer.Exit: they are wrong, and it was said where; or the file cannot be read.
    """
    from tunemill.streams.errors import RulesInvalid
    from tunemill.streams.rules import read_rules

    try:
        document = (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode()
        read_rules(document)
    except (OSError, UnicodeDecodeError) as error:
        complain(f"{file} cannot be read: {error.strerror if isinstance(error, OSError) else 'it is not UTF-8'}")
        raise typer.Exit(2) from error
    except RulesInvalid as error:
        if as_json:
            print_json({"errors": [wrong._asdict() for wrong in error.errors]})
        for wrong in () if as_json else error.errors:
            say(f"{file}:{wrong}")
        raise typer.Exit(1) from error
    return document


def _surprises(before: str, after: str) -> Iterator[str]:
    """What somebody who puts `after` in force in place of `before` may not have meant."""
    from tunemill.streams.errors import RulesInvalid
    from tunemill.streams.rules_text import read_document

    try:
        (known, had), (rules, has) = read_document(before, "rules"), read_document(after, "rules")
    except RulesInvalid:  # those in force are for another version of tunemill
        return
    if has != had:
        yield f"`private_data` is {has} now; it was {had}"
    by_name = {rule.name: rule for rule in known}
    for rule in rules:
        was = by_name.get(rule.name, rule)
        if was.version == rule.version and replace(was, enabled=rule.enabled) != rule:
            yield f"rule {rule.name} was changed and is still version {rule.version}: raise it, to tell what each of them tagged"


def _follow(api: Api, backfill_id: str, *, as_json: bool) -> None:
    follow(api, at("backfills", backfill_id), again=f"tunemill rules watch {backfill_id}", as_json=as_json)


def _effect(one: Mapping[str, Any]) -> tuple[Any, ...]:
    counts = [one[kind]["count"] for kind in ("added", "removed", "kept")]
    examples = [log_id for kind in ("added", "removed") for log_id in one[kind]["log_ids"]][:3]
    return (one["tag"], *counts, cell(examples))


def _revision(answer: Mapping[str, Any]) -> str:
    learned = f", with the learned tags {cell(answer['learned'])}" if answer["learned"] else ""
    what = "the packaged starter set" if answer["is_starter"] else "rules of the project's own"
    who = f", by {answer['by']} at {when(answer['created_ms'])}" if answer["by"] else ""
    return safe(f"# revision {answer['revision']}: {what}{learned}{who}")
