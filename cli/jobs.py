"""`tunemill jobs`: work on many logs, how far it is, and how it is stopped and taken back."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.output import complain, print_json, say, tell, when

_POLL_S = 1.0
_ACTIVE = ("running", "undoing")
_WELL = ("done", "undone")

JobId = Annotated[str, typer.Argument(metavar="JOB_ID")]

app = typer.Typer(help="Work on many logs: how far it is; stop it, take it back.", no_args_is_help=True)


@app.command("list")
def list_jobs(
    *,
    kind: Annotated[str | None, typer.Option(help="Only tags, consent, delete, rules, reindex or retention.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    with connect(url, key) as api:
        answer = api.get("/jobs", kind=kind)
    if as_json:
        print_json(answer)
        return
    for one in answer["jobs"]:  # two lines each: with the query beside it no table would fit a terminal
        say(f"{one['job_id']}  {when(one['created_ms'])}  {one['kind']:9}  {one['status']}")
        say(f"  {_counts(one)}" + (f": {one['query']}" if one["query"] else ""))
    if not answer["jobs"]:
        say("none")


@app.command("watch")
def watch(job_id: JobId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a job, or its undoing, until it ends. Exit code 0 only if it ended well. Ctrl-C leaves it running."""
    with connect(url, key) as api:
        follow(api, at("jobs", job_id), again=_again(job_id), as_json=as_json)


@app.command("cancel")
def cancel(job_id: JobId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Stop a job where it is. What it did so far stays, and can be undone if its kind can."""
    with connect(url, key) as api:
        answer = api.post(at("jobs", job_id, "cancel"))
    tell(answer, f"stopped; {progress(answer)}", as_json=as_json)


@app.command("undo")
def undo(job_id: JobId, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Take back what a job did, where nobody said anything else since."""
    with connect(url, key) as api:
        api.post(at("jobs", job_id, "undo"))
        follow(api, at("jobs", job_id), again=_again(job_id), as_json=as_json)


def follow(api: Api, path: str, *, again: str, as_json: bool) -> None:
    """Print how far the work at a path is until it ends, or with `as_json` its last state alone.

    Args:
        again: the command that shows it again.

    Raises:
        typer.Exit: it ended other than well.
    """
    shown = None
    try:
        while (now := api.get(path))["status"] in _ACTIVE:
            moved = [now.get(name) for name in ("status", "seen", "changed", "undone", "waits_for")]
            if not as_json and moved != shown:  # how fast it is changes all the time
                say(progress(now))
                shown = moved
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        complain(f"it goes on: `{again}` shows it again, `... cancel` stops it")
        raise typer.Exit(0) from None
    tell(now, f"{now['status']}: {progress(now)}", as_json=as_json)
    if not as_json and now.get("can_be_undone") and now["changed"] and now["status"] != "undone":
        say(f"`tunemill jobs undo {now['job_id']}` takes it back")
    if now["status"] not in _WELL:
        raise typer.Exit(1)


def progress(one: Mapping[str, Any]) -> str:
    """How far a job, or a backfill, is."""
    line = f"{one.get('job_id') or one['backfill_id']}: {_counts(one)}"
    if one["undone"] or one["status"] in ("undoing", "undone"):
        line += f", {one['undone']} of them taken back"
    if one["logs_per_s"]:
        line += f", {one['logs_per_s']:.0f} logs/s"
    if one["eta_s"]:
        line += f", {one['eta_s']:.0f} s left"
    if one.get("waits_for"):
        line += f", waits for {one['waits_for']}"
    return line + (f"; {one['error']['message']}" if one["error"] else "")


def _counts(one: Mapping[str, Any]) -> str:
    if one.get("kind") == "retention" and (result := one["result"]):
        before, after = (
            f"{result[end]['logs']} logs {end} ({result[end]['bytes']} bytes)" for end in ("before", "after")
        )
        where = (
            f"project {result['project']}: " if "project" in result else ""
        )  # runs of earlier versions do not say it
        return f"{where}{before}, {one['changed']} dropped, {after}"
    return f"{one['seen']} of {one['total']} logs, {one['changed']} changed"


def _again(job_id: str) -> str:
    return f"tunemill jobs watch {job_id}"
