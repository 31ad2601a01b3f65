"""`tunemill runs`: follow training runs."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.output import cell, complain, fields, print_json, say, table, when

ENDED = frozenset({"succeeded", "rejected", "failed", "cancelled"})
_POLL_S = 2.0
_EVENTS_PAGE = 1000

RunId = Annotated[str, typer.Argument(metavar="RUN_ID")]

app = typer.Typer(help="Follow training runs.", no_args_is_help=True)


@app.command("list")
def list_runs(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the runs, the newest first."""
    with connect(url, key) as api:
        answer = api.get("/runs")
    if as_json:
        print_json(answer)
        return
    table(
        ("run", "status", "dataset", "method", "attempt"),
        (
            (run["run_id"], run["status"], _dataset(run), (run.get("recipe") or {}).get("method"), run["attempt"])
            for run in answer["runs"]
        ),
    )


@app.command("show")
def show_run(run_id: RunId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show one run."""
    with connect(url, key) as api:
        run = api.get(at("runs", run_id))
    if as_json:
        print_json(run)
    else:
        fields(run)


@app.command("events")
def events(run_id: RunId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List what happened in a run, in order."""
    with connect(url, key) as api:
        happened = list(_events(api, run_id, None))
    if as_json:
        print_json({"events": happened})
        return
    for event in happened:
        _show_event(event)


@app.command("cancel")
def cancel(run_id: RunId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Ask a run to stop."""
    with connect(url, key) as api:
        answer = api.post(at("runs", run_id, "cancel"))
    if as_json:
        print_json(answer)
    else:
        say(f"{run_id} was asked to stop")


@app.command("watch")
def watch(run_id: RunId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a run until it ends. Exit code 0 only if it succeeded."""
    with connect(url, key) as api:
        follow(api, run_id, as_json=as_json)


def follow(api: Api, run_id: str, *, as_json: bool) -> None:
    """Print a run's events as they come, or with `as_json` its last state alone, until it ends.

    Raises:
        typer.Exit: it ended other than well.
    """
    shown = 0
    while True:
        run = api.get(at("runs", run_id))  # before the events, so that none comes after the last look
        for event in _events(api, run_id, shown) if not as_json else ():
            _show_event(event)
            shown = event["seq"]
        if run["status"] in ENDED:
            break
        time.sleep(_POLL_S)
    _show_end(run, as_json=as_json)


def _events(api: Api, run_id: str, shown: int | None) -> Iterator[Mapping[str, Any]]:
    """A run's events, all pages of them, after the one that was shown last."""
    cursor = None
    while True:
        page = api.get(at("runs", run_id, "events"), limit=_EVENTS_PAGE, cursor=cursor)
        yield from (event for event in page["events"] if shown is None or event["seq"] > shown)
        cursor = page["cursor"]
        if cursor is None:
            return


def _show_event(event: Mapping[str, Any]) -> None:
    say(f"{when(event['ts_ms'])}  {event['message']}  {cell(event['data']) if event['data'] else ''}".rstrip())


def _show_end(run: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(run)
    if run["status"] == "succeeded":
        return
    if not as_json:
        complain(f"run {run['run_id']} ended as {run['status']}. See `tunemill runs show {run['run_id']}`.")
    raise typer.Exit(1)


def _dataset(run: Mapping[str, Any]) -> str:
    return f"{run['name']}@v{run['version']}"
