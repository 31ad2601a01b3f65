"""`tunemill tags`: label logs, learn a tag from the labels, see how good it is, put it in force."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.output import complain, print_json, say, table, tell

_LABELS_AT_ONCE = 200
_SHOWN_WORDS = 10
_NOT_A_LABEL = 'expected {"log_id": "...", "label": true} or false, of this tag'

Tag = Annotated[str, typer.Argument(help="The tag, as in topic:refund.")]
Version = Annotated[int | None, typer.Option("--version", help="Which version; the newest unless told.", min=1)]
LabelFile = Annotated[
    Path, typer.Argument(help='JSON lines {"log_id": "...", "label": true} or false; - for standard input.')
]

app = typer.Typer(help="Learn tags from labelled logs.", no_args_is_help=True)


@app.command("label")
def label(tag: Tag, file: LabelFile, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Say of logs whether they should have a tag. It is put on or taken off, and `tags learn` learns from it."""
    labels = _read(file, tag)
    with connect(url, key) as api:
        answer = _send(api, tag, labels)
    if as_json:
        print_json(answer)
    else:
        _tell_labelled(answer)
    if answer["missing"] and not answer["labelled"]:
        raise typer.Exit(1)


@app.command("learn")
def learn(
    tag: Tag,
    *,
    labels: Annotated[Path | None, typer.Option("--labels", help="Labels to send first, as for `tags label`.")] = None,
    precision: Annotated[float, typer.Option(help="How precise the tag should be at least.", max=1)] = 0.9,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Learn a tag from the logs that people put it on or took it off, and say how good it is. It is not in force yet."""
    given = None if labels is None else _read(labels, tag)
    with connect(url, key) as api:
        sent = None if given is None else _send(api, tag, given)
        answer = api.post("/learned-tags", {"tag": tag, "precision": precision})
    if as_json:
        print_json(answer)
        return
    if sent is not None:
        _tell_labelled(sent)
    if answer["missing"]:
        complain(f"{answer['missing']} labelled logs are not there any more")
    if answer["left_out"]:
        complain(f"{answer['left_out']} older labels are left out")
    _show(answer)


@app.command("evaluate")
def evaluate(
    tag: Tag,
    *,
    query: Annotated[str, typer.Option(help="Stored logs to try it on, as in `tunemill search`.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many logs, the oldest first.", min=1, max=10_000)] = 1_000,
    version: Version = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show how good a learned tag is on labels that were held out, and which stored logs would get it."""
    with connect(url, key) as api:
        answer = api.get(at("learned-tags", tag), version=version)
        wanted = {"query": query, "limit": limit, "version": answer["version"]}
        tried = api.post(at("learned-tags", tag, "dry-run"), wanted)
    if as_json:
        print_json({**answer, "dry_run": tried})
        return
    _show(answer)
    effect = tried["effect"]
    say(
        f"of {tried['looked_at']} stored logs {effect['added']['count']} would get the tag, "
        f"{effect['removed']['count']} would lose it, {effect['kept']['count']} keep it"
    )
    if effect["added"]["log_ids"]:
        say(f"  would get it: {', '.join(effect['added']['log_ids'])}")


@app.command("enable")
def enable(
    tag: Tag, *, version: Version = None, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """Let a learned tag be set on logs that come from now on."""
    with connect(url, key) as api:
        answer = api.post(at("learned-tags", tag, "enable"), {"version": version})
    told = (
        f"{tag} version {answer['in_force']} is in force. `tunemill rules backfill` sets it on the logs that are there."
    )
    tell(answer, told, as_json=as_json)


@app.command("disable")
def disable(tag: Tag, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Let a learned tag be set no longer."""
    with connect(url, key) as api:
        answer = api.post(at("learned-tags", tag, "disable"))
    told = f"{tag} is not set any more. `tunemill rules backfill` takes it off the logs that have it, but for people's."
    tell(answer, told, as_json=as_json)


@app.command("list")
def list_tags(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List the learned tags."""
    with connect(url, key) as api:
        answer = api.get("/learned-tags")
    if as_json:
        print_json(answer)
        return
    table(
        ("tag", "newest", "in force", "labels yes", "no", "precision", "recall"),
        (_summary(one) for one in answer["learned_tags"]),
    )


def _read(file: Path, tag: str) -> list[dict[str, Any]]:
    """The labels in a file; a line that is none, or that names another tag, ends the command before anything is sent."""
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        complain(f"{file} cannot be read: {error.strerror}")
        raise typer.Exit(2) from error
    labels = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        if (one := _label_in(line, tag)) is None:
            complain(f"{file}, line {number}: {_NOT_A_LABEL}; nothing was sent")
            raise typer.Exit(2)
        labels.append(one)
    return labels


def _label_in(line: bytes, tag: str) -> dict[str, Any] | None:
    try:
        one = json.loads(line)
    except ValueError:
        return None
    if not isinstance(one, dict) or not isinstance(one.get("log_id"), str) or not isinstance(one.get("label"), bool):
        return None
    if one.get("tag", tag) != tag:
        return None
    return {"log_id": one["log_id"], "label": one["label"]}


def _send(api: Api, tag: str, labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    answers = [
        api.post("/labels", {"labels": [{**one, "tag": tag} for one in labels[start : start + _LABELS_AT_ONCE]]})
        for start in range(0, len(labels), _LABELS_AT_ONCE)
    ]
    return {
        "labelled": sum(answer["labelled"] for answer in answers),
        "missing": [log_id for answer in answers for log_id in answer["missing"]],
    }


def _tell_labelled(answer: Mapping[str, Any]) -> None:
    say(f"{answer['labelled']} logs labelled")
    if answer["missing"]:
        complain(f"{len(answer['missing'])} logs are not there or were erased: {', '.join(answer['missing'][:10])}")


def _show(learned: Mapping[str, Any]) -> None:
    """What is known of a version of a learned tag."""
    report, wanted = learned["report"], learned["report"]["wanted_precision"]
    say(
        f"{learned['tag']} version {learned['version']}: learned from {report['yes']} logs that have it and {report['no']} "
        f"that do not, of {report['conversations']} conversations"
    )
    by = f"the best recall at a precision of {wanted:g}" if report["threshold_by"] == "precision" else "the best F1"
    say(f"threshold {learned['threshold']:.3g}, for {by}; on labels that were held out:")
    for line in _held_out(report["held_out"]):
        say(f"  {line}")
    table(("threshold", "precision", "recall", "tagged"), (tuple(point.values()) for point in report["curve"]))
    for name in ("for", "against"):
        words = [_word(word) for word in report[f"words_{name}"][:_SHOWN_WORDS]]
        say(f"words {name} it: {', '.join(words)}")
    precision = report["held_out"]["precision"]
    if precision is None or precision["share"] < wanted:
        complain(f"it is less precise than {wanted:g}: label more logs, above all such as it gets wrong")
    say(_whether_in_force(learned))


def _held_out(held_out: Mapping[str, Any]) -> Iterator[str]:
    if held_out["precision"] is None:
        yield "precision: no log got the tag"
    for name in ("precision", "recall", "false_alarms"):
        if (one := held_out[name]) is not None:
            right = held_out["fp" if name == "false_alarms" else "tp"]
            yield f"{name.replace('_', ' ')} {one['share']:.3f} ({one['low']:.2f} to {one['high']:.2f}): {right} of {one['of']}"


def _word(word: Mapping[str, Any]) -> str:
    return f"{word['word']} {word['weight']:+.1f}" + ("" if word["part"] == "user" else f" ({word['part']})")


def _whether_in_force(learned: Mapping[str, Any]) -> str:
    if learned["in_force"] is None:
        return f"not in force; `tunemill tags enable {learned['tag']}` puts it in force"
    return f"version {learned['in_force']} is in force"


def _summary(one: Mapping[str, Any]) -> tuple[Any, ...]:
    report = one["report"]
    precision = report["held_out"]["precision"]
    return (
        one["tag"],
        one["version"],
        one["in_force"],
        report["yes"],
        report["no"],
        precision and precision["share"],
        report["held_out"]["recall"]["share"],
    )
