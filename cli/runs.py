"""`tunemill runs`: follow training runs."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.output import cell, complain, fields, print_json, say, table, tell, when
from tunemill.curator_api.run_view import Score, forgotten, gates, plan, scores, slices
from tunemill.schemas.records import ENDED

_POLL_S = 2.0
_EVENTS_PAGE = 1000
_TABLES = ("plan", "result")  # shown as tables
_SCORE_COLUMNS = ("score", "on", "before", "after", "change", "95 %", "p", "rows")

RunId = Annotated[str, typer.Argument(metavar="RUN_ID")]

app = typer.Typer(help="Follow training runs.", no_args_is_help=True)


@app.command("list")
def list_runs(
    *,
    name: Annotated[str | None, typer.Option(help="Of this dataset.")] = None,
    status: Annotated[str | None, typer.Option(help="Of this status, such as failed.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the runs, the newest first."""
    with connect(url, key) as api:
        answer = api.get("/runs", name=name, status=status, cursor=cursor)
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
    if answer["cursor"]:
        say(f"more: --cursor {answer['cursor']}")


@app.command("show")
def show_run(run_id: RunId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show one run: what was settled, what it came to, what was lost, and what its gates said."""
    with connect(url, key) as api:
        run = api.get(at("runs", run_id))
    if as_json:
        print_json(run)
        return
    fields({name: value for name, value in run.items() if name not in _TABLES})
    result = run.get("result") or {}
    _table_of(
        ("settled", "value", "why"), [_row(one, "name", "value", "reason") for one in plan(run).get("derived", ())]
    )
    _table_of(_SCORE_COLUMNS, [_score(score) for score in scores(result)])
    _table_of(
        ("slice", "rows", "loss before", "after", "rise, 95 %"),
        [(f"{one.name}: {one.value}", one.rows, one.before, one.after, (one.low, one.high)) for one in slices(result)],
    )
    _table_of(("gate", "outcome", "why"), [(gate.name, gate.outcome, gate.why) for gate in gates(result)])
    for sentence in forgotten(result):
        say(sentence)


@app.command("compare")
def compare(
    a: RunId,
    b: Annotated[str, typer.Argument(metavar="OTHER_RUN_ID")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show two runs side by side: the knobs that differ, and what each came to."""
    with connect(url, key) as api:
        answer = api.get(at("runs", a, "compare", b))
    if as_json:
        print_json(answer)
        return
    table(
        ("", "a", "b"),
        [(name, answer["a"][name], answer["b"][name]) for name in ("run_id", "status", "name", "version", "seconds")],
    )
    if not answer["same_rows"]:
        complain("they were trained and measured on other rows: their scores say little about one another")
    _table_of(("knob", "a", "b"), [_row(one, "knob", "a", "b") for one in answer["recipe"]])
    columns = ("score", "on", "a", "b", "from a to b", "95 %", "better")
    _table_of(columns, [_difference(one) for one in answer["scores"]])


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
    tell(answer, f"{run_id} was asked to stop", as_json=as_json)


@app.command("resume")
def resume(run_id: RunId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Put a run that failed or was cancelled back into the queue; it goes on from its checkpoint while that is kept."""
    with connect(url, key) as api:
        answer = api.post(at("runs", run_id, "resume"))
    tell(answer, f"{run_id} waits for a trainer again", as_json=as_json)


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


def _score(score: Score) -> tuple[Any, ...]:
    interval = None if score.low is None else (score.low, score.high)
    return (score.name, score.on, score.before, score.after, score.change, interval, score.p, score.rows)


def _difference(one: Mapping[str, Any]) -> tuple[Any, ...]:
    interval = None if one["low"] is None else (one["low"], one["high"])
    better = one["better"] and one["better"].replace("_", " ")
    return (*_row(one, "name", "on", "a", "b", "change"), interval, better)


def _row(one: Mapping[str, Any], *members: str) -> tuple[Any, ...]:
    return tuple(one[member] for member in members)


def _table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table after an empty line; nothing where there are no rows."""
    if rows:
        say()
        table(columns, rows)
