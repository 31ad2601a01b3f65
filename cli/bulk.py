"""`tunemill bulk`: do something to all logs that match a query, after it was said how many they are."""

import sys
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, at, connect
from tunemill.cli.jobs import follow
from tunemill.cli.output import complain, say, tell
from tunemill.cli.query_command import QueryCommand
from tunemill.schemas.ids import new_id

QueryText = Annotated[
    str, typer.Argument(metavar="QUERY", help="Which logs, as in `tunemill search`; empty: every log.")
]
Why = Annotated[str | None, typer.Option("--why", help="The reason, kept with each log's history.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

app = typer.Typer(help="Tag, delete or set the consent of all logs that match.", no_args_is_help=True)


@app.command("tag", cls=QueryCommand)
def tag(
    query: QueryText,
    *,
    add: Annotated[list[str] | None, typer.Option(help="A tag to add; may be given more than once.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take off; may be given more than once.")] = None,
    why: Why = None,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Add tags to all logs that match, or take them off. `tunemill jobs undo` takes it back."""
    wanted = {"kind": "tags", "query": query, "add": add or [], "remove": remove or [], "why": why}
    _do(wanted, "change the tags of", yes=yes, url=url, key=key, as_json=as_json)


@app.command("consent", cls=QueryCommand)
def consent(
    query: QueryText,
    word: Annotated[str, typer.Argument(metavar="CONSENT", help="train, eval_only or none.")],
    *,
    why: Why = None,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Set the consent of all logs that match. `tunemill jobs undo` takes it back."""
    wanted = {"kind": "consent", "query": query, "consent": word, "why": why}
    _do(wanted, "set the consent of", yes=yes, url=url, key=key, as_json=as_json)


@app.command("delete", cls=QueryCommand)
def delete(
    query: QueryText,
    *,
    why: Why = None,
    everything: Annotated[bool, typer.Option("--everything", help="An empty query is really meant.")] = False,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have all logs that match forgotten, for good."""
    wanted = {"kind": "delete", "query": query, "why": why, "everything": everything}
    _do(wanted, "delete for good", yes=yes, url=url, key=key, as_json=as_json)


def _do(wanted: dict[str, Any], what: str, *, yes: bool, url: str, key: str | None, as_json: bool) -> None:
    """Count, ask, have it done, and show how far it is. Ctrl-C leaves it running."""
    with connect(url, key) as api:
        counted = api.post("/jobs", {**wanted, "dry_run": True})
        if not (total := counted["total"]):
            tell(counted, "nothing matches, so nothing is done", as_json=as_json)
            return
        logs = f"{total} log{'' if total == 1 else 's'}"
        if not as_json:
            say(f"{logs} match{'es' if total == 1 else ''}")
        if not yes:
            _ask(f"{what} {logs}")
        job_id = api.post("/jobs", {**wanted, "expected_total": total}, once=new_id())["job_id"]
        follow(api, at("jobs", job_id), again=f"tunemill jobs watch {job_id}", as_json=as_json)


def _ask(what: str) -> None:
    """Go on only if a person says so.

    Raises:
        typer.Exit: they did not, or nobody can be asked.
    """
    if not _can_answer():
        complain(f"nothing was done: say --yes to {what}")
        raise typer.Exit(2)
    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        raise typer.Exit(1)


def _can_answer() -> bool:
    return sys.stdin.isatty()
