"""`tunemill erase`: have logs forgotten everywhere, and get the receipt."""

import sys
import time
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.output import complain, print_json, safe, say, table, when

_POLL_S = 1.0
_RUNNING = "running"


def erase(
    *,
    log: Annotated[str | None, typer.Option("--log", metavar="ID", help="One log.")] = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", metavar="ID", help="Logs whose user, session or metadata.subject is this."),
    ] = None,
    query: Annotated[str | None, typer.Option("--query", metavar="Q", help="Logs that match this search.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Erase logs from every store, version and draft, and print the receipt. Exit code 0 only if it was verified.

    It cannot be taken back. Ctrl-C leaves it running; the same command shows it again.
    """
    named = {"log_id": log, "subject": subject, "query": query}
    wanted = {name: value for name, value in named.items() if value is not None}
    if len(wanted) != 1:
        raise typer.BadParameter("name one of --log, --subject and --query")
    with connect(url, key) as api:
        total = api.post("/erasures", {**wanted, "dry_run": True})["total"]
        if log is not None and not total:
            complain(
                f"the index has no log {safe(log)}: the other stores are looked through, and it is kept out should it come"
            )
        if not yes:
            _ask(total)
        expected = {"expected_total": total} if query is not None else {}
        receipt = _awaited(api, api.post("/erasures", {**wanted, **expected}), quiet=as_json)
    if as_json:
        print_json(receipt)
    else:
        _show(receipt)
    if receipt["status"] != "done" or not receipt["verified"]:
        raise typer.Exit(1)


def _ask(total: int) -> None:
    """Go on only if a person says so.

    Raises:
        typer.Exit: they did not, or nobody can be asked.
    """
    logs = f"{total} log{'' if total == 1 else 's'}"
    if not sys.stdin.isatty():
        complain(f"nothing was done: say --yes to erase {logs}, and whatever was made of them, for good")
        raise typer.Exit(2)
    if not typer.confirm(f"Erase {logs}, and whatever was made of them, for good?", err=True):
        raise typer.Exit(1)


def _awaited(api: Api, started: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """The request once it is over."""
    path, told, waited, now = at("erasures", started["request_id"]), 0, None, started
    try:
        while now["status"] == _RUNNING:
            if not quiet:
                if now["waits_for"] not in (None, waited):
                    say(f"waits for the erasure {now['waits_for']}: one is done at a time")
                waited = now["waits_for"]
                for step in now["steps"][told:]:
                    say(step)
            told = len(now["steps"])
            time.sleep(_POLL_S)
            now = api.get(path)
    except KeyboardInterrupt:
        complain("it goes on: the same command shows it again")
        raise typer.Exit(0) from None
    return now


def _show(receipt: dict[str, Any]) -> None:
    say(f"{receipt['status']}: erasure {receipt['request_id']} of {receipt['logs']} logs")
    if receipt["error"]:
        complain(receipt["error"])
    table(
        ("store", "removed", "kept until (UTC)", "note"),
        (
            (one["store"], str(one["removed"]), when(one["kept_until_ms"]), one["note"] or "")
            for one in receipt["stores"]
        ),
    )
    if receipt["versions"]:
        table(
            ("version", "revision", "rows removed", "digest"),
            (
                (f"{one['name']}@v{one['version']}", str(one["revision"]), str(one["rows_removed"]), one["digest"])
                for one in receipt["versions"]
            ),
        )
    if receipt["runs"]:
        table(
            ("run", "trained on", "status", "exposure", "in use as"),
            (
                (one["run_id"], f"{one['name']}@v{one['version']}", one["status"], one["exposure"], one["aliases"])
                for one in receipt["runs"]
            ),
        )
    say("verified: the index has none of them" if receipt["verified"] else "not verified")
