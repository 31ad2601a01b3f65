"""`tunemill dlq`: the dead letters, records that could not be processed; look at them, and send them again."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.output import complain, fields, print_json, say, when

_LISTED_AT_ONCE = 10_000
_SENT_AT_ONCE = 100

Stage = Annotated[Literal["decode", "mask", "index"] | None, typer.Option("--stage", help="Only those of this stage.")]
Code = Annotated[str | None, typer.Option("--code", help="Only those with this error code, as in not_json.")]
Topic = Annotated[str | None, typer.Option("--topic", help="Only those that came from this topic.")]

app = typer.Typer(help="Look at records that could not be processed, and send them again.", no_args_is_help=True)


@app.command("list")
def list_letters(
    stage: Stage = None,
    code: Code = None,
    topic: Topic = None,
    limit: Annotated[int, typer.Option(help="How many to show, the newest first.", min=1, max=_LISTED_AT_ONCE)] = 20,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the newest dead letters, and how many there are of each kind."""
    with connect(url, key) as api:
        page = api.get("/rejected", limit=limit, stage=stage, error_code=code, topic=topic)
    if as_json:
        print_json(page)
        return
    for one in page["rejected"]:  # its reason is a sentence, for which a table has no room
        tries = f", {one['attempts']} times" if one["attempts"] > 1 else ""
        say(f"{one['rejected_id']}  {when(one['ts_ms'])}  {one['stage']} {one['error_code']}{tries}")
        say(f"    {one['reason']}")
    if not page["rejected"]:
        say("none")
    for kind in page["counts"]:
        say(f"{kind['count']} {kind['stage']} {kind['error_code']}")
    if page["older"]:
        say(f"{page['older']} older ones are listed once newer ones are sent again")


@app.command("show")
def show(
    rejected_id: Annotated[str, typer.Argument(metavar="ID")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: where the record lay, why it failed, how often, and its masked bytes."""
    with connect(url, key) as api:
        letter = api.get(at("rejected", rejected_id))
    if as_json:
        print_json(letter)
        return
    payload, encoding = letter.pop("payload"), letter.pop("payload_encoding")
    fields(letter)
    if payload is None:
        say("payload: not kept")
    else:
        say(f"payload ({encoding}):")
        say(payload)


@app.command("redrive")
def redrive(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which to send again.")] = None,
    stage: Stage = None,
    code: Code = None,
    topic: Topic = None,
    everything: Annotated[bool, typer.Option("--all", help="Send all of them again.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send records again to the topics that they came from. What is rejected again is listed with one attempt more.

    Exit code 1 if some could not be sent.
    """
    kind = {"stage": stage, "error_code": code, "topic": topic}
    ways = (bool(ids), any(value is not None for value in kind.values()), everything)
    if sum(ways) != 1:
        raise typer.BadParameter("name ids, or else --stage, --code or --topic, or else --all")
    counts = Counter[str](redriven=0, no_payload=0, not_found=0, not_reached=0)
    with connect(url, key) as api, _progress() as bar:
        task = bar.add_task("")
        for some in _chunks(list(dict.fromkeys(ids))) if ids else _all_of(api, kind, counts):
            counts.update(api.post("/rejected/redrive", {"ids": some}))
            bar.update(task, completed=counts["redriven"])
    if as_json:
        print_json(dict(counts))
    else:
        _say_end(counts)
    if counts["no_payload"] or counts["not_found"] or counts["not_reached"]:
        raise typer.Exit(1)


def _all_of(api: Api, kind: Mapping[str, str | None], counts: Counter[str]) -> Iterator[list[str]]:
    """The ids of all dead letters of a kind, some at a time, the newest first. One that is rejected again does not come again."""
    seen: set[str] = set()
    until_ms: int | None = None  # what is rejected again meanwhile is newer, and would hide the older ones
    while True:
        page = api.get("/rejected", limit=_LISTED_AT_ONCE, until_ms=until_ms, **kind)
        new = [one["rejected_id"] for one in page["rejected"] if one["rejected_id"] not in seen]
        if not new:
            break
        seen.update(new)
        yield from _chunks(new)
        until_ms = page["rejected"][-1]["ts_ms"]
    counts["not_reached"] = page["total"] - len(page["rejected"]) + page["older"]


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _SENT_AT_ONCE):
        yield [*ids[start : start + _SENT_AT_ONCE]]


def _progress() -> Progress:
    return Progress(TextColumn("{task.completed} sent again"), console=Console(stderr=True), transient=True)


def _say_end(counts: Mapping[str, int]) -> None:
    say(f"{counts['redriven']} sent again")
    if counts["no_payload"]:
        complain(f"{counts['no_payload']} could not be sent: neither the message nor its bytes are kept any more")
    if counts["not_found"]:
        complain(f"{counts['not_found']} are not there: no such dead letter, or sent again already")
    if counts["not_reached"]:
        complain(f"{counts['not_reached']} older ones were not reached: too many of the newer ones could not be sent")
