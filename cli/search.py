"""`tunemill search`: look at what came in."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from tunemill.cli.output import cell, print_json, safe, say, say_text, when

_SHOWN_CHARACTERS = 300
_SHOWN_FACETS = 6


def search(
    query: Annotated[str, typer.Argument(help='As in: "long division" tag:topic:math -tag:pii:* model:gpt-4o*')] = "",
    *,
    limit: Annotated[int, typer.Option(help="How many logs to show.", min=1)] = 10,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    sort: Annotated[str, typer.Option(help="relevance or newest.")] = "relevance",
    everything: Annotated[
        bool, typer.Option("--all", help="Every log that matches, as it is kept, one JSON object a line.")
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Search the logs. Without a query: all of them."""
    with connect(url, key) as api:
        if everything:
            for some in api.stream("/search/export", q=query):
                sys.stdout.buffer.write(some)
            return
        page = api.get("/search", q=query, limit=limit, cursor=cursor, sort=sort)
    if as_json:
        print_json(page)
        return
    for hit in page["hits"]:
        _show_hit(hit)
    say(f"{page['total']} logs")
    for name, counts in page.get("facets", {}).items():
        _show_facet(name, counts)
    if page.get("cursor"):
        say(f"more: --cursor {page['cursor']}")


def _show_hit(hit: Mapping[str, Any]) -> None:
    head = (hit["log_id"], when(hit["ts_ms"]), hit.get("app"), hit.get("model"), cell(hit.get("tags") or None))
    say_text(Text(safe("  ".join(cell(part) for part in head)), style="bold"))
    fragments = hit.get("highlights") or [[[_start(hit), False]]]
    for fragment in fragments:
        say_text(_fragment(fragment))
    say()


def _start(hit: Mapping[str, Any]) -> str:
    """What to show of a hit whose match is not in its text."""
    text = "\n".join(str(hit[name]) for name in ("prompt", "answer") if hit.get(name))
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _fragment(pieces: list[Any]) -> Text:
    shown = Text("    ")
    for text, matched in pieces:
        shown.append(safe(text).replace("\n", "\n    "), style="bold yellow" if matched else None)
    return shown


def _show_facet(name: str, counts: list[Mapping[str, Any]]) -> None:
    if counts:
        shown = ", ".join(f"{count['value']} {count['count']}" for count in counts[:_SHOWN_FACETS])
        say(f"  {name}: {shown}{', …' if len(counts) > _SHOWN_FACETS else ''}")
