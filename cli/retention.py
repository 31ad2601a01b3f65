"""`tunemill retention`: how long logs are kept."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, at, connect
from tunemill.cli.jobs import follow
from tunemill.cli.output import complain, print_json, say, when

app = typer.Typer(help="How long logs are kept.", no_args_is_help=True)


@app.command("show")
def show(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Say how long logs are kept, and how many would be dropped now."""
    with connect(url, key) as api:
        answer = api.get("/retention")
    if as_json:
        print_json(answer)
    else:
        _print(answer)


@app.command("set")
def set_limits(
    *,
    days: Annotated[int | None, typer.Option("--days", min=1, help="Drop logs of calls that are older.")] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--bytes", min=1, help="Drop the oldest logs until the index takes no more.")
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Keep all logs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Set how long logs are kept, in place of what was set. Older ones are dropped once an hour."""
    if forever == (days is not None or max_bytes is not None):
        complain("say --days, --bytes or both; or --forever")
        raise typer.Exit(2)
    wanted = {"max_age_days": days, "max_bytes": max_bytes}
    with connect(url, key) as api:
        if (count := api.put("/retention", {**wanted, "dry_run": True})["due"]) and not yes:
            _ask(count)
        answer = api.put("/retention", wanted)
    if as_json:
        print_json(answer)
    else:
        _print(answer)


@app.command("run")
def run(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Drop what is due now, and show how far it is. Ctrl-C leaves it running."""
    with connect(url, key) as api:
        job_id = api.post("/jobs", {"kind": "retention"})["job_id"]
        follow(api, at("jobs", job_id), again=f"tunemill jobs watch {job_id}", as_json=as_json)


def _print(answer: Mapping[str, Any]) -> None:
    limits = []
    if answer["max_age_days"] is not None:
        limits.append(f"for {answer['max_age_days']} days")
    if answer["max_bytes"] is not None:
        limits.append(f"while they take at most {answer['max_bytes']} bytes")
    who = f", set by {answer['by']} at {when(answer['updated_ms'])}" if answer["by"] else ""
    say(f"logs are kept {' and '.join(limits) or 'for ever'}{who}")
    say(f"{answer['logs']} logs in {answer['bytes']} bytes, {answer['due']} of them due to be dropped")


def _ask(count: int) -> None:
    """Go on only if a person says so.

    Raises:
        typer.Exit: they did not, or nobody can be asked.
    """
    if not sys.stdin.isatty():
        complain(f"nothing was set: say --yes to drop {count} logs for good")
        raise typer.Exit(2)
    if not typer.confirm(f"Drop {count} logs for good?", err=True):
        raise typer.Exit(1)
