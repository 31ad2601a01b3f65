"""`tunemill runs`: follow training runs."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.output import cell, complain, items, print_json, say, table, when

ENDED = frozenset({"succeeded", "rejected", "failed", "cancelled"})
_POLL_S = 2.0

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
            (run["run_id"], run["status"], _dataset(run), (run.get("recipe") or {}).get("method"), run.get("attempt"))
            for run in items(answer, "runs")
        ),
    )


@app.command("show")
def show_run(run_id: RunId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show one run."""
    with connect(url, key) as api:
        run = api.get(at("runs", run_id))
    if as_json:
        print_json(run)
        return
    for name, value in run.items():
        say(f"{name}: {when(value) if name.endswith('_ms') else cell(value)}")


@app.command("events")
def events(run_id: RunId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List what happened in a run, in order."""
    with connect(url, key) as api:
        answer = api.get(at("runs", run_id, "events"))
    if as_json:
        print_json(answer)
        return
    for event in items(answer, "events"):
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
        if not as_json:
            shown = _show_new(api, run_id, shown)
        if run["status"] in ENDED:
            break
        time.sleep(_POLL_S)
    _show_end(run, as_json=as_json)


def _show_new(api: Api, run_id: str, shown: int) -> int:
    happened = items(api.get(at("runs", run_id, "events")), "events")
    for event in happened[shown:]:
        _show_event(event)
    return len(happened)


def _show_event(event: Mapping[str, Any]) -> None:
    what = event.get("status") or event.get("type") or event.get("message")
    say(f"{when(event.get('ts_ms'))}  {cell(what)}  {cell(event['data']) if event.get('data') else ''}".rstrip())


def _show_end(run: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(run)
    if run["status"] == "succeeded":
        return
    if not as_json:
        complain(f"run {run['run_id']} ended as {run['status']}. See `tunemill runs show {run['run_id']}`.")
    raise typer.Exit(1)


def _dataset(run: Mapping[str, Any]) -> str:
    return f"{run.get('name')}@v{run.get('version')}"
