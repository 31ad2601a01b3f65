"""`tunemill feedback`: send a file of what people and programs thought of answers."""

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, connect
from tunemill.cli.ingest_file import Record, Unreadable, opened
from tunemill.cli.output import complain, print_json, say

_AT_ONCE = 1_000
_SHOWN_PROBLEMS = 10


def feedback(
    file: Annotated[
        str, typer.Argument(help="JSON lines, a JSON array or Parquet; plain, gzip or zstd; - for standard input.")
    ],
    *,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send a file of feedback, each a score, a label, a correction or a comment of a log, a response or a trace."""
    try:
        with connect(url, key) as api, opened(file) as source:
            counts = _send(api, source.records)
    except (OSError, Unreadable) as error:
        complain(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}")
        raise typer.Exit(2) from error
    if as_json:
        print_json(counts)
    else:
        say(f"{counts['accepted']} accepted, {len(counts['rejected'])} rejected")
        for one in counts["rejected"][:_SHOWN_PROBLEMS]:
            complain(f"record {one['record']}: {one['reason']}")
    if counts["rejected"]:
        raise typer.Exit(1)


def _send(api: Api, records: Iterable[Record]) -> dict[str, Any]:
    accepted, rejected = 0, []
    waiting = iter(records)
    while some := list(islice(waiting, _AT_ONCE)):
        answer = api.post_lines("/feedback", b"\n".join(record.value for record in some))
        accepted += answer["accepted"]
        rejected += [{"record": some[one["item"]].number, "reason": one["reason"]} for one in answer["rejected"]]
    return {"accepted": accepted, "rejected": rejected}
