"""`tunemill logs`: look at one log, tag it, correct it, take that back, delete it."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, at, connect
from tunemill.cli.output import cell, complain, fields, print_json, safe, say, say_text, table, tell, when

LogId = Annotated[str, typer.Argument(metavar="ID", help="The log, as `tunemill search` lists it.")]
Why = Annotated[str | None, typer.Option("--why", help="Why, for whoever looks at the log's history.")]
Seen = Annotated[
    int | None,
    typer.Option("--revision", help="The revision that you saw: whoever edited the log since is not overruled.", min=0),
]

_FACTS = ("app", "model", "provider", "status", "language", "session_id", "trace_id", "consent", "tags")
_AS_IT_CAME = "as-it-came"
_CONSENTS = ("train", "eval_only", "none", _AS_IT_CAME)

app = typer.Typer(help="Look at one log, tag it, correct it, take that back, delete it.", no_args_is_help=True)


@app.command("show")
def show(log_id: LogId, *, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show a log as people edited it, what was said about it, and who did what to it."""
    with connect(url, key) as api:
        log = api.get(at("logs", log_id))
    if as_json:
        print_json(log)
        return
    say_text(Text(safe(f"{log['log_id']}  {when(log['ts_ms'])}"), style="bold"))
    fields({name: log[name] for name in _FACTS if log[name]})
    for message in (*log["messages"], *log["output"]):
        _show_message(message)
    for item in log["feedback"]:
        said = (item["name"], item["score"], item["label"], item["comment"], item["correction"])
        say(f"feedback: {'  '.join(cell(part) for part in said if part is not None)}")
    if log["edits"]:
        say(f"revision {log['revision']}" + (", in place of what came" if log["original"] else ""))
        rows = ((f"r{one['revision']}", _did(one), one["by"], when(one["ts_ms"]), one["why"]) for one in log["edits"])
        table(("revision", "what", "who", "when", "why"), rows)
        if (earlier := log["revision"] - len(log["edits"])) > 0:
            say(f"and {earlier} earlier")


@app.command("tag")
def tag(
    log_id: LogId,
    *,
    add: Annotated[list[str] | None, typer.Option("--add", help="A tag to put on, as in topic:refund.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="A tag to take off.")] = None,
    why: Why = None,
    revision: Seen = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Put tags on a log and take tags off it, for good: no rule undoes it."""
    if not add and not remove:
        complain("say which tags: --add TAG, --remove TAG or both")
        raise typer.Exit(2)
    wanted = {"add": add or [], "remove": remove or [], "why": why, "expected_revision": revision}
    with connect(url, key) as api:
        answer = api.post(at("logs", log_id, "tags"), wanted)
    tell(answer, f"tags of {log_id}: {cell(answer['tags'] or None)}", as_json=as_json)


@app.command("edit")
def edit(
    log_id: LogId,
    *,
    answer: Annotated[str | None, typer.Option(help="Put this in place of the (first) answer.")] = None,
    messages: Annotated[
        Path | None,
        typer.Option(
            help="A JSON file with `messages`, `output` or both, as `logs show --json` gives them; - for standard input."
        ),
    ] = None,
    why: Why = None,
    revision: Seen = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Correct a log's messages or answer. What came is kept, and every revision."""
    if (answer is None) == (messages is None):
        complain("say what the log becomes: either --answer TEXT or --messages FILE")
        raise typer.Exit(2)
    given = None if messages is None else _read(messages)
    with connect(url, key) as api:
        if given is None:
            log = api.get(at("logs", log_id))
            given = {
                "output": [{"role": "assistant", "content": answer}, *log["output"][1:]],
                "revision": log["revision"],
            }
        seen = given.get("revision") if revision is None else revision
        wanted: dict[str, Any] = {"why": why, "expected_revision": seen}
        wanted |= {name: given[name] for name in ("messages", "output") if name in given}
        changed = api.patch(at("logs", log_id), wanted)
    tell(changed, f"{log_id} is at revision {changed['revision']}", as_json=as_json)


@app.command("consent")
def consent(
    log_id: LogId,
    word: Annotated[str, typer.Argument(metavar="CONSENT", help=f"{', '.join(_CONSENTS[:-1])} or {_AS_IT_CAME}.")],
    *,
    why: Why = None,
    revision: Seen = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say what a log may be used for, whatever its sender said."""
    if word not in _CONSENTS:
        complain(f"the consent must be one of {', '.join(_CONSENTS)}")
        raise typer.Exit(2)
    wanted = {"consent": None if word == _AS_IT_CAME else word, "why": why, "expected_revision": revision}
    with connect(url, key) as api:
        changed = api.patch(at("logs", log_id), wanted)
    tell(changed, f"consent of {log_id}: {changed['consent'] or 'not stated'}", as_json=as_json)


@app.command("revert")
def revert(
    log_id: LogId,
    *,
    to: Annotated[
        int, typer.Option("--to", help="The revision whose messages the log is to have; 0: as it came.", min=0)
    ] = 0,
    why: Why = None,
    revision: Seen = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give a log the messages and the answer again that it had before. Tags and consent stay."""
    with connect(url, key) as api:
        changed = api.post(at("logs", log_id, "revert"), {"revision": to, "why": why, "expected_revision": revision})
    told = (
        f"{log_id} says what it said {f'at revision {to}' if to else 'when it came'}, at revision {changed['revision']}"
    )
    tell(changed, told, as_json=as_json)


@app.command("delete")
def delete(
    log_id: LogId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have a log forgotten: gone from search, kept out of every replay and dataset. It cannot be taken back."""
    if not yes:
        typer.confirm(f"Have {safe(log_id)} forgotten for good?", abort=True, err=True)
    with connect(url, key) as api:
        answer = api.delete(at("logs", log_id))
    told = f"{log_id} is forgotten" if answer["found"] else f"{log_id} is not there; if it comes, it is forgotten"
    tell(answer, told, as_json=as_json)


def _show_message(message: Mapping[str, Any]) -> None:
    say_text(Text(message["role"], style="bold"))
    for text in (message["content"], message["refusal"]):
        if text:
            say("    " + text.replace("\n", "\n    "))
    for call in message["tool_calls"]:
        say(f"    calls {call['name']} {call['arguments']}")
    if message["parts"] and not message["content"]:
        say(f"    {len(message['parts'])} parts that are no text")


def _did(one: Mapping[str, Any]) -> str:
    """What an edit did, in a word or two."""
    if one["kind"] == "messages":
        return "messages as they came" if one["as_it_came"] else "messages"
    return f"{one['kind']} {one['tag'] or one['value'] or _AS_IT_CAME}"


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    except OSError as error:
        complain(f"{file} cannot be read: {error.strerror}")
        raise typer.Exit(2) from error
    except ValueError as error:
        complain(f"{file} is not JSON")
        raise typer.Exit(2) from error
    if not isinstance(value, dict) or not {"messages", "output"} & set(value):
        complain(f"{file} must hold an object with `messages`, `output` or both; nothing was sent")
        raise typer.Exit(2)
    return value
